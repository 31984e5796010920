//! Acts that go into the audit trail, by whomever: the id of the request, and the acts of users and OAuth clients.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use shared::id::{SessionId, TenantId};

use super::App;
use crate::{audit::Entry, shell};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The end of a session by its own user or client.
pub(super) struct Ended<'a> {
    /// `subject:…` or `client:…`.
    pub(super) actor: String,
    /// The name of the operation.
    pub(super) action: &'static str,
    /// Which.
    pub(super) session: SessionId,
    /// Of which organisation.
    pub(super) tenant: Option<&'a TenantId>,
    /// The status of the answer.
    pub(super) status: StatusCode,
}

/// A new id of a request; empty without randomness.
pub(super) fn request_id() -> String {
    shell::random().map_or_else(|_| String::new(), |id| Base64UrlUnpadded::encode_string(&id))
}

/// Says in an answer how the trail names its request.
pub(super) fn name_request(response: &mut Response, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
}

/// Notes the end of a session by its own user or client.
pub(super) async fn note(app: &App, ended: Ended<'_>) {
    let entry = Entry {
        at_ms: shell::now().as_millis(),
        request_id: request_id(),
        actor: ended.actor,
        action: ended.action.to_owned(),
        target: Some(format!("session:{}", ended.session)),
        tenant: ended.tenant.map(ToString::to_string),
        reason: None,
        status: ended.status.as_u16(),
    };
    app.0.trail.note(entry).await;
}
