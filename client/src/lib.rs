//! The management API of an origin, for login services and tools; and its feed, for services that check tokens themselves.
//!
//! Every try has a deadline, and a call is tried again when the origin does not answer or asks for it (`Retry-After`); a
//! POST carries the same idempotency key each time, so that what was done already is not done twice. A call that has no
//! method here is made with [`Client::call`]. The login of the demonstration (`demo/src/sign_in.rs`) is the example.
//!
//! Invariant (I10): the key is never part of an error or of a debug text.

mod error;
mod feed;
mod types;

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::{Method, RequestBuilder, Response, header::RETRY_AFTER};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::id::{Role, SessionId, SubjectId, TenantId};
use url::{Host, Url};

pub use self::{
    error::{Error, Problem},
    feed::{FeedClient, Reading},
    types::{Changed, List, OpenSession, Opened, Session, SessionList, Subject},
};

/// Deadline of one try.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Tries after the first.
const RETRIES: usize = 3;

/// The first pause; each is twice the one before, and up to as much again.
const RETRY_MIN: Duration = Duration::from_millis(200);

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Entries of a page, as many as an origin gives.
const PAGE_MAX: usize = 200;

/// An origin, and the key that opens its management API.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: SecretString,
    reason: Option<String>,
}

impl Client {
    /// Calls the origin at `base` with an API key or the management key.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if `base` has no path, [`Error::Unreachable`] if the HTTP library cannot start.
    pub fn new(base: Url, key: SecretString) -> Result<Self, Error> {
        Ok(Self { http: http_client(&base, TIMEOUT)?, base, key, reason: None })
    }

    /// Gives a reason for every call, for the audit trail: at most 256 printable ASCII characters.
    #[must_use]
    pub fn with_reason(self, reason: Option<String>) -> Self {
        Self { reason, ..self }
    }

    /// Opens a session for someone who was authenticated; the answer holds its tokens and the lines for `Set-Cookie`.
    ///
    /// # Errors
    ///
    /// [`Error`], as for every call.
    pub async fn open_session(&self, session: &OpenSession) -> Result<Opened, Error> {
        let body = serde_json::to_value(session).map_err(|_| Error::Answer)?;
        self.typed(Method::POST, &["v1", "sessions"], Some(&body)).await
    }

    /// What is known of a session.
    ///
    /// # Errors
    ///
    /// [`Error`]
    pub async fn session(&self, id: SessionId) -> Result<Session, Error> {
        self.typed(Method::GET, &["v1", "sessions", &id.to_string()], None).await
    }

    /// Ends a session; may be repeated.
    ///
    /// # Errors
    ///
    /// [`Error`]
    pub async fn revoke_session(&self, id: SessionId) -> Result<Changed, Error> {
        self.typed(Method::POST, &["v1", "sessions", &id.to_string(), "revoke"], Some(&json!({}))).await
    }

    /// The open sessions of a subject, at most `max`.
    ///
    /// # Errors
    ///
    /// [`Error`]
    pub async fn sessions_of(&self, subject: &SubjectId, max: usize) -> Result<SessionList, Error> {
        let segments = ["v1", "subjects", subject.as_str(), "sessions"];
        let List { entries, next_cursor } = self.list(&segments, &[], "sessions", max).await?;
        let sessions = entries.into_iter().map(serde_json::from_value).collect::<Result<_, _>>();
        Ok(SessionList { sessions: sessions.map_err(|_| Error::Answer)?, is_more: next_cursor.is_some() })
    }

    /// Status, roles and version of a subject.
    ///
    /// # Errors
    ///
    /// [`Error`]
    pub async fn subject(&self, subject: &SubjectId) -> Result<Subject, Error> {
        self.typed(Method::GET, &["v1", "subjects", subject.as_str()], None).await
    }

    /// Ends every session of a subject; may be repeated.
    ///
    /// # Errors
    ///
    /// [`Error`]
    pub async fn revoke_subject(&self, subject: &SubjectId) -> Result<Changed, Error> {
        self.typed(Method::POST, &["v1", "subjects", subject.as_str(), "revoke"], Some(&json!({}))).await
    }

    /// Replaces the roles of a subject; tokens with the old ones no longer count.
    ///
    /// # Errors
    ///
    /// [`Error`]
    pub async fn set_roles(&self, subject: &SubjectId, roles: &[Role]) -> Result<Changed, Error> {
        let body = json!({ "roles": roles });
        self.typed(Method::PUT, &["v1", "subjects", subject.as_str(), "roles"], Some(&body)).await
    }

    /// Ends every session of a tenant; may be repeated.
    ///
    /// # Errors
    ///
    /// [`Error`]
    pub async fn revoke_tenant(&self, tenant: &TenantId) -> Result<Changed, Error> {
        self.typed(Method::POST, &["v1", "tenants", tenant.as_str(), "revoke"], Some(&json!({}))).await
    }

    /// The entries of a list, which every page has under `member`; page by page, at most `max`.
    ///
    /// # Errors
    ///
    /// [`Error`]
    pub async fn list(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        member: &str,
        max: usize,
    ) -> Result<List, Error> {
        let mut list = List { entries: Vec::new(), next_cursor: None };
        loop {
            let limit = max.saturating_sub(list.entries.len()).clamp(1, PAGE_MAX).to_string();
            let mut asked = query.to_vec();
            asked.push(("limit", &limit));
            if let Some(cursor) = &list.next_cursor {
                asked.retain(|(name, _)| *name != "cursor");
                asked.push(("cursor", cursor));
            }
            let mut page = self.call(Method::GET, segments, &asked, None).await?;
            let Value::Array(entries) = page[member].take() else { return Err(Error::Answer) };
            list.entries.extend(entries);
            list.next_cursor = page["next_cursor"].as_str().map(str::to_owned);
            if list.next_cursor.is_none() || list.entries.len() >= max {
                return Ok(list);
            }
        }
    }

    async fn typed<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: Option<&Value>,
    ) -> Result<T, Error> {
        let answer = self.call(method, segments, &[], body).await?;
        serde_json::from_value(answer).map_err(|_| Error::Answer)
    }

    /// A call to the resource of these path segments; its answer, null if it has none.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with the origin's own words; [`Error::Unreachable`] when no try was answered.
    pub async fn call(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| Error::Address)?.pop_if_empty().extend(segments);
        let mut request = self.http.request(method.clone(), url).bearer_auth(self.key.expose_secret()).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(reason) = &self.reason {
            request = request.header("portcullis-reason", reason);
        }
        if method == Method::POST {
            request = request.header("idempotency-key", idempotency_key()?);
        }
        let tries = ExponentialBuilder::default().with_min_delay(RETRY_MIN).with_jitter().with_max_times(RETRIES);
        (|| attempt(&request)).retry(tries).when(Error::is_temporary).adjust(Error::wait).await
    }
}

fn http_client(base: &Url, timeout: Duration) -> Result<reqwest::Client, Error> {
    if base.cannot_be_a_base() {
        return Err(Error::Address);
    }
    let mut http = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
    if base.scheme() == "http" {
        // Certificates of the system are not needed, and may not be there.
        http = http.tls_certs_only([]);
    }
    if is_loopback(base) {
        http = http.no_proxy();
    }
    http.build().map_err(|error| Error::unreachable(&error))
}

fn is_loopback(base: &Url) -> bool {
    match base.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

async fn attempt(request: &RequestBuilder) -> Result<Value, Error> {
    // Bodies here are in memory, so every request can be sent again.
    let request = request.try_clone().ok_or(Error::Answer)?;
    let response = request.send().await.map_err(|error| Error::unreachable(&error))?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = read(response, ANSWER_BYTES_MAX).await?;
    if status.is_success() {
        return if body.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_slice(&body).map_err(|_| Error::Answer)
        };
    }
    let problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem::of_status(status));
    Err(Error::Refused { status: status.as_u16(), problem, retry_after: retry_after.map(Duration::from_secs) })
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Error::unreachable(&error))? {
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return Err(Error::Answer);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn idempotency_key() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
