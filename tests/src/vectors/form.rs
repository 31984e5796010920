//! What can be wrong with the form of a token and with its header.

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use shared::token::{TOKEN_BYTES_MAX, TokenError};

use super::{Forge, Table, encode, es256, with};

pub(super) fn add(table: &mut Table<'_>) {
    types(table);
    algorithms(table);
    compact_form(table);
    encodings(table);
    duplicates(table);
    critical(table);
    keys_of_the_token(table);
    key_ids(table);
    shapes(table);
    sizes(table);
}

fn types(table: &mut Table<'_>) {
    let forge = table.forge;
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        table.counts("TOK-01", typ, forge.with_header("typ", Some(json!(typ))));
    }
    for typ in ["JWT", "", " at+jwt", "at+jwt;v=1", "application/application/at+jwt", "application/jwt"] {
        table.refused("TOK-01", typ, forge.with_header("typ", Some(json!(typ))), TokenError::Type);
    }
    for typ in [None, Some(Value::Null), Some(json!(["at+jwt"]))] {
        let name = format!("{typ:?}");
        table.refused("TOK-01", name, forge.with_header("typ", typ), TokenError::Malformed);
    }
    for typ in ["dpop+jwt", "secevent+jwt", "logout+jwt", "statuslist+jwt", "dbsc+jwt"] {
        table.refused("TOK-18", typ, forge.with_header("typ", Some(json!(typ))), TokenError::Type);
    }
    table.counts("TOK-18", "an access token", forge.good());
}

fn algorithms(table: &mut Table<'_>) {
    let forge = table.forge;
    table.counts("TOK-02", "Ed25519", forge.good());
    for alg in ["none", "None", "nOnE", "RS256", "PS256", "ES384", "HS256", "HS512", ""] {
        let token = forge.with_header("alg", Some(json!(alg)));
        table.refused("TOK-02", format!("{alg}, well signed"), token, TokenError::Algorithm);
    }
    let unsigned = forge.with_header("alg", Some(json!("none")));
    let unsigned = unsigned.rsplit_once('.').map_or_else(String::new, |(signed, _)| format!("{signed}."));
    table.refused("TOK-02", "none, unsigned", unsigned, TokenError::Algorithm);
    let public = forge.ed25519.public_key().as_ref();
    let pem = "-----BEGIN PUBLIC KEY-----\n".to_owned() + &encode(public) + "\n-----END PUBLIC KEY-----\n";
    for (name, secret) in [("bytes", public.to_vec()), ("x", encode(public).into_bytes()), ("PEM", pem.into_bytes())] {
        let token = by_hmac(forge, &secret);
        table.refused("TOK-02", format!("HS256 keyed with the public key, {name}"), token, TokenError::Algorithm);
    }
    for alg in [None, Some(Value::Null), Some(json!(7)), Some(json!(["Ed25519"]))] {
        let name = format!("{alg:?}");
        table.refused("TOK-02", name, forge.with_header("alg", alg), TokenError::Malformed);
    }
    table.counts("TOK-03", "Ed25519 with its key", forge.good());
    for alg in ["ed25519", "ED25519", "eddsa", "es256", "Ed448"] {
        table.refused("TOK-03", alg, forge.with_header("alg", Some(json!(alg))), TokenError::Algorithm);
    }
    table.refused(
        "TOK-03",
        "ES256, the key is Ed25519",
        forge.with_header("alg", Some(json!("ES256"))),
        TokenError::Algorithm,
    );
    table.counts("TOK-04", "EdDSA", forge.with_header("alg", Some(json!("EdDSA"))));
    table.refused("TOK-04", "Ed25519ph", forge.with_header("alg", Some(json!("Ed25519ph"))), TokenError::Algorithm);
    if let Some(key) = &forge.es256 {
        for (alg, kid, why) in [
            ("ES256", "es", None),
            ("EdDSA", "es", Some(TokenError::Algorithm)),
            ("ES256", forge.kid.as_str(), Some(TokenError::Algorithm)),
        ] {
            let header = json!({ "typ": "at+jwt", "alg": alg, "kid": kid }).to_string();
            let text = format!("{}.{}", encode(header), encode(forge.claims.to_string()));
            let token = format!("{text}.{}", encode(es256(key, &text)));
            let name = format!("by the ES256 key, as {alg} of {kid}");
            match why {
                None => table.counts("TOK-03", name, token),
                Some(why) => table.refused("TOK-03", name, token, why),
            }
        }
    }
}

fn by_hmac(forge: &Forge, secret: &[u8]) -> String {
    let header = with(forge.header(), "alg", Some(json!("HS256"))).to_string();
    let text = format!("{}.{}", encode(header), encode(forge.claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", encode(tag))
}

fn compact_form(table: &mut Table<'_>) {
    let good = table.forge.good();
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else { return };
    table.counts("TOK-05", "two dots", good.clone());
    for (name, token) in [
        ("no dot", format!("{header}{payload}{signature}")),
        ("one dot", format!("{header}.{payload}")),
        ("three dots", format!("{good}.{signature}")),
        ("four dots", format!("{good}.{payload}.{signature}")),
        ("a dot before", format!(".{good}")),
        ("a dot behind", format!("{good}.")),
        ("two dots between", format!("{header}.{payload}..{signature}")),
        ("no header", format!(".{payload}.{signature}")),
        ("dots alone", "..".to_owned()),
        ("JSON serialization", json!({ "protected": header, "payload": payload, "signature": signature }).to_string()),
    ] {
        table.refused("TOK-05", name, token, TokenError::Malformed);
    }
    table.refused("TOK-05", "no signature", format!("{header}.{payload}."), TokenError::Signature);
    table.refused("TOK-05", "no payload", format!("{header}..{signature}"), TokenError::Signature);
    // RFC 7516 §7.1: five parts, with a header of its own.
    let encrypted =
        encode(json!({ "alg": "dir", "enc": "A256GCM", "typ": "at+jwt", "kid": table.forge.kid }).to_string());
    table.refused(
        "TOK-19",
        "a JWE",
        format!("{encrypted}..{}.{}.{}", encode([1; 12]), encode([2; 40]), encode([3; 16])),
        TokenError::Algorithm,
    );
    table.refused(
        "TOK-19",
        "a JWE around a good header",
        format!("{header}..AA.AA.{signature}"),
        TokenError::Malformed,
    );
    table.counts("TOK-19", "a JWS", good);
}

/// A text in base64url whose last character holds bits that belong to no byte.
fn with_trailing_bits(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (kept, last) = text.split_at(text.len().saturating_sub(1));
    let at = ALPHABET.iter().position(|known| last.as_bytes() == [*known]).unwrap_or_default();
    format!("{kept}{}", char::from(*ALPHABET.get(at | 1).unwrap_or(&b'_')))
}

fn encodings(table: &mut Table<'_>) {
    let forge = table.forge;
    // With this many bytes the last character has bits to spare.
    let padded = |mut text: String| {
        text.push_str(&" ".repeat((4 - text.len() % 3) % 3));
        text
    };
    let (header, payload) = (encode(padded(forge.header().to_string())), encode(padded(forge.claims.to_string())));
    let good = forge.signed(&format!("{header}.{payload}"));
    let signature = good.rsplit('.').next().unwrap_or_default().to_owned();
    table.counts("TOK-06", "bits to spare are zero", good.clone());
    for (name, changed) in [
        ("in the header", format!("{}.{payload}", with_trailing_bits(&header))),
        ("in the payload", format!("{header}.{}", with_trailing_bits(&payload))),
    ] {
        table.refused("TOK-06", format!("bits to spare {name}"), forge.signed(&changed), TokenError::Malformed);
    }
    let spare = with_trailing_bits(&signature);
    table.refused(
        "TOK-06",
        "bits to spare in the signature",
        format!("{header}.{payload}.{spare}"),
        TokenError::Malformed,
    );
    for junk in ["=", "==", "%3D", "+", "/", "\t", " "] {
        for (part, changed) in
            [("header", format!("{header}{junk}.{payload}")), ("payload", format!("{header}.{payload}{junk}"))]
        {
            let name = format!("{junk:?} at the end of the {part}");
            table.refused("TOK-06", name, forge.signed(&changed), TokenError::Malformed);
        }
        let (start, end) = good.split_at(good.len() - 1);
        let name = format!("{junk:?} in the signature");
        table.refused("TOK-06", name, format!("{start}{junk}{end}"), TokenError::Malformed);
    }
    table.refused("TOK-06", "\"=\" at the end of the signature", format!("{good}="), TokenError::Malformed);
    for (name, header) in [
        ("a byte order mark", [b"\xef\xbb\xbf", forge.header().to_string().as_bytes()].concat()),
        ("UTF-16", forge.header().to_string().encode_utf16().flat_map(u16::to_be_bytes).collect()),
        ("UTF-32", forge.header().to_string().chars().flat_map(|c| u32::from(c).to_be_bytes()).collect()),
    ] {
        let token = forge.token(header, forge.claims.to_string());
        table.refused("TOK-17", format!("a header in {name}"), token, TokenError::Malformed);
    }
}

fn duplicates(table: &mut Table<'_>) {
    let forge = table.forge;
    table.counts("TOK-07", "every member once", forge.good());
    for (name, value) in [("alg", json!("none")), ("alg", json!("Ed25519")), ("kid", json!("x")), ("typ", json!("JWT"))]
    {
        let twice = forge.header().to_string().replacen('{', &format!("{{\"{name}\":{value},"), 1);
        let token = forge.token(&twice, forge.claims.to_string());
        table.refused("TOK-07", format!("{name} twice, first {value}"), token, TokenError::Malformed);
    }
    let claims = forge.claims.to_string();
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "sid", "ver"] {
        let first = forge.claims.get(name).cloned().unwrap_or_default();
        let escaped = format!("\\u{:04x}{}", name.as_bytes().first().unwrap_or(&0), name.get(1..).unwrap_or_default());
        for spelled in [name, &escaped] {
            let twice = claims.replacen('{', &format!("{{\"{spelled}\":{first},"), 1);
            let token = forge.token(forge.header().to_string(), twice);
            table.refused("TOK-07", format!("{spelled} twice"), token, TokenError::Claims);
        }
    }
}

fn critical(table: &mut Table<'_>) {
    let forge = table.forge;
    table.counts("TOK-08", "an unknown member", forge.with_header("http://example.com/x", Some(json!(true))));
    for crit in [json!(["b64"]), json!(["exp"]), json!(["alg"]), json!([]), json!([""]), json!("b64"), json!(null)] {
        let name = crit.to_string();
        table.refused("TOK-08", name, forge.with_header("crit", Some(crit)), TokenError::Critical);
    }
    // RFC 7515, appendix E: the extension is there.
    let header = with(forge.header(), "crit", Some(json!(["http://example.invalid/UNDEFINED"])));
    let header = with(header, "http://example.invalid/UNDEFINED", Some(json!(true))).to_string();
    let token = forge.token(header, forge.claims.to_string());
    table.refused("TOK-08", "an extension that is there", token, TokenError::Critical);
}

fn keys_of_the_token(table: &mut Table<'_>) {
    let forge = table.forge;
    let Ok(attacker) = Ed25519KeyPair::from_seed_unchecked(&[66; 32]) else { return };
    let x = encode(attacker.public_key());
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": forge.kid });
    for (name, value) in
        [("jwk", jwk), ("jku", json!(forge.elsewhere)), ("x5u", json!(forge.elsewhere)), ("x5c", json!([x]))]
    {
        table.counts("TOK-09", format!("{name} beside a good signature"), forge.with_header(name, Some(value.clone())));
        let header = with(forge.header(), name, Some(value)).to_string();
        let text = format!("{}.{}", encode(header), encode(forge.claims.to_string()));
        let token = format!("{text}.{}", encode(attacker.sign(text.as_bytes())));
        table.refused("TOK-09", format!("{name} of the one who signed"), token, TokenError::Signature);
    }
}

fn key_ids(table: &mut Table<'_>) {
    let forge = table.forge;
    table.counts("TOK-10", "the kid of the key", forge.good());
    let long = "k".repeat(300);
    for kid in ["", "other", "../es", "a\u{0}", "' OR '1'='1", "*)(uid=*", "\r\n*1\r\n$8\r\nFLUSHALL\r\n", &long] {
        table.refused("TOK-10", kid, forge.with_header("kid", Some(json!(kid))), TokenError::UnknownKey);
    }
    let cut = forge.kid.get(1..).unwrap_or_default();
    table.refused("TOK-10", "a part of it", forge.with_header("kid", Some(json!(cut))), TokenError::UnknownKey);
    for kid in [None, Some(Value::Null), Some(json!([forge.kid])), Some(json!({})), Some(json!(0))] {
        let name = format!("{kid:?}");
        table.refused("TOK-10", name, forge.with_header("kid", kid), TokenError::Malformed);
    }
    let huge = forge.with_header("kid", Some(json!("k".repeat(10_000))));
    table.refused("TOK-10", "ten kilobytes", huge, TokenError::TooLarge);
}

/// RFC 7515 §5.2: a header is a JSON object.
fn shapes(table: &mut Table<'_>) {
    let forge = table.forge;
    for header in [
        json!(["Ed25519", forge.kid, "at+jwt"]).to_string(),
        json!([forge.header()]).to_string(),
        "null".to_owned(),
        forge.header().to_string() + "{}",
        forge.header().to_string().replace('"', "'"),
    ] {
        let token = forge.token(&header, forge.claims.to_string());
        table.refused("TOK-17", format!("a header of the form {header:.12}"), token, TokenError::Malformed);
    }
    let spaced = format!(" \t\r\n{} ", forge.header());
    table.counts("TOK-17", "white space around the header", forge.token(spaced, forge.claims.to_string()));
}

fn sizes(table: &mut Table<'_>) {
    let forge = table.forge;
    let long = |bytes: usize| {
        let header = forge.header().to_string();
        let token = |pad: usize, spaces: usize| {
            let claims = with(forge.claims.clone(), "pad", Some(json!("p".repeat(pad)))).to_string();
            forge.token(header.clone() + &" ".repeat(spaces), claims)
        };
        // Not every length can be had by padding the claims alone.
        let start = (bytes.saturating_sub(token(0, 0).len())) * 3 / 4;
        let tries = (start.saturating_sub(8)..start + 8).flat_map(|pad| (0..4).map(move |spaces| (pad, spaces)));
        tries.map(|(pad, spaces)| token(pad, spaces)).find(|token| token.len() == bytes).unwrap_or_default()
    };
    table.counts("I8", "as long as may be", long(TOKEN_BYTES_MAX));
    table.refused("I8", "one byte longer", long(TOKEN_BYTES_MAX + 1), TokenError::TooLarge);
    table.refused("I8", "much longer", long(TOKEN_BYTES_MAX * 6), TokenError::TooLarge);
}
