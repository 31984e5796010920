//! What the service says, as JSON; what it refuses, as a status.

use axum::http::StatusCode;
use serde::Serialize;
use shared::{
    id::{ClientId, Role, SessionId, SubjectId, TenantId},
    revocation::Version,
    session::{Device, State, Tier},
    subject::{Standing, Subject, SubjectError},
};
use utoipa::ToSchema;

use super::{
    error::{OAuthError, Problem},
    schema,
};
use crate::{
    apikeys::ApiKeyError,
    audit::AuditError,
    feed::FeedError,
    keys::{KeyRingError, KeysError},
    policies::PoliciesError,
    service::{self, ServiceError, sessions::SessionState},
};

/// The answer to every command.
#[derive(Serialize, ToSchema)]
pub(crate) struct Changed {
    floors: Vec<RaisedFloor>,
    /// The log's position at which the floors stand at the latest.
    cursor: u64,
    /// When log and record were written, Unix milliseconds.
    acknowledged_at_ms: u64,
    /// What the parts took, in microseconds.
    timings_us: TimingsUs,
}

#[derive(Serialize, ToSchema)]
struct RaisedFloor {
    scope: &'static str,
    #[schema(value_type = u64)]
    version: Version,
}

#[derive(Serialize, ToSchema)]
struct TimingsUs {
    #[schema(value_type = u64)]
    load: u128,
    #[schema(value_type = u64)]
    log: u128,
    #[schema(value_type = u64)]
    record: u128,
}

impl From<service::Changed> for Changed {
    fn from(changed: service::Changed) -> Self {
        let floors = changed.floors.into_iter();
        Self {
            floors: floors.map(|(scope, version)| RaisedFloor { scope: scope.name(), version }).collect(),
            cursor: changed.cursor.0,
            acknowledged_at_ms: changed.acknowledged_at.as_millis(),
            timings_us: TimingsUs {
                load: changed.timings.load.as_micros(),
                log: changed.timings.log.as_micros(),
                record: changed.timings.record.as_micros(),
            },
        }
    }
}

/// A session, without any credential. Times are Unix seconds.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionView {
    #[schema(value_type = schema::SessionIdText)]
    session_id: SessionId,
    #[schema(value_type = schema::SubjectName)]
    subject: SubjectId,
    #[schema(value_type = Option<schema::TenantName>)]
    tenant: Option<TenantId>,
    #[schema(value_type = schema::ClientName)]
    client_id: ClientId,
    #[schema(value_type = schema::TierName)]
    tier: Tier,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Who ended it, if its own record says that it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    device: Option<Device>,
    /// The last refresh, to the minute.
    last_seen_at: u64,
    scope: Option<String>,
    acr: Option<String>,
    amr: Vec<String>,
    opened_at: u64,
    auth_time: u64,
    idle_expires_at: u64,
    expires_at: u64,
    generation: u32,
    #[schema(value_type = u64)]
    version: Version,
}

impl From<SessionState> for SessionView {
    fn from(state: SessionState) -> Self {
        let session = state.session;
        Self {
            session_id: state.id,
            last_seen_at: session.last_seen_at().as_secs(),
            subject: session.subject,
            tenant: session.tenant,
            client_id: session.client_id,
            tier: session.tier,
            state: if state.over.is_none() { "open" } else { "ended" },
            reason: state.over,
            ended_by: match session.state {
                State::Open => None,
                State::Ended { by, .. } => Some(by.name()),
            },
            device: session.device,
            scope: session.scope,
            acr: session.acr,
            amr: session.amr,
            opened_at: session.opened_at.as_secs(),
            auth_time: session.auth_time.as_secs(),
            idle_expires_at: session.idle_expires_at.as_secs(),
            expires_at: session.expires_at.as_secs(),
            generation: session.generation.0,
            version: session.version,
        }
    }
}

/// A subject.
#[derive(Serialize, ToSchema)]
pub(crate) struct SubjectView {
    #[schema(value_type = Option<schema::TenantName>)]
    tenant: Option<TenantId>,
    status: &'static str,
    #[schema(value_type = Vec<schema::RoleName>)]
    roles: Vec<Role>,
    #[schema(value_type = u64)]
    version: Version,
}

impl From<std::sync::Arc<Subject>> for SubjectView {
    fn from(subject: std::sync::Arc<Subject>) -> Self {
        Self {
            tenant: subject.tenant.clone(),
            status: match subject.standing {
                Standing::Active => "active",
                Standing::Disabled => "disabled",
            },
            roles: subject.roles.clone(),
            version: subject.versions.version,
        }
    }
}

const UNKNOWN: &str = "the store did not confirm the write; it may have happened, and the call may be repeated";
const NOTHING: &str = "the store does not answer; nothing was written, and the call may be repeated";
const INTERNAL: &str = "an internal error occurred; the call may be repeated";

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let status = match &error {
            ServiceError::NotFound | ServiceError::NoSuchKey => StatusCode::NOT_FOUND,
            ServiceError::Open(shared::session::OpenError::SubjectDisabled) => StatusCode::FORBIDDEN,
            ServiceError::Subject(SubjectError::OtherTenant | SubjectError::KeptIsOver)
            | ServiceError::Over(_)
            | ServiceError::TooManySessions { .. } => StatusCode::CONFLICT,
            ServiceError::Fields(_) => StatusCode::PRECONDITION_FAILED,
            ServiceError::Open(_)
            | ServiceError::Subject(_)
            | ServiceError::Metadata(_)
            | ServiceError::TooLarge(_)
            | ServiceError::TokenTooLarge(_)
            | ServiceError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ServiceError::InvalidGrant | ServiceError::InvalidScope => StatusCode::BAD_REQUEST,
            ServiceError::Keys(KeysError::Ring(KeyRingError::Full)) => StatusCode::CONFLICT,
            ServiceError::Contended | ServiceError::NoSigningKey | ServiceError::Keys(KeysError::Contended) => {
                return Self::unavailable(error.to_string());
            }
            ServiceError::Store(store) if store.may_have_happened() => return Self::unavailable(UNKNOWN),
            ServiceError::Store(_) => return Self::unavailable(NOTHING),
            ServiceError::Feed(feed) => return feed.clone().into(),
            ServiceError::Record(_) | ServiceError::Keys(_) | ServiceError::Library => {
                tracing::error!(event = "service_failed", reason = %error);
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL);
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<ApiKeyError> for Problem {
    fn from(error: ApiKeyError) -> Self {
        let status = match &error {
            ApiKeyError::NotFound => StatusCode::NOT_FOUND,
            ApiKeyError::TooMany => StatusCode::CONFLICT,
            ApiKeyError::Contended => return Self::unavailable(error.to_string()),
            ApiKeyError::Store(store) if store.may_have_happened() => return Self::unavailable(UNKNOWN),
            ApiKeyError::Store(_) => return Self::unavailable(NOTHING),
            ApiKeyError::Record | ApiKeyError::Library(_) => {
                tracing::error!(event = "api_keys_failed", reason = %error);
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL);
            }
        };
        Self::new(status, error.to_string())
    }
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Store(_) | AuditError::Contended | AuditError::Busy => Self::unavailable(NOTHING),
            AuditError::Record => {
                tracing::error!(event = "audit_failed", reason = %error);
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL)
            }
        }
    }
}

impl From<PoliciesError> for Problem {
    fn from(error: PoliciesError) -> Self {
        match error {
            PoliciesError::Store(error) => ServiceError::from(error).into(),
            PoliciesError::Text(_) | PoliciesError::TooLarge => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
            PoliciesError::Record => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            PoliciesError::Contended => Self::unavailable(error.to_string()),
        }
    }
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Frame | FeedError::Policy(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL),
            FeedError::Store(_) => Self::unavailable(NOTHING),
            FeedError::Rejoining | FeedError::NotFollowed | FeedError::Full => Self::unavailable(error.to_string()),
        }
    }
}

impl From<ServiceError> for OAuthError {
    fn from(error: ServiceError) -> Self {
        match &error {
            ServiceError::InvalidScope => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_scope", "the scope exceeds what was granted")
            }
            ServiceError::Store(store) if store.may_have_happened() => Self::unavailable(UNKNOWN),
            ServiceError::Store(_) | ServiceError::Feed(FeedError::Store(_)) => Self::unavailable(NOTHING),
            ServiceError::Contended | ServiceError::NoSigningKey | ServiceError::Feed(_) => {
                Self::unavailable("the service is busy; the same call may be repeated")
            }
            ServiceError::Record(_) | ServiceError::Keys(_) | ServiceError::Library => {
                tracing::error!(event = "service_failed", reason = %error);
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", INTERNAL)
            }
            _ => Self::invalid_grant(),
        }
    }
}
