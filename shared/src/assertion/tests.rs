use std::{format, string::ToString as _};

use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;
const PARTIES: Parties<'_> = Parties { issuer: "https://id.example", upstream: "app" };
const REQUEST: Forwarded<'_> = Forwarded { method: "GET", path: "/app/orders", query: "?page=2" };
const SKEW: Duration = Duration::from_secs(2);

/// The example of docs/assertion.md, which was made by other means than this module.
const VECTOR: &str = "eyJ0eXAiOiJwb3J0Y3VsbGlzLWFzc2VydGlvbitqd3QiLCJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOiJhcHAiLCJpYXQiOjE4MDAwMDAwMDAsImV4cCI6MTgwMDAwMDAzMCwiaHRtIjoiR0VUIiwidGd0IjoiMTZXZThFMEI2YzRyTXBiZTJqdXpMTnNrdnBRcHE5N3ZQRUs5QjR6T1RJNCIsImhvc3QiOiJhcHAuZXhhbXBsZSIsInN1YiI6ImFsaWNlIiwiY2xpZW50X2lkIjoid2ViIiwic2lkIjoiQUFBQUFBQUFBQUFBQUFBQUFBQUFBQSIsInRpZCI6ImFjbWUiLCJ2ZXIiOlsxLDIsMyw0XSwicm9sZXMiOlsiYWRtaW4iXSwiYXV0aF90aW1lIjoxNzk5OTk5MDAwfQ.d3VHIZenMAgJ4HDXzKi--reWCHToJNtAYt37_TM28EU";

fn key() -> AssertionKey {
    AssertionKey::from_hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f").unwrap()
}

fn claims(exp: u64) -> Claims {
    let claims = json!({
        "iss": PARTIES.issuer, "sub": "alice", "aud": "https://app.example", "exp": exp, "iat": NOW - 60, "jti": "j",
        "client_id": "web", "sid": "AAAAAAAAAAAAAAAAAAAAAA", "tid": "acme", "ver": [1, 2, 3, 4], "roles": ["admin"],
        "auth_time": NOW - 1_000,
    });
    serde_json::from_value(claims).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_secs(NOW)
}

fn made(asserted: &Asserted) -> String {
    key().assert(PARTIES, REQUEST, "app.example", asserted, now()).unwrap()
}

fn checked(text: &str) -> Result<Assertion, AssertionError> {
    verify(text, &[key()], PARTIES, REQUEST, now(), SKEW)
}

/// With other header or claims, and a good signature.
fn signed(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| Base64UrlUnpadded::encode_string(json.to_string().as_bytes());
    let text = format!("{}.{}", part(header), part(claims));
    let signature = key().0.chain_update(text.as_bytes()).finalize().into_bytes();
    format!("{text}.{}", Base64UrlUnpadded::encode_string(&signature))
}

fn payload() -> Value {
    let part = VECTOR.split('.').nth(1).unwrap();
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap()
}

/// BRR-11: what the gate makes is what the documentation shows, and it says who the request is from.
#[test]
fn an_assertion_is_the_documented_one_and_reads_back() {
    let text = made(&Asserted::of(&claims(NOW + 300)));
    assert_eq!(text, VECTOR);
    let assertion = checked(&text).unwrap();
    assert_eq!(assertion.host, "app.example");
    let token = assertion.token.unwrap();
    let expected =
        Claims { aud: Audience::One("app".into()), iat: NOW, exp: NOW + 30, jti: String::new(), ..claims(NOW + 300) };
    assert_eq!(token.claims(), &expected);
}

#[test]
fn nobody_is_asserted_too_and_named_by_no_claim() {
    let text = made(&Asserted::default());
    assert_eq!(checked(&text).map(|assertion| assertion.token), Ok(None));
}

/// BRR-11, TOK-18: another request, another party, another time, another key, another kind.
#[test]
fn what_is_not_asserted_is_refused() {
    let of = |request, parties, key: AssertionKey, now| verify(VECTOR, &[key], parties, request, now, SKEW).map(|_| ());
    let at = |secs| Timestamp::from_secs(secs);
    let other_key = || AssertionKey::from_hex(&"1".repeat(64)).unwrap();
    assert_eq!(of(REQUEST, PARTIES, key(), now()), Ok(()));
    for request in [
        Forwarded { method: "POST", ..REQUEST },
        Forwarded { method: "get", ..REQUEST },
        Forwarded { path: "/app/orders/", ..REQUEST },
        Forwarded { path: "/app/Orders", ..REQUEST },
        Forwarded { query: "", ..REQUEST },
        Forwarded { query: "?page=3", ..REQUEST },
    ] {
        assert_eq!(of(request, PARTIES, key(), now()), Err(AssertionError::Request), "{request:?}");
    }
    for parties in [Parties { issuer: "https://other.example", ..PARTIES }, Parties { upstream: "api", ..PARTIES }] {
        assert_eq!(of(REQUEST, parties, key(), now()), Err(AssertionError::Parties), "{parties:?}");
    }
    assert_eq!(of(REQUEST, PARTIES, key(), at(NOW + 29)), Ok(()));
    assert_eq!(of(REQUEST, PARTIES, key(), at(NOW + 30)), Err(AssertionError::Expired));
    assert_eq!(of(REQUEST, PARTIES, key(), at(NOW - 2)), Ok(()));
    assert_eq!(of(REQUEST, PARTIES, key(), at(NOW - 3)), Err(AssertionError::NotYetValid));
    let wrong = Err(AssertionError::Signature(JwsError::Signature));
    assert_eq!(of(REQUEST, PARTIES, other_key(), now()), wrong);
    assert_eq!(verify(VECTOR, &[], PARTIES, REQUEST, now(), SKEW).map(|_| ()), wrong);
    let either = verify(VECTOR, &[other_key(), key()], PARTIES, REQUEST, now(), SKEW);
    assert!(either.is_ok(), "both count while a key changes");
}

/// TOK-16: not one bit can be changed.
#[test]
fn a_changed_assertion_is_refused() {
    for at in 0..VECTOR.len() {
        let mut text = VECTOR.to_string();
        let other = if VECTOR.as_bytes()[at] == b'A' { "B" } else { "A" };
        text.replace_range(at..=at, other);
        assert!(checked(&text).is_err(), "{at}");
    }
    assert_eq!(checked(&format!("{VECTOR}{}", "A".repeat(4_096))), Err(AssertionError::TooLarge));
}

/// TOK-02, TOK-08, TOK-18: also a holder of the key has to keep to the form.
#[test]
fn the_form_is_fixed() {
    let header = json!({ "typ": TYP, "alg": "HS256" });
    let with = |name: &str, value: Value| {
        let mut claims = payload();
        claims[name] = value;
        checked(&signed(&header, &claims)).map(|_| ())
    };
    assert_eq!(with("more", json!(1)), Ok(()), "claims that are not known are passed over");
    assert_eq!(with("exp", json!(NOW + 31)), Err(AssertionError::Expired), "longer than an assertion may count");
    for (name, value) in [("iat", json!("1")), ("sid", json!("x")), ("ver", json!([1])), ("sub", json!(1))] {
        assert_eq!(with(name, value), Err(AssertionError::Claims), "{name}");
    }
    let headed = |header: Value| checked(&signed(&header, &payload())).map(|_| ());
    assert_eq!(headed(json!({ "typ": "at+jwt", "alg": "HS256" })), Err(AssertionError::Type));
    assert_eq!(headed(json!({ "alg": "HS256" })), Err(AssertionError::Type));
    let of = |error: JwsError| Err(AssertionError::Signature(error));
    assert_eq!(headed(json!({ "typ": TYP, "alg": "none" })), of(JwsError::Algorithm));
    assert_eq!(headed(json!({ "typ": TYP, "alg": "HS512" })), of(JwsError::Algorithm));
    assert_eq!(headed(json!({ "typ": TYP, "alg": "HS256", "crit": [] })), of(JwsError::Critical));
}

#[test]
fn nobody_is_asserted_beyond_the_token_or_at_any_length() {
    let text = made(&Asserted::of(&claims(NOW + 10)));
    let at = |secs| verify(&text, &[key()], PARTIES, REQUEST, Timestamp::from_secs(NOW + secs), SKEW).map(|_| ());
    assert_eq!((at(9), at(10)), (Ok(()), Err(AssertionError::Expired)));
    let long = key().assert(PARTIES, REQUEST, &"h".repeat(4_096), &Asserted::default(), now());
    assert_eq!(long, None);
}

#[test]
fn a_key_is_64_digits() {
    for text in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"+f".repeat(32)] {
        assert!(AssertionKey::from_hex(text).is_err(), "{text}");
    }
    assert_eq!(format!("{:?}", key()), "AssertionKey(..)", "I10");
}
