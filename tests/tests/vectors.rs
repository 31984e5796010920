//! The table of token vectors at everything that checks access tokens: the shared checks, the origin, and the gate in workerd.

use std::{collections::BTreeSet, net::TcpListener, time::Duration};

use ::origin::keys::Verifier;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use portcullis_tests::{
    GatePlace, GateSettings, POLICY, TestOrigin, TestUpstream, eventually,
    secrets::private_keys,
    vectors::{Forge, Vector, vectors},
};
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    keys::KeySet,
    time::Timestamp,
    token::{AccessToken, Expected, TokenError},
};

type Tested = anyhow::Result<()>;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://app.example";

/// As a gate has it by default.
const SKEW: Duration = Duration::from_secs(2);

/// What the shared checks say of a token.
fn natively(token: &str, keys: &KeySet, forge: &Forge) -> Option<TokenError> {
    let expected = Expected { issuer: ISSUER, audience: AUDIENCE };
    let checked = AccessToken::verify(token, keys, &Verifier, expected)
        .and_then(|token| token.check_time(Timestamp::from_secs(forge.now), SKEW));
    checked.err()
}

/// Whether it can follow `Bearer` (RFC 6750 §2.1); anything else is a malformed request.
fn is_bearer_token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

fn both_of_every_requirement(vectors: &[Vector]) -> Vec<&'static str> {
    let of = |counts: bool| -> BTreeSet<_> {
        vectors.iter().filter(|vector| vector.refused.is_none() == counts).map(|vector| vector.id).collect()
    };
    assert_eq!(of(true), of(false), "a token that counts stands beside those that do not");
    of(true).into_iter().collect()
}

/// TOK-01 to TOK-19, TOK-21, BRR-03, BRR-08, I8: the gate in workerd says what the shared checks say, and these say why.
#[tokio::test]
async fn every_vector_has_one_verdict_natively_and_at_the_gate() -> Tested {
    let elsewhere = TcpListener::bind("127.0.0.1:0")?;
    elsewhere.set_nonblocking(true)?;
    let forge = Forge::new(ISSUER, AUDIENCE, &format!("http://{}/keys", elsewhere.local_addr()?))?;
    let vectors = vectors(&forge);
    let numbers = (1..=19).chain([21]).map(|number| format!("TOK-{number:02}"));
    let ids: Vec<String> = ["I8".to_owned()].into_iter().chain(numbers).collect();
    assert_eq!(both_of_every_requirement(&vectors), ids);

    let keys = KeySet::from_jwks(&forge.jwks())?;
    for Vector { id, name, token, refused } in &vectors {
        assert_eq!(natively(token, &keys, &forge), *refused, "{id}: {name}");
    }

    let upstream = TestUpstream::start().await?;
    let settings = GateSettings::default().with("ISSUER", ISSUER).with("AUDIENCE", AUDIENCE);
    let settings = settings.with("TRUSTED_JWKS", &forge.jwks()).with_upstream("app", upstream.address());
    let gate = GatePlace::new(POLICY)?.start(settings).await?;
    let challenge = r#"Bearer realm="portcullis", error="invalid_token", resource_metadata="https://app.example/.well-known/oauth-protected-resource""#;
    let mut told = BTreeSet::new();
    for Vector { id, name, token, refused } in &vectors {
        let answer = gate.request(Method::GET, "/app/x").bearer_auth(token).send().await?;
        let status = match refused {
            None => 200,
            Some(_) if is_bearer_token(token) => 401,
            Some(_) => 400,
        };
        assert_eq!(answer.status().as_u16(), status, "{id}: {name} at the gate");
        if status == 401 {
            assert_eq!(answer.headers()["www-authenticate"], challenge, "{id}: {name}");
            told.insert(answer.text().await?);
        }
    }
    assert_eq!(told.len(), 1, "BRR-08, TOK-16: {told:?}");
    assert!(elsewhere.accept().is_err(), "TOK-09: nobody was asked for keys");
    Ok(())
}

/// The key by which an origin signs, taken out of its store, and the claims of a token that it signed; the origin, started again.
async fn forge_of(origin: TestOrigin) -> anyhow::Result<(TestOrigin, Forge)> {
    let (_, opened) =
        origin.manage(Method::POST, "/v1/sessions", json!({ "subject": "alice", "client_id": "web" })).await?;
    let token = opened["access_token"].as_str().unwrap_or_default();
    let part = |at: usize| {
        let decoded = Base64UrlUnpadded::decode_vec(token.split('.').nth(at).unwrap_or_default())?;
        anyhow::Ok(serde_json::from_slice::<Value>(&decoded)?)
    };
    let (header, claims) = (part(0)?, part(1)?);
    let config = origin.stop().await;
    let keys = private_keys(&config).await?;
    let signs = keys["tokens"].as_array().into_iter().flatten().find(|key| !key["signs_from"].is_null());
    let pkcs8 = signs.and_then(|key| key["pkcs8"].as_str()).unwrap_or_default();
    let forge = Forge {
        kid: header["kid"].as_str().unwrap_or_default().to_owned(),
        ed25519: Ed25519KeyPair::from_pkcs8(&Base64UrlUnpadded::decode_vec(pkcs8)?)?,
        es256: None,
        now: claims["iat"].as_u64().unwrap_or_default(),
        claims,
        elsewhere: "http://127.0.0.1:1/keys".to_owned(),
    };
    let origin = eventually("the origin", async || TestOrigin::start_again(config.clone()).await.ok()).await?;
    Ok((origin, forge))
}

/// TOK-01 to TOK-19, TOK-21, INT-02, INT-03: introspection of a session's token and of all that is like it. TOK-20, TOK-22: how
/// long the origin's own token lives, and what it says.
#[tokio::test]
async fn every_vector_has_the_same_verdict_at_introspection() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let (origin, forge) = forge_of(origin).await?;
    let names: Vec<&str> =
        forge.claims.as_object().into_iter().flat_map(|claims| claims.keys()).map(String::as_str).collect();
    let allowed = ["aud", "auth_time", "client_id", "exp", "iat", "iss", "jti", "sid", "sub", "ver"];
    assert_eq!(names, allowed, "TOK-22");
    let lifetime_s = forge.claims["exp"].as_u64().unwrap_or_default() - forge.now;
    assert!((1..=3_600).contains(&lifetime_s), "TOK-20: {lifetime_s}");

    let vectors = vectors(&forge);
    both_of_every_requirement(&vectors);
    for Vector { id, name, token, refused } in &vectors {
        let request = origin.managed(Method::POST, "/oauth2/introspect").form(&[("token", token)]);
        let answer: Value = request.send().await?.json().await?;
        match refused {
            None => assert_eq!(answer["active"], true, "{id}: {name} at the origin"),
            Some(_) => assert_eq!(answer, json!({ "active": false }), "{id}: {name} at the origin"),
        }
    }
    origin.stop().await;
    Ok(())
}
