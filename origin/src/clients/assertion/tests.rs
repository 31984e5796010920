use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};

use super::*;
use crate::{clients::tests::clients, config, keys::jwk::Jwk};

const NOW: u64 = 1_800_000_000;
const AUDIENCES: [&str; 2] = ["https://id.example", "https://id.example/oauth2/token"];
const SKEW: Duration = Duration::from_secs(2);

fn ed25519() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn known() -> Clients {
    let mut jwk = serde_json::to_value(Jwk::ed25519(ed25519().public_key().as_ref())).unwrap();
    jwk["kid"] = json!("ed");
    let jwks = json!({ "keys": [jwk] }).to_string();
    clients(vec![
        config::Client::confidential("backend", None, Some(jwks)),
        config::Client::confidential("secretive", Some("00".repeat(32)), None),
        config::Client::public("web"),
    ])
}

fn claims() -> Value {
    json!({ "iss": "backend", "sub": "backend", "aud": AUDIENCES[0], "exp": NOW + 60, "jti": "j1", "iat": NOW })
}

fn part(value: &Value) -> String {
    Base64UrlUnpadded::encode_string(value.to_string().as_bytes())
}

fn signed(header: &Value, claims: &Value) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = Base64UrlUnpadded::encode_string(ed25519().sign(signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}

fn check(text: &str) -> Result<Assertion, AssertionError> {
    known().check_assertion(text, AUDIENCES, Timestamp::from_secs(NOW), SKEW)
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn refused_claim(name: &str, value: Value) -> Option<AssertionError> {
    check(&signed(&json!({ "alg": "Ed25519", "kid": "ed" }), &with(claims(), name, value))).err()
}

fn refused_header(header: Value) -> Option<AssertionError> {
    check(&signed(&header, &claims())).err()
}

#[test]
fn a_good_assertion_names_its_client_and_itself() {
    let assertion = check(&signed(&json!({ "alg": "Ed25519", "kid": "ed", "typ": "JWT" }), &claims())).unwrap();
    assert_eq!(assertion.client.id.as_str(), "backend");
    assert_eq!(assertion.expires_at, Timestamp::from_secs(NOW + 60));
    let other = check(&signed(&json!({ "alg": "EdDSA" }), &with(claims(), "jti", json!("j2")))).unwrap();
    assert_ne!(assertion.id, other.id);
}

#[test]
fn es256_works_as_well() {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).unwrap();
    let jwks = json!({ "keys": [Jwk::p256(pair.public_key().as_ref()).unwrap()] }).to_string();
    let known = clients(vec![config::Client::confidential("backend", None, Some(jwks))]);
    let text = format!("{}.{}", part(&json!({ "alg": "ES256" })), part(&claims()));
    let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    let text = format!("{text}.{}", Base64UrlUnpadded::encode_string(signature.as_ref()));
    assert!(known.check_assertion(&text, AUDIENCES, Timestamp::from_secs(NOW), SKEW).is_ok());
    assert!(check(&text).is_err(), "signed by another client's key");
}

/// RFC 7523 §3, one rule after the other, each beside what is still allowed.
#[test]
fn every_claim_is_checked() {
    use AssertionError::*;
    let cases = [
        ("aud", json!(AUDIENCES[1]), None),
        ("aud", json!(["https://other.example", AUDIENCES[0]]), None),
        ("aud", json!("https://other.example"), Some(Audience)),
        ("aud", json!("https://id.example/"), Some(Audience)),
        ("exp", json!(NOW + 1), None),
        ("exp", json!(NOW), Some(Expired)),
        ("exp", json!(NOW + 302), None),
        ("exp", json!(NOW + 303), Some(TooLong)),
        ("exp", Value::Null, Some(Claims)),
        ("iat", json!(NOW + 2), None),
        ("iat", json!(NOW + 3), Some(NotYetValid)),
        ("nbf", json!(NOW + 3), Some(NotYetValid)),
        ("jti", Value::Null, Some(Claims)),
        ("jti", json!(""), Some(Claims)),
        ("jti", json!("j".repeat(256)), None),
        ("jti", json!("j".repeat(257)), Some(Claims)),
        ("sub", json!("web"), Some(Client)),
        ("iss", json!("web"), Some(Client)),
        ("sub", json!("nobody"), Some(Client)),
    ];
    for (name, value, expected) in cases {
        assert_eq!(refused_claim(name, value.clone()), expected, "{name} {value}");
    }
    for client in ["web", "secretive", "nobody"] {
        let claims = with(with(claims(), "iss", json!(client)), "sub", json!(client));
        let refused = check(&signed(&json!({ "alg": "Ed25519" }), &claims)).err();
        assert!(matches!(refused, Some(Client | UnknownKey)), "{client}: {refused:?}");
    }
}

/// TOK-18: an access token or any other JWT is no assertion.
#[test]
fn every_header_is_checked() {
    use AssertionError::*;
    let cases = [
        (json!({ "alg": "Ed25519" }), None),
        (json!({ "alg": "Ed25519", "typ": "client-authentication+jwt" }), None),
        (json!({ "alg": "Ed25519", "typ": "at+jwt" }), Some(Type)),
        (json!({ "alg": "Ed25519", "typ": "logout+jwt" }), Some(Type)),
        (json!({ "alg": "Ed25519", "kid": "other" }), Some(UnknownKey)),
        (json!({ "alg": "ES256", "kid": "ed" }), Some(Signature(JwsError::Algorithm))),
        (json!({ "alg": "none", "kid": "ed" }), Some(Signature(JwsError::Algorithm))),
        (json!({ "alg": "HS256", "kid": "ed" }), Some(Signature(JwsError::Algorithm))),
        (json!({ "alg": "Ed25519", "kid": "ed", "crit": ["b64"] }), Some(Signature(JwsError::Critical))),
    ];
    for (header, expected) in cases {
        assert_eq!(refused_header(header.clone()), expected, "{header}");
    }
    let good = signed(&json!({ "alg": "Ed25519" }), &claims());
    let forged = good.replacen(&part(&claims()), &part(&with(claims(), "jti", json!("j2"))), 1);
    assert_eq!(check(&forged).err(), Some(Signature(JwsError::Signature)));
    assert_eq!(check(&"a".repeat(5_000)).err(), Some(Signature(JwsError::Malformed)));
}
