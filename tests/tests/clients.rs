//! Clients that others wrote, against the origin.

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use origin::{
    config::{Client, SigningAlgorithm},
    keys::jwk::Jwk,
};
use portcullis_tests::{TestOrigin, free_port, in_node};
use reqwest::Method;
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

const SECRET: &str = "kUq3c0mS7ZJ1oYw2rTg8dQ";

/// META-01, META-02, REF-02, REF-03, REF-06, REV-01, REV-04, INT-01, INT-02, KEY-01, KEY-02, KEY-04, TOK-01: `oauth4webapi` finds the origin
/// by its metadata and refreshes, introspects and revokes as each kind of client; `jose` verifies the tokens from the JWKS.
#[tokio::test(flavor = "multi_thread")]
async fn libraries_of_others_find_refresh_verify_introspect_and_revoke() -> Tested {
    for (algorithm, name) in [(SigningAlgorithm::Ed25519, "Ed25519"), (SigningAlgorithm::Es256, "ES256")] {
        let directory = tempfile::tempdir()?;
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?;
        let jwk = Jwk::ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref())?.public_key().as_ref());
        let port = free_port()?;
        let origin = TestOrigin::start_with(directory.path(), |config| {
            config.server.listen.set_port(port);
            config.server.public_url = format!("http://127.0.0.1:{port}");
            config.tokens.issuer.clone_from(&config.server.public_url);
            config.tokens.algorithm = algorithm;
            let secret = Base64UrlUnpadded::encode_string(digest::digest(&digest::SHA256, SECRET.as_bytes()).as_ref());
            let jwks = json!({ "keys": [jwk] }).to_string();
            config.clients.push(Client::confidential("backend", Some(secret), None));
            config.clients.push(Client::confidential("signer", None, Some(jwks)));
        })
        .await?;
        let mut sessions = serde_json::Map::new();
        for client in ["web", "backend", "signer"] {
            let body = json!({ "subject": "alice", "client_id": client, "scope": "read" });
            let (status, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
            assert_eq!(status, 201, "{opened}");
            sessions.insert(client.to_owned(), opened);
        }
        let input = json!({
            "issuer": origin.issuer(), "audience": "portcullis", "algorithm": name, "secret": SECRET, "kid": jwk.kid,
            "key": Base64UrlUnpadded::encode_string(pkcs8.as_ref()), "sessions": Value::Object(sessions),
        });
        println!("{}", in_node("clients/oauth.mjs", &[], &input.to_string()).await?);
        origin.stop().await;
    }
    Ok(())
}
