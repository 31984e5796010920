//! What calls carry and what they are answered with. Times are Unix seconds. A later origin may say more than is read here.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::id::{ClientId, Role, SessionId, SubjectId, TenantId};

/// What a login service knows after it authenticated someone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenSession {
    /// Who.
    pub subject: SubjectId,
    /// By which OAuth client.
    pub client_id: ClientId,
    /// Of which organisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Replaces the subject's roles if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<Role>>,
    /// Space-separated scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Authentication context class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Authentication methods (RFC 8176).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
}

impl OpenSession {
    /// A session of a subject through a client, and nothing more.
    pub fn new(subject: SubjectId, client_id: ClientId) -> Self {
        Self { subject, client_id, tenant: None, roles: None, scope: None, acr: None, amr: Vec::new() }
    }
}

/// A session and its first tokens. It has no `Debug`, so that they are not logged by accident.
#[derive(Clone, Deserialize)]
pub struct Opened {
    /// The session.
    pub session_id: SessionId,
    /// For the `Authorization` header.
    pub access_token: String,
    /// Lifetime of the access token.
    pub expires_in: u64,
    /// For the next access token.
    pub refresh_token: String,
    /// Absolute end of the session.
    pub expires_at: u64,
    /// Lines for `Set-Cookie`, for a browser.
    pub set_cookie: Vec<String>,
}

/// A session, without any credential.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    /// Which.
    pub session_id: SessionId,
    /// Whose.
    pub subject: SubjectId,
    /// Of which organisation.
    pub tenant: Option<TenantId>,
    /// By which client.
    pub client_id: ClientId,
    /// `open` or `ended`.
    pub state: String,
    /// Why it ended.
    pub reason: Option<String>,
    /// When it was opened.
    pub opened_at: u64,
    /// Absolute end.
    pub expires_at: u64,
}

/// The open sessions of a subject, those that expire last first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionList {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// Whether there are more.
    pub is_more: bool,
}

/// What was found of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The entries.
    pub entries: Vec<Value>,
    /// Where the list goes on; none at its end.
    pub next_cursor: Option<String>,
}

/// A subject.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subject {
    /// Of which organisation.
    pub tenant: Option<TenantId>,
    /// `active` or `disabled`.
    pub status: String,
    /// Its roles.
    pub roles: Vec<Role>,
    /// Its version.
    pub version: u64,
}

/// The answer to every command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Changed {
    /// The log's position at which the floors stand at the latest.
    pub cursor: u64,
    /// When log and record were written, Unix milliseconds.
    pub acknowledged_at_ms: u64,
}
