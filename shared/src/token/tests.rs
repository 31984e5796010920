use std::{cell::RefCell, format, string::String, vec};

use aws_lc_rs::{
    encoding::AsBigEndian as _,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};

use super::*;
use crate::{keys::PublicKey, revocation::Floor};

pub(crate) const NOW: u64 = 1_800_000_000;
const EXPECTED: Expected<'_> = Expected { issuer: "https://id.example", audience: "https://app.example" };

struct AwsLc;

impl VerifySignature for AwsLc {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let key = match key {
            PublicKey::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, key.as_slice()),
            PublicKey::Es256(key) => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key.as_slice()),
        };
        key.verify(message, signature).is_ok()
    }
}

fn ed25519() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn es256() -> EcdsaKeyPair {
    let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).unwrap()
}

fn keys() -> KeySet {
    let key: [u8; 32] = ed25519().public_key().as_ref().try_into().unwrap();
    KeySet::new([("ed".into(), PublicKey::Ed25519(key))]).unwrap()
}

fn header() -> Value {
    json!({"alg": "Ed25519", "typ": "at+jwt", "kid": "ed"})
}

fn claims() -> Value {
    json!({
        "iss": EXPECTED.issuer, "sub": "alice", "aud": EXPECTED.audience, "exp": NOW + 300, "iat": NOW, "jti": "j",
        "client_id": "web", "sid": "AAAAAAAAAAAAAAAAAAAAAA", "tid": "acme", "ver": [1, 2, 3, 4], "roles": ["admin"],
    })
}

fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn signed(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
    let signature = encode(ed25519().sign(signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}

/// As the token is read by itself, which is as it is read after any other one, and after itself.
fn verify(text: &str) -> Result<AccessToken, TokenError> {
    std::thread_local!(static BEFORE: RefCell<Before> = RefCell::default());
    let alone = AccessToken::verify(text, &keys(), &AwsLc, EXPECTED);
    BEFORE.with_borrow_mut(|before| {
        let other = with_tenant("other");
        for text in [text, text, &other, text] {
            let after = AccessToken::verify_after(text, before, &keys(), &AwsLc, EXPECTED);
            assert_eq!(after == alone, text != other, "{text}");
        }
    });
    alone
}

fn with_tenant(tenant: &str) -> String {
    let mut claims = claims();
    with(&mut claims, "tid", json!(tenant));
    signed(&header().to_string(), &claims.to_string())
}

fn good() -> AccessToken {
    verify(&signed(&header().to_string(), &claims().to_string())).unwrap()
}

/// A good token with other claims.
pub(crate) fn token_with(members: &[(&str, Value)]) -> AccessToken {
    let mut claims = claims();
    for (name, value) in members {
        with(&mut claims, name, value.clone());
    }
    verify(&signed(&header().to_string(), &claims.to_string())).unwrap()
}

fn with(target: &mut Value, name: &str, value: Value) {
    target.as_object_mut().unwrap().insert(name.into(), value);
}

fn refused_header(name: &str, value: Value) -> Option<TokenError> {
    let mut header = header();
    with(&mut header, name, value);
    verify(&signed(&header.to_string(), &claims().to_string())).err()
}

fn refused_claim(name: &str, value: Value) -> Option<TokenError> {
    let mut claims = claims();
    with(&mut claims, name, value);
    verify(&signed(&header().to_string(), &claims.to_string())).err()
}

#[test]
fn a_good_token_is_accepted_with_its_claims() {
    let token = good();
    assert_eq!(token.claims().sub.as_str(), "alice");
    assert_eq!(token.claims().ver, [1, 2, 3, 4].map(Version::new));
}

#[test]
fn only_access_tokens_are_accepted() {
    for typ in ["JWT", "dpop+jwt", "secevent+jwt", "logout+jwt", "statuslist+jwt", "application/jwt", ""] {
        assert_eq!(refused_header("typ", json!(typ)), Some(TokenError::Type), "TOK-01, TOK-18: {typ}");
    }
    for typ in ["AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        assert_eq!(refused_header("typ", json!(typ)), None, "TOK-01: {typ}");
    }
    let without = json!({"alg": "Ed25519", "kid": "ed"}).to_string();
    assert_eq!(verify(&signed(&without, &claims().to_string())), Err(TokenError::Malformed), "TOK-01");
}

#[test]
fn the_algorithm_is_the_one_of_the_key() {
    for alg in ["none", "None", "nOnE", "HS256", "RS256", "ed25519", "es256", "ES256", ""] {
        assert_eq!(refused_header("alg", json!(alg)), Some(TokenError::Algorithm), "TOK-02, TOK-03: {alg}");
    }
    assert_eq!(refused_header("alg", json!("EdDSA")), None, "TOK-04: an older name of the same algorithm");
}

#[test]
fn an_es256_token_is_accepted_with_an_es256_key_only() {
    let pair = es256();
    let public: [u8; 65] = pair.public_key().as_ref().try_into().unwrap();
    let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "ec"}).to_string();
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims().to_string().as_bytes()));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let text = format!("{signed}.{}", encode(signature.as_ref()));
    let set = KeySet::new([("ec".into(), PublicKey::Es256(public))]).unwrap();
    assert!(AccessToken::verify(&text, &set, &AwsLc, EXPECTED).is_ok());
    let key = pair.private_key().as_be_bytes().unwrap();
    let seed: [u8; 32] = key.as_ref().try_into().unwrap();
    let set = KeySet::new([("ec".into(), PublicKey::Ed25519(seed))]).unwrap();
    let refused = AccessToken::verify(&text, &set, &AwsLc, EXPECTED);
    assert_eq!(refused.err(), Some(TokenError::Algorithm), "TOK-03");
}

#[test]
fn only_the_strict_compact_form_is_read() {
    let good = signed(&header().to_string(), &claims().to_string());
    let (body, signature) = good.rsplit_once('.').unwrap();
    let cases = [
        String::new(),
        "a".into(),
        body.into(),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.x"),
        format!("{body}..{signature}"),
        format!("{good}="),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{}+", &good[..good.len() - 1]),
        format!("{{\"payload\":\"{body}\"}}"),
    ];
    for case in cases {
        assert_eq!(verify(&case).err(), Some(TokenError::Malformed), "TOK-05, TOK-06, TOK-19: {case}");
    }
    assert_eq!(verify(&"a".repeat(TOKEN_BYTES_MAX + 1)).err(), Some(TokenError::TooLarge));
}

#[test]
fn duplicate_members_and_other_encodings_are_refused() {
    let payload = claims().to_string();
    let twice = r#"{"alg":"Ed25519","alg":"none","typ":"at+jwt","kid":"ed"}"#;
    assert_eq!(verify(&signed(twice, &payload)).err(), Some(TokenError::Malformed), "TOK-07");
    for name in ["sub", "exp", "ver"] {
        let twice = payload.replacen('{', &format!("{{\"{name}\":{},", claims()[name]), 1);
        assert_eq!(verify(&signed(&header().to_string(), &twice)).err(), Some(TokenError::Claims), "TOK-07: {name}");
    }
    let bom = format!("\u{feff}{payload}");
    assert_eq!(verify(&signed(&header().to_string(), &bom)).err(), Some(TokenError::Claims), "TOK-17");
}

#[test]
fn critical_headers_are_refused_and_keys_in_headers_ignored() {
    for crit in [json!(["b64"]), json!([]), json!(null), json!("exp")] {
        assert_eq!(refused_header("crit", crit), Some(TokenError::Critical), "TOK-08");
    }
    for kid in [json!("other"), json!("../ed"), json!("ed\u{0}"), json!("k".repeat(300))] {
        assert_eq!(refused_header("kid", kid), Some(TokenError::UnknownKey), "TOK-10");
    }
    assert_eq!(refused_header("kid", json!(["ed"])), Some(TokenError::Malformed), "TOK-10");
    let attacker = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&[1; 32])});
    assert_eq!(
        refused_header("jwk", attacker),
        None,
        "TOK-09: signed by the pinned key, the embedded one is not looked at"
    );
}

#[test]
fn issuer_audience_and_required_claims_are_checked() {
    for iss in ["https://id.example/", "https://ID.example", ""] {
        assert_eq!(refused_claim("iss", json!(iss)), Some(TokenError::Issuer), "TOK-11: {iss}");
    }
    assert_eq!(refused_claim("aud", json!(["a", EXPECTED.audience])), None, "TOK-12");
    for aud in [json!("x"), json!(["a"]), json!([])] {
        assert_eq!(refused_claim("aud", aud), Some(TokenError::Audience), "TOK-12");
    }
    assert_eq!(refused_claim("aud", json!(7)), Some(TokenError::Claims), "TOK-12");
    for exp in [json!("1800000300"), json!(-1), json!(1.5), json!(null)] {
        assert_eq!(refused_claim("exp", exp), Some(TokenError::Claims), "TOK-13");
    }
    for name in ["exp", "iat", "jti", "sub", "client_id", "sid", "ver", "iss", "aud"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        let text = signed(&header().to_string(), &claims.to_string());
        assert_eq!(verify(&text).err(), Some(TokenError::Claims), "TOK-13, TOK-15: {name}");
    }
}

#[test]
fn any_flipped_bit_refuses_the_token() {
    let good = signed(&header().to_string(), &claims().to_string());
    let mut refused = 0;
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok(text) = String::from_utf8(bytes) {
            assert!(verify(&text).is_err(), "TOK-16: byte {at}");
            refused += 1;
        }
    }
    assert_eq!(refused, good.len());
}

#[test]
fn time_is_half_open_and_allows_the_declared_skew_for_what_lies_ahead() {
    let token = good();
    let skew = Duration::from_secs(2);
    let check = |secs| token.check_time(Timestamp::from_secs(secs), skew);
    assert_eq!(check(NOW + 299), Ok(()), "TOK-13");
    assert_eq!(check(NOW + 300), Err(TokenError::Expired), "TOK-13: now == exp");
    assert_eq!(check(NOW - 2), Ok(()), "TOK-15");
    assert_eq!(check(NOW - 3), Err(TokenError::NotYetValid), "TOK-15");
    let mut later = claims();
    with(&mut later, "nbf", json!(NOW + 10));
    let later = verify(&signed(&header().to_string(), &later.to_string())).unwrap();
    assert_eq!(later.check_time(Timestamp::from_secs(NOW + 7), skew), Err(TokenError::NotYetValid), "TOK-14");
    assert_eq!(later.check_time(Timestamp::from_secs(NOW + 8), skew), Ok(()), "TOK-14");
}

#[test]
fn a_floor_of_any_scope_revokes_and_one_at_the_tokens_version_does_not() {
    let token = good();
    let claims = token.claims();
    let scopes = [
        (FloorKey::session(&claims.sid), 1, ScopeKind::Session),
        (FloorKey::subject(&claims.sub), 2, ScopeKind::Subject),
        (FloorKey::tenant(claims.tid.as_ref().unwrap()), 3, ScopeKind::Tenant),
        (FloorKey::everyone(), 4, ScopeKind::Everyone),
        (FloorKey::signing_key("ed"), 1, ScopeKind::SigningKey),
    ];
    for (key, version, kind) in scopes {
        let mut floors = Floors::new();
        let floor = |lowest| Floor { key, lowest: Version::new(lowest), forget_at: Timestamp::from_secs(NOW + 900) };
        floors.join(floor(version));
        assert_eq!(token.revoked_by(&floors), None);
        floors.join(floor(version + 1));
        assert_eq!(token.revoked_by(&floors), Some(kind));
    }
}

#[test]
fn a_token_teaches_the_floors_of_versions_above_the_first() {
    let mut replica = Replica::new();
    good().teach(&mut replica, Duration::from_secs(60));
    assert_eq!(replica.floors().len(), 3, "subject, tenant and everyone; the session stands at its first version");
    assert_eq!(good().revoked_by(replica.floors()), None);
}

#[test]
fn a_minted_token_carries_what_the_session_knows_and_nothing_more() {
    use crate::{session::Surroundings, session::tests::around, subject::Subject};
    let session = crate::session::tests::session();
    let subject = Subject::new(None, vec!["admin".parse().unwrap()], Version::NONE).unwrap();
    let around = Surroundings { subject_floor: Version::new(4), ..around(&subject) };
    let now = session.opened_at;
    let live = session.live(around, now).unwrap();
    let issue = Issue {
        issuer: EXPECTED.issuer,
        audience: EXPECTED.audience,
        jti: "unique",
        lifetime: Duration::from_secs(300),
    };
    let claims = Claims::mint(&live, &SessionId::from_random([0; 16]), &issue, now);
    assert_eq!((claims.exp - claims.iat, claims.ver[1]), (300, Version::new(4)), "TOK-20");
    let value = serde_json::to_value(&claims).unwrap();
    let names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    let allowed = [
        "acr",
        "amr",
        "aud",
        "auth_time",
        "client_id",
        "exp",
        "iat",
        "iss",
        "jti",
        "roles",
        "scope",
        "sid",
        "sub",
        "ver",
    ];
    assert_eq!(names, allowed, "TOK-22");
    let text = signed(&header().to_string(), &value.to_string());
    assert!(text.len() <= TOKEN_BYTES_MAX);
    assert_eq!(verify(&text).map(|token| token.claims().clone()), Ok(claims));
    let longer = Issue { lifetime: Duration::from_secs(86_400), ..issue };
    let claims = Claims::mint(&live, &SessionId::from_random([0; 16]), &longer, now);
    assert_eq!(claims.exp, session.idle_expires_at.as_secs(), "a token never outlives its session");
}

/// Ten thousand sessions that are opened within one second are renewed over all of the spread, round after round.
#[test]
fn a_crowd_that_came_at_once_does_not_come_back_at_once() {
    const SESSIONS: u64 = 10_000;
    let longest = Duration::from_secs(300);
    // As random as any: the products of a counter and an odd number, mixed.
    let id = |number: u64| {
        let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        SessionId::from_random(u128::from(mixed ^ mixed >> 27).to_be_bytes())
    };
    for round in 1..=3 {
        let mut per_second = std::collections::BTreeMap::new();
        for number in 0..SESSIONS {
            let lifetime = spread(longest, 10, &id(number));
            assert!((Duration::from_secs(270)..=longest).contains(&lifetime));
            assert_eq!(lifetime, spread(longest, 10, &id(number)), "the same at every refresh");
            let opened_ms = number * 1_000 / SESSIONS;
            let due_ms = opened_ms + u64::try_from(lifetime.as_millis()).unwrap() * round;
            *per_second.entry(due_ms / 1_000).or_insert(0_u64) += 1;
        }
        let seconds = 30 * round;
        let (peak, mean) = (per_second.values().max().unwrap(), SESSIONS / seconds);
        assert!(*peak < mean * 3 / 2, "round {round}: {peak} in a second, {mean} on average");
    }
    assert_eq!(spread(longest, 0, &id(1)), longest, "the twin: without a spread all come at once");
}
