//! `/v1/sessions`: open, show and end one session.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use shared::{
    cookie::{ACCESS_COOKIE, REFRESH_COOKIE, session_cookie},
    id::{ClientId, Role, SessionId, SubjectId, TenantId},
    time::Timestamp,
};
use utoipa::ToSchema;

use super::{
    App,
    answers::{Changed, SessionView},
    error::{Problem, no_store},
    extract::{Body, Segment},
    schema,
};
use crate::service::open::{OpenSession, Opened};

/// What a login service knows after it authenticated someone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenBody {
    #[schema(value_type = schema::SubjectName)]
    subject: SubjectId,
    #[schema(value_type = schema::ClientName)]
    client_id: ClientId,
    #[schema(value_type = Option<schema::TenantName>)]
    tenant: Option<TenantId>,
    /// Replaces the subject's roles if given.
    #[schema(value_type = Option<Vec<schema::RoleName>>, max_items = 16)]
    roles: Option<Vec<Role>>,
    #[schema(value_type = Option<schema::ScopeText>)]
    scope: Option<String>,
    #[schema(value_type = Option<schema::AuthenticationText>)]
    acr: Option<String>,
    #[serde(default)]
    #[schema(value_type = Vec<schema::AuthenticationText>)]
    amr: Vec<String>,
    /// Unix seconds; now, if left out.
    auth_time: Option<u64>,
}

/// A session and its first tokens.
#[derive(Serialize, ToSchema)]
pub(super) struct OpenedBody {
    #[schema(value_type = schema::SessionIdText)]
    session_id: SessionId,
    access_token: String,
    token_type: &'static str,
    /// Lifetime of the access token in seconds.
    expires_in: u64,
    refresh_token: String,
    /// Absolute end of the session, Unix seconds.
    expires_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// Ready-made `Set-Cookie` lines for a browser.
    set_cookie: Vec<String>,
}

/// Why a session is ended.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeBody {
    reason: Option<String>,
}

/// `POST /v1/sessions`: opens a session.
///
/// 1. malformed body: 400, other media type: 415, too large: 413
/// 2. the subject is disabled: 403
/// 3. the record would be too large, or a role or time is not allowed: 422
/// 4. the store failed, and the session may or may not exist: 503 with `Retry-After`
/// 5. 201 with the session and its tokens, never cached
#[utoipa::path(
    post, path = "/v1/sessions", operation_id = "open_session", tag = "sessions",
    security(("api_key" = ["sessions:write"])),
    request_body = OpenBody,
    responses((status = 201, description = "The session and its tokens.", body = OpenedBody))
)]
pub(super) async fn open(
    State(app): State<App>,
    Body(body): Body<OpenBody>,
) -> Result<(StatusCode, HeaderMap, Json<OpenedBody>), Problem> {
    let opened = app.service.open(body.into()).await?;
    let mut headers = HeaderMap::new();
    no_store(&mut headers);
    Ok((StatusCode::CREATED, headers, Json(opened.into())))
}

/// `GET /v1/sessions/{sid}`: what is known of a session, without any credential.
///
/// 200; 404 if there is no such session, or it ended long ago; 503 if the store does not answer.
#[utoipa::path(
    get, path = "/v1/sessions/{sid}", operation_id = "show_session", tag = "sessions",
    security(("api_key" = ["sessions:read"])),
    params(("sid" = schema::SessionIdText, Path)),
    responses((status = 200, description = "The session.", body = SessionView))
)]
pub(super) async fn show(
    State(app): State<App>,
    Segment(sid): Segment<SessionId>,
) -> Result<Json<SessionView>, Problem> {
    Ok(Json(app.service.session(sid).await?.into()))
}

/// `POST /v1/sessions/{sid}/revoke`: ends a session; may be repeated.
///
/// 200 with the floors that were raised, once log and record are written; 404; 503 if either may be missing.
#[utoipa::path(
    post, path = "/v1/sessions/{sid}/revoke", operation_id = "revoke_session", tag = "sessions",
    security(("api_key" = ["sessions:write"])),
    params(("sid" = schema::SessionIdText, Path)),
    request_body = RevokeBody,
    responses((status = 200, description = "It is ended.", body = Changed))
)]
pub(super) async fn revoke(
    State(app): State<App>,
    Segment(sid): Segment<SessionId>,
    Body(body): Body<RevokeBody>,
) -> Result<Json<Changed>, Problem> {
    Ok(Json(app.service.revoke_session(sid, body.reason).await?.into()))
}

impl From<OpenBody> for OpenSession {
    fn from(body: OpenBody) -> Self {
        Self {
            subject: body.subject,
            tenant: body.tenant,
            client_id: body.client_id,
            roles: body.roles,
            scope: body.scope,
            acr: body.acr,
            amr: body.amr,
            auth_time: body.auth_time.map(Timestamp::from_secs),
        }
    }
}

impl From<Opened> for OpenedBody {
    fn from(opened: Opened) -> Self {
        let tokens = opened.tokens;
        Self {
            set_cookie: vec![
                session_cookie(ACCESS_COOKIE, &tokens.access_token),
                session_cookie(REFRESH_COOKIE, &tokens.refresh_token),
            ],
            session_id: opened.session_id,
            access_token: tokens.access_token,
            token_type: "Bearer",
            expires_in: tokens.expires_in,
            refresh_token: tokens.refresh_token,
            expires_at: opened.expires_at.as_secs(),
            scope: tokens.scope,
        }
    }
}
