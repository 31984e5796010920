//! How the client tries again, against a server that refuses first.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use portcullis_client::{Client, Error, OpenSession};
use reqwest::Method;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

/// Answers that are still to be given, the last first, each with its `Retry-After`, and the idempotency keys that came.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    answers: Vec<(u16, &'static str)>,
    keys: Vec<String>,
}

async fn answer(State(server): State<Server>, headers: HeaderMap) -> (StatusCode, [(&'static str, &'static str); 1]) {
    let mut script = server.0.lock().unwrap();
    script.keys.push(headers["idempotency-key"].to_str().unwrap().to_owned());
    let (status, retry_after) = script.answers.pop().unwrap_or((204, "0"));
    (StatusCode::from_u16(status).unwrap(), [("retry-after", retry_after)])
}

async fn serve(answers: &[(u16, &'static str)]) -> (Server, Client) {
    let script = Script { answers: answers.iter().rev().copied().collect(), keys: Vec::new() };
    let server = Server(Arc::new(Mutex::new(script)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/call", post(answer)).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (server, Client::new(url.parse().unwrap(), "key".to_owned().into()).unwrap())
}

async fn call(client: &Client) -> Result<serde_json::Value, Error> {
    client.call(Method::POST, &["call"], &[], None).await
}

/// It waits as long as it is told and then a little, and every try is the same call.
#[tokio::test]
async fn a_call_is_tried_again_when_it_is_asked_for() {
    let (server, client) = serve(&[(503, "1"), (429, "0"), (409, "1")]).await;
    let began = Instant::now();
    assert!(call(&client).await.is_ok());
    assert!(began.elapsed() >= Duration::from_secs(2));
    let keys = &server.0.lock().unwrap().keys;
    assert!(keys.len() == 4 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn a_call_is_given_up_at_last_and_at_once_when_it_would_take_too_long() {
    for (answers, tries, status) in
        [(&[(503, "0"); 9][..], 4, 503), (&[(503, "3600")], 1, 503), (&[(422, "0")], 1, 422), (&[(403, "0")], 1, 403)]
    {
        let (server, client) = serve(answers).await;
        let refused = call(&client).await.unwrap_err();
        assert!(matches!(refused, Error::Refused { status: found, .. } if found == status), "{refused}");
        assert_eq!(server.0.lock().unwrap().keys.len(), tries, "{answers:?}");
    }
}

/// An origin at https is spoken to in TLS: the key never goes out in clear.
#[tokio::test]
async fn https_is_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let client = Client::new(url.parse().unwrap(), "a key".to_owned().into()).unwrap();
    let opening = OpenSession::new("alice".parse().unwrap(), "web".parse().unwrap());
    let calling = tokio::spawn(async move { client.open_session(&opening).await.is_err() });
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut first = [0; 5];
    connection.read_exact(&mut first).await.unwrap();
    assert_eq!(&first[..2], [22, 3], "a handshake record (RFC 8446 section 5.1)");
    drop((connection, listener));
    assert!(calling.await.unwrap());
}
