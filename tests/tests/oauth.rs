//! The OAuth surface of the origin over HTTP: who calls, refresh, revocation, introspection, metadata.

use aws_lc_rs::{
    digest,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use origin::{
    config::{Client, Introspects, Unregistered},
    keys::jwk::Jwk,
};
use portcullis_tests::{TestOrigin, secrets};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

const SECRET: &str = "kUq3c0mS7ZJ1oYw2rTg8dQ";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// `web` and `other` are public; `backend` has a secret, `signer` a key, `resource` a secret and sees every token.
async fn origin(directory: &tempfile::TempDir) -> anyhow::Result<TestOrigin> {
    TestOrigin::start_with(directory.path(), |config| {
        let secret = Base64UrlUnpadded::encode_string(digest::digest(&digest::SHA256, SECRET.as_bytes()).as_ref());
        let jwks = json!({ "keys": [Jwk::ed25519(signing_key().public_key().as_ref())] }).to_string();
        let backend = Client::confidential("backend", Some(secret), None);
        let limited = Client { scopes: Some(vec!["read".into(), "write".into()]), access_ttl_s: Some(60), ..backend };
        let resource = Client { id: "resource".into(), introspects: Introspects::Any, ..limited.clone() };
        config.tokens.access_ttl_spread_percent = 0;
        config.clients.extend([limited, resource, Client::confidential("signer", None, Some(jwks))]);
    })
    .await
}

fn signing_key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap_or_else(|_| unreachable!("32 bytes are a seed"))
}

fn assertion(origin: &TestOrigin, jti: &str) -> String {
    secrets::assertion("signer", origin.issuer(), &signing_key(), jti)
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

async fn open(origin: &TestOrigin, client: &str) -> anyhow::Result<Value> {
    let body = json!({ "subject": "alice", "client_id": client, "scope": "read write" });
    let (status, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
    assert_eq!(status, 201, "{opened}");
    Ok(opened)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Status, challenge and body; every answer of these endpoints is kept out of caches.
async fn send(request: RequestBuilder) -> anyhow::Result<(u16, String, Value)> {
    let response = request.send().await?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!((header("cache-control"), header("pragma")), ("no-store", "no-cache"), "REF-02, {}", response.url());
    let challenge = header("www-authenticate").to_owned();
    let status = response.status().as_u16();
    let body = response.bytes().await?;
    Ok((status, challenge, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? }))
}

fn post(origin: &TestOrigin, path: &str, form: &[(&str, &str)]) -> RequestBuilder {
    origin.request(Method::POST, path).form(form)
}

async fn is_active(origin: &TestOrigin, opened: &Value) -> anyhow::Result<(bool, bool)> {
    let (access, refresh) = (text(opened, "access_token"), text(opened, "refresh_token"));
    Ok((origin.is_active(access).await?, origin.is_active(refresh).await?))
}

/// REF-09, PRB-02: the fixed set of errors, each with its status; the same request in order is answered.
#[tokio::test]
async fn every_refusal_of_the_token_endpoint_has_its_code() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = origin(&directory).await?;
    let opened = open(&origin, "web").await?;
    let token = text(&opened, "refresh_token");
    let refresh = ("grant_type", "refresh_token");
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[("refresh_token", token), ("client_id", "web")], "invalid_request"),
        (&[refresh, ("client_id", "web")], "invalid_request"),
        (&[refresh, ("refresh_token", token)], "invalid_request"),
        (&[refresh, refresh, ("refresh_token", token), ("client_id", "web")], "invalid_request"),
        (&[("grant_type", "password"), ("refresh_token", token), ("client_id", "web")], "unsupported_grant_type"),
        (&[refresh, ("refresh_token", token), ("client_id", "nobody")], "invalid_client"),
        (&[refresh, ("refresh_token", token), ("client_id", "backend")], "invalid_client"),
        (&[refresh, ("refresh_token", token), ("client_id", "web"), ("client_secret", "x")], "invalid_client"),
        (&[refresh, ("refresh_token", token), ("client_id", "other")], "invalid_grant"),
        (&[refresh, ("refresh_token", "rt_made_up"), ("client_id", "web")], "invalid_grant"),
        (&[refresh, ("refresh_token", token), ("client_id", "web"), ("scope", "read admin")], "invalid_scope"),
    ];
    for (form, error) in table {
        let (status, challenge, body) = send(post(&origin, "/oauth2/token", form)).await?;
        assert_eq!((status, text(&body, "error")), (400, *error), "{form:?} {body}");
        assert!(challenge.is_empty(), "no Basic was tried, so a browser must not ask for a password");
    }
    let json = origin.request(Method::POST, "/oauth2/token").json(&json!({ "grant_type": "refresh_token" }));
    let (status, _, body) = send(json).await?;
    assert_eq!((status, text(&body, "error")), (400, "invalid_request"), "REF-01, REV-01");
    assert_eq!(origin.request(Method::GET, "/oauth2/token").send().await?.status().as_u16(), 405);

    let form = [refresh, ("refresh_token", token), ("client_id", "web"), ("scope", "read")];
    let (status, _, body) = send(post(&origin, "/oauth2/token", &form)).await?;
    assert_eq!((status, text(&body, "token_type"), text(&body, "scope")), (200, "Bearer", "read"), "REF-02, REF-06");
    let form = [refresh, ("refresh_token", text(&body, "refresh_token")), ("client_id", "web")];
    let (_, _, body) = send(post(&origin, "/oauth2/token", &form)).await?;
    assert_eq!(text(&body, "scope"), "read write", "REF-06: the refresh token keeps the whole scope");
    origin.stop().await;
    Ok(())
}

/// REF-09, RFC 6749 §2.3.1: `client_secret_basic`.
#[tokio::test]
async fn a_confidential_client_authenticates_with_its_secret() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = origin(&directory).await?;
    let opened = open(&origin, "backend").await?;
    let form = [("grant_type", "refresh_token"), ("refresh_token", text(&opened, "refresh_token"))];
    let request = || post(&origin, "/oauth2/token", &form);
    let refused = [
        request().basic_auth("backend", Some("wrong")),
        request().basic_auth("backend", None::<&str>),
        request().basic_auth("nobody", Some(SECRET)),
        request().basic_auth("web", None::<&str>),
        request().bearer_auth(SECRET),
        request().header("authorization", "Basic !"),
    ];
    for request in refused {
        let (status, challenge, body) = send(request).await?;
        assert_eq!((status, text(&body, "error")), (401, "invalid_client"));
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
    }
    let twice = request().basic_auth("backend", Some(SECRET)).basic_auth("backend", Some(SECRET));
    assert_eq!(send(twice).await?.0, 400, "two Authorization headers");
    let other = post(&origin, "/oauth2/token", &[form[0], form[1], ("client_id", "web")]);
    let (status, _, body) = send(other.basic_auth("backend", Some(SECRET))).await?;
    assert_eq!((status, text(&body, "error")), (400, "invalid_request"));

    let (status, _, body) = send(request().basic_auth("backend", Some(SECRET))).await?;
    assert_eq!((status, &body["expires_in"]), (200, &json!(60)), "with the lifetime of this client");
    let too_much = json!({ "subject": "alice", "client_id": "backend", "scope": "read admin" });
    assert_eq!(origin.manage(Method::POST, "/v1/sessions", too_much).await?.0, 422, "REF-06");
    origin.stop().await;
    Ok(())
}

/// RFC 7523 §3: `private_key_jwt`, each assertion once.
#[tokio::test]
async fn a_confidential_client_authenticates_with_an_assertion_once() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = origin(&directory).await?;
    let opened = open(&origin, "signer").await?;
    let good = assertion(&origin, "j1");
    let token = text(&opened, "refresh_token").to_owned();
    let request = |assertion: &str, kind: &str| {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &token),
            ("client_assertion_type", kind),
            ("client_assertion", assertion),
        ];
        post(&origin, "/oauth2/token", &form)
    };
    for (assertion, kind, error) in [
        ("", JWT_BEARER, "invalid_request"),
        (good.as_str(), "urn:other", "invalid_request"),
        ("a.b.c", JWT_BEARER, "invalid_client"),
        (text(&opened, "access_token"), JWT_BEARER, "invalid_client"),
    ] {
        let (status, _, body) = send(request(assertion, kind)).await?;
        assert_eq!((status, text(&body, "error")), (400, error), "{kind}, TOK-18");
    }
    let both = request(&good, JWT_BEARER).basic_auth("backend", Some(SECRET));
    assert_eq!(text(&send(both).await?.2, "error"), "invalid_request");

    assert_eq!(send(request(&good, JWT_BEARER)).await?.0, 200);
    let (status, _, body) = send(request(&good, JWT_BEARER)).await?;
    assert_eq!((status, text(&body, "error")), (400, "invalid_client"), "the same assertion again");
    assert_eq!(send(request(&assertion(&origin, "j2"), JWT_BEARER)).await?.0, 200);
    origin.stop().await;
    Ok(())
}

/// REV-01..REV-05: what is revoked, by whom, and what is left alone.
#[tokio::test]
async fn a_client_revokes_its_own_tokens_of_either_kind() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = origin(&directory).await?;
    let revoke = |token: &str, hint: &str, client: &str| {
        let form = [("token", token), ("token_type_hint", hint), ("client_id", client)];
        post(&origin, "/oauth2/revoke", &form)
    };
    let opened = open(&origin, "web").await?;
    for kind in ["access_token", "refresh_token"] {
        let (status, _, body) = send(revoke(text(&opened, kind), kind, "other")).await?;
        assert_eq!((status, text(&body, "error")), (400, "invalid_grant"), "REV-05: {kind}");
        let (status, _, body) = send(revoke(text(&opened, kind), kind, "backend")).await?;
        assert_eq!((status, text(&body, "error")), (400, "invalid_client"), "REV-01: {kind}");
        // The last character holds a few bits only, so a fixed one may be the right one.
        let changed = text(&opened, kind).replace('.', "_");
        let (kept, last) = changed.split_at(changed.len().saturating_sub(3));
        let made_up =
            format!("{kept}{}{}", if last.starts_with('A') { 'B' } else { 'A' }, last.get(1..).unwrap_or_default());
        assert_eq!(send(revoke(&made_up, kind, "web")).await?.0, 200, "REV-02: {kind}");
    }
    assert_eq!(is_active(&origin, &opened).await?, (true, true), "REV-05: still alive");

    for (kind, hint) in [
        ("refresh_token", "refresh_token"),
        ("refresh_token", "access_token"),
        ("refresh_token", "saml"),
        ("access_token", "access_token"),
        ("access_token", "refresh_token"),
    ] {
        let opened = open(&origin, "web").await?;
        let (status, _, body) = send(revoke(text(&opened, kind), hint, "web")).await?;
        assert_eq!((status, body), (200, Value::Null), "REV-03: {kind} as {hint}");
        assert_eq!(is_active(&origin, &opened).await?, (false, false), "REV-04: {kind} as {hint}");
        assert_eq!(send(revoke(text(&opened, kind), hint, "web")).await?.0, 200, "REV-02: again");
    }
    assert_eq!(is_active(&origin, &opened).await?, (true, true), "the other sessions go on");

    let rotated = open(&origin, "web").await?;
    let (_, next) = origin.refresh(text(&rotated, "refresh_token"), "web").await?;
    assert_eq!(send(revoke(text(&rotated, "refresh_token"), "", "web")).await?.0, 200);
    assert_eq!(is_active(&origin, &next).await?, (false, false), "an old token ends its session as well");

    assert_eq!(origin.request(Method::GET, "/oauth2/revoke").send().await?.status().as_u16(), 405, "REV-01");
    let json = origin.request(Method::POST, "/oauth2/revoke").json(&json!({ "token": "x", "client_id": "web" }));
    assert_eq!(text(&send(json).await?.2, "error"), "invalid_request", "REV-01");
    assert_eq!(
        text(&send(post(&origin, "/oauth2/revoke", &[("client_id", "web")])).await?.2, "error"),
        "invalid_request"
    );
    origin.stop().await;
    Ok(())
}

/// INT-01, INT-05: who may ask.
#[tokio::test]
async fn introspection_is_for_management_and_confidential_clients() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = origin(&directory).await?;
    let opened = open(&origin, "backend").await?;
    let token = text(&opened, "access_token");
    let request = || post(&origin, "/oauth2/introspect", &[("token", token)]);
    let (status, challenge, _) = send(request()).await?;
    assert_eq!(status, 401, "INT-01");
    assert!(challenge.contains("Basic") || challenge.contains("Bearer"));
    let anonymous_json = origin.request(Method::POST, "/oauth2/introspect").json(&json!({ "token": token }));
    assert_eq!(send(anonymous_json).await?.0, 401, "INT-01: before the body is looked at");
    let (status, _, body) = send(request().bearer_auth(token)).await?;
    assert_eq!((status, text(&body, "error")), (401, "invalid_token"), "INT-05");
    let (status, _, body) = send(request().basic_auth("backend", Some("wrong"))).await?;
    assert_eq!((status, text(&body, "error")), (401, "invalid_client"), "INT-01");
    let public = post(&origin, "/oauth2/introspect", &[("token", token), ("client_id", "web")]);
    assert_eq!(send(public).await?.0, 401, "INT-01: a public client proves nothing");

    assert!(origin.is_active(token).await?, "management");
    let active = async |request: RequestBuilder| Ok::<_, anyhow::Error>(send(request).await?.2["active"] == true);
    assert!(active(request().basic_auth("backend", Some(SECRET))).await?, "its own");
    assert!(active(request().basic_auth("resource", Some(SECRET))).await?, "a resource server");
    let asserted =
        [("token", token), ("client_assertion_type", JWT_BEARER), ("client_assertion", &assertion(&origin, "i1"))];
    let (status, _, body) = send(post(&origin, "/oauth2/introspect", &asserted)).await?;
    assert_eq!((status, body), (200, json!({ "active": false })), "INT-02: of another client");
    origin.stop().await;
    Ok(())
}

/// INT-02, INT-03: whatever is wrong, the answer is the same to the byte.
#[tokio::test]
async fn what_does_not_count_is_inactive_and_nothing_else() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = origin(&directory).await?;
    let body_of = async |response: Response| Ok::<_, anyhow::Error>(response.text().await?);
    let ask = async |token: &str| {
        let request = post(&origin, "/oauth2/introspect", &[("token", token)]).basic_auth("resource", Some(SECRET));
        body_of(request.send().await?).await
    };
    let opened = open(&origin, "web").await?;
    let (status, renewed) = origin.refresh(text(&opened, "refresh_token"), "web").await?;
    assert_eq!(status, 200);
    let (access, refresh) = (text(&renewed, "access_token"), text(&renewed, "refresh_token"));
    for (token, kind) in [(access, "access"), (refresh, "refresh")] {
        let shown: Value = serde_json::from_str(&ask(token).await?)?;
        assert_eq!((&shown["active"], text(&shown, "sub")), (&json!(true), "alice"), "{kind}");
        assert_eq!((text(&shown, "client_id"), text(&shown, "scope")), ("web", "read write"), "{kind}");
        assert!(shown["exp"].as_u64() > Some(now()) && shown["auth_time"].is_u64(), "INT-04: {kind}");
    }
    let superseded = text(&opened, "refresh_token");
    let flipped = format!("{}A", &access[..access.len().saturating_sub(1)]);
    let ended = open(&origin, "web").await?;
    let path = format!("/v1/sessions/{}/revoke", text(&ended, "session_id"));
    assert_eq!(origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    let (ended_access, ended_refresh) = (text(&ended, "access_token"), text(&ended, "refresh_token"));
    for token in ["x", "rt_x", "a.b.c", superseded, &flipped, ended_access, ended_refresh] {
        if token != access {
            assert_eq!(ask(token).await?, r#"{"active":false}"#, "INT-02: {token}");
        }
    }
    let own = post(&origin, "/oauth2/introspect", &[("token", access)]).basic_auth("backend", Some(SECRET));
    assert_eq!(body_of(own.send().await?).await?, r#"{"active":false}"#, "INT-02: foreign");
    origin.stop().await;
    Ok(())
}

/// META-01, META-02, META-05.
#[tokio::test]
async fn the_metadata_are_where_the_rfc_puts_them_and_every_endpoint_answers() -> Tested {
    let directory = tempfile::tempdir()?;
    let issuer = "https://id.example/tenant1";
    let origin =
        TestOrigin::start_with(directory.path(), |config| issuer.clone_into(&mut config.tokens.issuer)).await?;
    let path = "/.well-known/oauth-authorization-server";
    assert_eq!(origin.request(Method::GET, path).send().await?.status().as_u16(), 404, "META-05");
    let response = origin.request(Method::GET, &format!("{path}/tenant1")).send().await?;
    assert_eq!(response.headers()["content-type"], "application/json", "META-01");
    let metadata: Value = serde_json::from_slice(&response.bytes().await?)?;
    assert_eq!(text(&metadata, "issuer"), issuer, "META-01");
    for name in ["token_endpoint", "revocation_endpoint", "introspection_endpoint", "jwks_uri"] {
        let path = text(&metadata, name).strip_prefix("http://127.0.0.1:8780").unwrap_or_default();
        let method = if name == "jwks_uri" { Method::GET } else { Method::POST };
        let status = origin.request(method, path).send().await?.status().as_u16();
        assert!(matches!(status, 200 | 400 | 401), "META-02: {name} answers {status}");
    }
    origin.stop().await;
    Ok(())
}

/// A client that no one registered is nobody, unless the configuration says so.
#[tokio::test]
async fn an_unregistered_client_is_refused_unless_allowed() -> Tested {
    let body = json!({ "subject": "alice", "client_id": "stranger" });
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    assert_eq!(origin.manage(Method::POST, "/v1/sessions", body.clone()).await?.0, 422);
    assert_eq!(text(&origin.refresh("rt_x", "stranger").await?.1, "error"), "invalid_client");
    origin.stop().await;

    let directory = tempfile::tempdir()?;
    let public = Unregistered::Public;
    let origin = TestOrigin::start_with(directory.path(), |config| config.tokens.unregistered_clients = public).await?;
    let (status, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
    assert_eq!(status, 201);
    assert_eq!(origin.refresh(text(&opened, "refresh_token"), "stranger").await?.0, 200);
    origin.stop().await;
    Ok(())
}
