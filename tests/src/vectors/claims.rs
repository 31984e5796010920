//! What can be wrong with the claims of a token that is well signed.

use serde_json::{Value, json};
use shared::token::TokenError;

use super::Table;

/// More than any clock skew that is allowed, in seconds; less than a good token lives.
const AHEAD_S: u64 = 120;

pub(super) fn add(table: &mut Table<'_>) {
    issuer_and_audience(table);
    times(table);
    required(table);
    texts(table);
    kinds(table);
}

fn issuer_and_audience(table: &mut Table<'_>) {
    let forge = table.forge;
    let text = |name: &str| forge.claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (iss, aud) = (text("iss"), text("aud"));
    table.counts("TOK-11", "the issuer", forge.with_claim("iss", Some(json!(iss))));
    for other in
        [format!("{iss}/"), iss.to_uppercase(), format!("{iss} "), String::new(), "https://evil.example".into()]
    {
        table.refused("TOK-11", other.clone(), forge.with_claim("iss", Some(json!(other))), TokenError::Issuer);
    }
    table.refused("TOK-11", "a list", forge.with_claim("iss", Some(json!([iss]))), TokenError::Claims);
    for good in [json!(aud), json!([aud]), json!(["other", aud]), json!([aud, "other", aud])] {
        table.counts("TOK-12", good.to_string(), forge.with_claim("aud", Some(good.clone())));
    }
    for bad in [
        json!("other"),
        json!(["other"]),
        json!([]),
        json!(""),
        json!(format!("{aud} ")),
        json!(format!("{aud} other")),
    ] {
        table.refused("TOK-12", bad.to_string(), forge.with_claim("aud", Some(bad.clone())), TokenError::Audience);
    }
    for bad in [json!(7), json!(null), json!({ "aud": aud }), json!([aud, 7]), json!([[aud]])] {
        table.refused("TOK-12", bad.to_string(), forge.with_claim("aud", Some(bad.clone())), TokenError::Claims);
    }
    table.refused("TOK-12", "missing", forge.with_claim("aud", None), TokenError::Claims);
}

fn times(table: &mut Table<'_>) {
    let forge = table.forge;
    let now = forge.now;
    for exp in [now + AHEAD_S, u64::MAX] {
        table.counts("TOK-13", format!("exp {exp}"), forge.with_claim("exp", Some(json!(exp))));
    }
    for exp in [now, now - 1, 0] {
        let name = format!("exp {exp}, now is {now}");
        table.refused("TOK-13", name, forge.with_claim("exp", Some(json!(exp))), TokenError::Expired);
    }
    let later = now + AHEAD_S;
    for exp in [json!(later.to_string()), json!(-1), json!(null), json!([later]), json!(true)] {
        table.refused("TOK-13", format!("exp {exp}"), forge.with_claim("exp", Some(exp.clone())), TokenError::Claims);
    }
    // What JSON can say and no JSON value of a library can hold.
    for exp in ["1e400", "NaN", "Infinity", "-0", "18446744073709551616", "0x7fffffff", "1.8e9", "4102444800.5"] {
        let claims = forge.with_text_claim("exp", exp);
        table.refused("TOK-13", format!("exp {exp}"), claims, TokenError::Claims);
    }
    for nbf in [now, now - AHEAD_S, 0] {
        table.counts("TOK-14", format!("nbf {nbf}"), forge.with_claim("nbf", Some(json!(nbf))));
    }
    table.refused("TOK-14", "nbf ahead", forge.with_claim("nbf", Some(json!(now + AHEAD_S))), TokenError::NotYetValid);
    table.refused("TOK-14", "nbf far ahead", forge.with_claim("nbf", Some(json!(u64::MAX))), TokenError::NotYetValid);
    for nbf in [json!(now.to_string()), json!(-1), json!(0.5)] {
        table.refused("TOK-14", format!("nbf {nbf}"), forge.with_claim("nbf", Some(nbf.clone())), TokenError::Claims);
    }
    for iat in [now, now - AHEAD_S, 0] {
        table.counts("TOK-15", format!("iat {iat}"), forge.with_claim("iat", Some(json!(iat))));
    }
    table.refused("TOK-15", "iat ahead", forge.with_claim("iat", Some(json!(now + AHEAD_S))), TokenError::NotYetValid);
}

fn required(table: &mut Table<'_>) {
    let forge = table.forge;
    for name in ["exp", "iat", "jti", "sub", "client_id", "iss", "sid", "ver"] {
        let id = if name == "exp" { "TOK-13" } else { "TOK-15" };
        table.refused(id, format!("without {name}"), forge.with_claim(name, None), TokenError::Claims);
        for wrong in [json!(null), json!({}), json!([1])] {
            let token = forge.with_claim(name, Some(wrong.clone()));
            table.refused(id, format!("{name} is {wrong}"), token, TokenError::Claims);
        }
    }
    for (name, wrong) in [
        ("sub", json!(7)),
        ("sub", json!("")),
        ("jti", json!(7)),
        ("client_id", json!(true)),
        ("sid", json!("short")),
        ("ver", json!([1, 1, 1])),
        ("ver", json!([1, 1, 1, -1])),
        ("ver", json!("1.1.1.1")),
        ("roles", json!("admin")),
        ("roles", json!([7])),
        ("scope", json!(["read"])),
        ("auth_time", json!("now")),
    ] {
        let token = forge.with_claim(name, Some(wrong.clone()));
        table.refused("TOK-15", format!("{name} is {wrong}"), token, TokenError::Claims);
    }
    let member = |name: &str| forge.claims.get(name).cloned().unwrap_or_default();
    // In the order in which some readers would take them.
    let names = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "sid", "tid", "ver"];
    let in_order = Value::from_iter(names.map(member).into_iter().chain([
        json!([]),
        json!(null),
        json!(null),
        json!([]),
        json!(null),
    ]));
    for payload in [
        in_order.to_string(),
        json!([forge.claims]).to_string(),
        "null".into(),
        "\"text\"".into(),
        String::new(),
        "{".into(),
    ] {
        let token = forge.token(forge.header().to_string(), &payload);
        table.refused("TOK-15", format!("claims that are {payload:.9}"), token, TokenError::Claims);
    }
}

fn texts(table: &mut Table<'_>) {
    let forge = table.forge;
    table.counts("TOK-17", "UTF-8", forge.with_claim("note", Some(json!("Zoë 🙂"))));
    let claims = forge.claims.to_string();
    let with_bytes = |bytes: &[u8]| {
        let text = claims.replacen('{', "{\"note\":\"@\",", 1);
        let (before, after) = text.split_once('@').unwrap_or_default();
        [before.as_bytes(), bytes, after.as_bytes()].concat()
    };
    for (name, payload) in [
        ("a byte order mark", [b"\xef\xbb\xbf", claims.as_bytes()].concat()),
        ("an overlong form", with_bytes(b"\xc0\xaf")),
        ("a surrogate", with_bytes(b"\xed\xa0\x80")),
        ("a lone byte of a sequence", with_bytes(b"\x80")),
        ("a character that is cut off", with_bytes(b"\xf0\x9f\x99")),
        ("a control character in a text", with_bytes(b"\x00")),
        ("something behind", [claims.as_bytes(), b"{}"].concat()),
    ] {
        table.refused("TOK-17", name, forge.token(forge.header().to_string(), payload), TokenError::Claims);
    }
}

/// Other kinds of JWT that the same key could have signed, said to be access tokens.
fn kinds(table: &mut Table<'_>) {
    let forge = table.forge;
    let (iss, aud, now) = (&forge.claims["iss"], &forge.claims["aud"], forge.now);
    let logout = "http://schemas.openid.net/event/backchannel-logout";
    let revoked = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
    for (name, claims) in [
        (
            "a logout token",
            json!({ "iss": iss, "aud": aud, "iat": now, "exp": now + 120, "jti": "l", "sub": "alice", "events": { logout: {} } }),
        ),
        ("a security event", json!({ "iss": iss, "aud": aud, "iat": now, "jti": "s", "events": { revoked: {} } })),
        ("a DPoP proof", json!({ "htm": "GET", "htu": "https://app.example/", "iat": now, "jti": "d" })),
        ("a status list", json!({ "sub": iss, "iat": now, "status_list": { "bits": 1, "lst": "eNrbuRgAAhcBXQ" } })),
        (
            "an ID token",
            json!({ "iss": iss, "aud": aud, "sub": "alice", "iat": now, "exp": now + 120, "nonce": "n", "auth_time": now }),
        ),
    ] {
        table.refused("TOK-18", name, forge.token(forge.header().to_string(), claims.to_string()), TokenError::Claims);
    }
}
