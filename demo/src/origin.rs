//! Calls to the origin: management calls by the client library, and what an OAuth client asks.

use std::time::Duration;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use client::{Client, Error, OpenSession, Opened};
use reqwest::{Method, RequestBuilder};
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

/// Deadline of one call.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The origin, as a login service sees it.
pub struct Origin {
    management: Client,
    http: reqwest::Client,
    base: Url,
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
        // Loopback only, so no proxy and no certificates; redirects are for the browser.
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        let management = Client::new(base.clone(), management_key)?;
        Ok(Self { management, http: http.build()?, base })
    }

    /// Opens a session for someone who was authenticated; the answer has its tokens, and the lines for `Set-Cookie`.
    pub(crate) async fn open(&self, session: &OpenSession) -> Result<Opened, Failure> {
        Ok(self.management.open_session(session).await?)
    }

    /// A management call to the resource of these path segments; the origin's answer.
    pub(crate) async fn manage(&self, method: Method, segments: &[&str], body: &Value) -> Result<Value, Failure> {
        Ok(self.management.call(method, segments, &[], Some(body)).await?)
    }

    /// Rotates a refresh token (RFC 6749 §6); the origin's answer.
    pub(crate) async fn refresh(&self, token: &str, client_id: &str) -> Result<Value, Failure> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client_id)];
        send(self.http.post(self.url(&["oauth2", "token"])?).form(&form)).await
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

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused { status, problem, .. } => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                Self(status, json!({ "detail": problem.detail }))
            }
            other => Self::gateway(&other.to_string()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}
