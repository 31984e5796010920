//! Calls to the origin, with the management key where it is needed.

use std::time::Duration;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use reqwest::{Client, Method, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

/// Deadline of one call.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The origin, as a login service sees it.
pub struct Origin {
    client: Client,
    base: Url,
    management_key: SecretString,
}

/// Why there is nothing to show: a status and what to tell the person.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) StatusCode, pub(crate) Value);

impl Origin {
    /// The origin at this address, which this key opens.
    ///
    /// # Errors
    ///
    /// The HTTP library cannot start.
    pub fn new(base: Url, management_key: SecretString) -> anyhow::Result<Self> {
        // Loopback only, so no proxy; redirects are for the browser.
        let client = Client::builder().no_proxy().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        Ok(Self { client: client.build()?, base, management_key })
    }

    /// A management call to the resource of these path segments; the origin's answer.
    pub(crate) async fn manage(&self, method: Method, segments: &[&str], body: &Value) -> Result<Value, Failure> {
        let request = self.client.request(method, self.url(segments)?).json(body);
        send(request.bearer_auth(self.management_key.expose_secret())).await
    }

    /// Rotates a refresh token (RFC 6749 §6); the origin's answer.
    pub(crate) async fn refresh(&self, token: &str, client_id: &str) -> Result<Value, Failure> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client_id)];
        send(self.client.post(self.url(&["oauth2", "token"])?).form(&form)).await
    }

    fn url(&self, segments: &[&str]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        let mut path = url.path_segments_mut().map_err(|()| Failure::gateway("the origin's address has no path"))?;
        path.clear().extend(segments);
        drop(path);
        Ok(url)
    }
}

async fn send(request: RequestBuilder) -> Result<Value, Failure> {
    let response = request.send().await.map_err(|_| Failure::gateway("the origin does not answer"))?;
    let status = response.status();
    let body = response.json().await.map_err(|_| Failure::gateway("the origin's answer is not JSON"))?;
    if status.is_success() { Ok(body) } else { Err(Failure(status, body)) }
}

impl Failure {
    pub(crate) fn gateway(detail: &str) -> Self {
        Self(StatusCode::BAD_GATEWAY, json!({ "detail": detail }))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}
