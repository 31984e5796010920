//! `/v1/audit`: who did what to whom, when and why.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, caller::Caller, error::Problem, extract::Query, paging};
use crate::audit;

/// One act.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditEntry {
    /// When it ended, Unix milliseconds.
    at_ms: u64,
    /// `X-Request-Id` of an answer of the management API.
    request_id: String,
    /// The id of the API key, `bootstrap` for the management key, or who ended a session of their own: `subject:…` by
    /// `/v1/me`, `client:…` by `/oauth2/revoke`.
    actor: String,
    /// The `operationId` of the call.
    action: String,
    /// `session:…`, `subject:…`, `tenant:…`, `api_key:…` and so on.
    target: Option<String>,
    /// The tenant that was acted on, or to which the key is bound.
    tenant: Option<String>,
    reason: Option<String>,
    /// The HTTP status of the answer: what was refused is here too.
    status: u16,
}

/// Acts, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditPage {
    entries: Vec<AuditEntry>,
    /// Where the next page starts; null on the last. A page may be short, or empty, before that.
    next_cursor: Option<String>,
}

/// What is looked for.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// The id of an API key, `bootstrap`, `subject:…` or `client:…`.
    actor: Option<String>,
    /// An `operationId`.
    action: Option<String>,
    /// As in the entry, for example `subject:alice`.
    target: Option<String>,
    /// Not before this time, Unix seconds.
    #[param(maximum = 253_402_300_799u64)]
    since: Option<u64>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
    /// Entries of the page; 50, if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// The last second of the year 9999.
const SINCE_MAX: u64 = 253_402_300_799;

/// `GET /v1/audit`: a page of the trail.
///
/// 200; 400 for a malformed query; 503 if the store does not answer. A key that is bound to a tenant sees the acts of keys
/// that are bound to it too, and acts on the tenant itself.
#[utoipa::path(
    get, path = "/v1/audit", operation_id = "find_audit_entries", tag = "audit",
    security(("api_key" = ["audit:read"])),
    params(AuditQuery),
    responses((status = 200, description = "A page, newest first.", body = AuditPage))
)]
pub(super) async fn find(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditPage>, Problem> {
    let before = query.cursor.map(|cursor| cursor.parse()).transpose();
    let before = before.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the cursor is not one of this list"))?;
    if query.since.is_some_and(|since| since > SINCE_MAX) {
        return Err(Problem::new(StatusCode::BAD_REQUEST, format!("since must be 0 to {SINCE_MAX}, Unix seconds")));
    }
    let query = audit::Query {
        actor: query.actor,
        action: query.action,
        target: query.target,
        tenant: caller.tenant().map(ToString::to_string),
        since_ms: query.since.map(|seconds| seconds.saturating_mul(1_000)),
        before,
        limit: paging::limit(query.limit)?,
    };
    let page = app.0.trail.find(&query).await?;
    let entries = page.entries.into_iter().map(AuditEntry::from).collect();
    Ok(Json(AuditPage { entries, next_cursor: page.next.map(|next| next.to_string()) }))
}

impl From<audit::Entry> for AuditEntry {
    fn from(entry: audit::Entry) -> Self {
        Self {
            at_ms: entry.at_ms,
            request_id: entry.request_id,
            actor: entry.actor,
            action: entry.action,
            target: entry.target,
            tenant: entry.tenant,
            reason: entry.reason,
            status: entry.status,
        }
    }
}
