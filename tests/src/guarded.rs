//! A service behind a guard that tells what it was sent.

use axum::{Json, Router, extract::Request, http::HeaderMap};
use guard::{Accepts, AssertionKey, Gate, Guard, Identity, PublicKey, Scheme, Settings};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use shared::policy_text;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{ASSERTION_KEY, POLICY, TestOrigin};

/// A service of this process behind a guard with [`POLICY`]; it ends when it is dropped.
pub struct TestGuarded {
    guard: Guard,
    address: String,
    client: Client,
    serving: JoinHandle<()>,
}

impl TestGuarded {
    /// The gate of a test, as a service knows it.
    ///
    /// # Errors
    ///
    /// The key of the tests is none.
    pub fn gate() -> anyhow::Result<Gate> {
        Ok(Gate { upstream: "app".to_owned(), keys: vec![AssertionKey::from_hex(ASSERTION_KEY)?] })
    }

    /// Starts one on a free port that follows this origin.
    ///
    /// # Errors
    ///
    /// No port, or the guard does not start.
    pub async fn start(origin: &TestOrigin, accepts: Accepts) -> anyhow::Result<Self> {
        Self::start_with(Self::settings(origin, accepts)?).await
    }

    /// Settings of [`Self::start`].
    ///
    /// # Errors
    ///
    /// The origin's address or key is none.
    pub fn settings(origin: &TestOrigin, accepts: Accepts) -> anyhow::Result<Settings> {
        let policy = policy_text::parse("policy.toml", POLICY)?;
        let feed_keys = vec![PublicKey::ed25519_from_text(origin.feed_key())?];
        let mut settings = Settings::new(policy, accepts, origin.issuer(), origin.base().parse()?, feed_keys);
        settings.scheme = Scheme::Http;
        // As for the gate of a test.
        settings.skew_max = std::time::Duration::from_millis(500);
        settings.refresh = std::time::Duration::from_millis(100);
        Ok(settings)
    }

    /// Starts one with these settings.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub async fn start_with(settings: Settings) -> anyhow::Result<Self> {
        let guard = Guard::start(settings)?;
        let router = Router::new().fallback(tell).layer(guard.layer());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { guard, address, client: Client::builder().no_proxy().build()?, serving })
    }

    /// Its guard.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// `http://127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A request past every gate.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.address))
    }

    /// The status of a GET request with a bearer token.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn status_of(&self, path: &str, token: &str) -> anyhow::Result<u16> {
        Ok(self.request(Method::GET, path).bearer_auth(token).send().await?.status().as_u16())
    }
}

impl Drop for TestGuarded {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Who the request is from by its extensions, and what its headers say.
async fn tell(headers: HeaderMap, request: Request) -> Json<Value> {
    let identity = request.extensions().get::<Identity>();
    let said = headers.iter().filter(|(name, _)| name.as_str().starts_with("portcullis"));
    let said: Value =
        said.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
    Json(json!({
        "subject": identity.map(|identity| identity.claims.sub.as_str()),
        "shown_by": identity.map(|identity| format!("{:?}", identity.shown_by)),
        "headers": said,
    }))
}
