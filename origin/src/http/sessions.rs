//! `/v1/sessions`: open, show, step up, change and end one session.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use shared::{
    cookie::{ACCESS_COOKIE, REFRESH_COOKIE, session_cookie},
    id::{ClientId, Role, SessionId, SubjectId, TenantId},
    roster::OnLimit,
    session::{Device, EndReason, Initiator, MetadataError, Tier},
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
use crate::service::{
    ServiceError,
    open::{OpenSession, Opened},
    step_up::StepUpSession,
};

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
    /// Decides how long it may last; `sessions.tier` of the configuration, if left out.
    #[schema(value_type = Option<schema::TierName>)]
    tier: Option<Tier>,
    device: Option<DeviceBody>,
    /// What happens over `sessions.concurrent_max`, if there is such a limit.
    #[schema(value_type = Option<schema::OnLimitName>)]
    on_limit: Option<OnLimit>,
}

/// A device, as its user would know it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceBody {
    #[schema(min_length = 1, max_length = 64)]
    name: Option<String>,
    /// Cut after 128 characters.
    user_agent: Option<String>,
}

/// What a login service knows after someone authenticated once more.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepUpBody {
    /// That of the session, if left out.
    #[schema(value_type = Option<schema::TierName>)]
    tier: Option<Tier>,
    /// That of the session, if left out.
    #[schema(value_type = Option<schema::ScopeText>)]
    scope: Option<String>,
    #[schema(value_type = Option<schema::AuthenticationText>)]
    acr: Option<String>,
    #[schema(value_type = Vec<schema::AuthenticationText>)]
    amr: Vec<String>,
    /// Unix seconds; now, if left out.
    auth_time: Option<u64>,
    /// That of the session, if left out.
    device: Option<DeviceBody>,
}

/// The new scope of a session; none if null.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeBody {
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(value_type = Option<schema::ScopeText>, required = true)]
    scope: Option<String>,
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

/// Why a session is ended, and by whom.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeBody {
    /// `signed_out`, `revoked` (if left out), `replaced`, `credential_changed`, `compromised` or `policy`.
    reason: Option<String>,
    /// The user for `signed_out`, `replaced` and `credential_changed`, policy for `policy`, else admin; if left out.
    #[schema(value_type = Option<schema::InitiatorName>)]
    initiator: Option<Initiator>,
}

/// `POST /v1/sessions`: opens a session.
///
/// 1. malformed body: 400, other media type: 415, too large: 413
/// 2. the subject is disabled: 403
/// 3. the subject is of another tenant, or has as many sessions as it may have: 409
/// 4. the record would be too large, or a role, time or device is not allowed: 422
/// 5. the store failed, and the session may or may not exist: 503 with `Retry-After`
/// 6. 201 with the session and its tokens, never cached
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
    Ok(created(app.service.open(body.try_into()?).await?))
}

/// `POST /v1/sessions/{sid}/step-up`: opens a session with a new id in the place of this one, which ends.
///
/// 1. malformed body: 400; no such session: 404; it is over, or was stepped up by another call: 409
/// 2. a time before that of the session, or a value that is not allowed: 422
/// 3. the store failed: 503 with `Retry-After`; the session lives on, or both are dead
/// 4. 201 with the new session and its tokens, never cached
#[utoipa::path(
    post, path = "/v1/sessions/{sid}/step-up", operation_id = "step_up_session", tag = "sessions",
    security(("api_key" = ["sessions:write"])),
    params(("sid" = schema::SessionIdText, Path)),
    request_body = StepUpBody,
    responses((status = 201, description = "The session that took its place, and its tokens.", body = OpenedBody))
)]
pub(super) async fn step_up(
    State(app): State<App>,
    Segment(sid): Segment<SessionId>,
    Body(body): Body<StepUpBody>,
) -> Result<(StatusCode, HeaderMap, Json<OpenedBody>), Problem> {
    Ok(created(app.service.step_up(sid, body.try_into()?).await?))
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

/// `POST /v1/sessions/{sid}/revoke`: ends a session; may be repeated, and the first reason stays.
///
/// 200 with the floors that were raised, once log and record are written; 404; 422 for a reason that is none; 503 if
/// either may be missing.
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
    let (reason, by) = body.read()?;
    Ok(Json(app.service.revoke_session(sid, reason, by).await?.into()))
}

/// `PUT /v1/sessions/{sid}/scope`: gives a session another scope; tokens with the old one fall under a floor.
///
/// 200 with the floors that were raised; 404; 409 if the session is over; 422 for a malformed scope; 503.
#[utoipa::path(
    put, path = "/v1/sessions/{sid}/scope", operation_id = "set_scope", tag = "sessions",
    security(("api_key" = ["sessions:write"])),
    params(("sid" = schema::SessionIdText, Path)),
    request_body = ScopeBody,
    responses((status = 200, description = "It has this scope.", body = Changed))
)]
pub(super) async fn set_scope(
    State(app): State<App>,
    Segment(sid): Segment<SessionId>,
    Body(body): Body<ScopeBody>,
) -> Result<Json<Changed>, Problem> {
    Ok(Json(app.service.set_scope(sid, body.scope).await?.into()))
}

fn created(opened: Opened) -> (StatusCode, HeaderMap, Json<OpenedBody>) {
    let mut headers = HeaderMap::new();
    no_store(&mut headers);
    (StatusCode::CREATED, headers, Json(opened.into()))
}

impl RevokeBody {
    fn read(&self) -> Result<(EndReason, Initiator), ServiceError> {
        let (reason, by) = match self.reason.as_deref() {
            None | Some("revoked") => (EndReason::Revoked, Initiator::Admin),
            Some("signed_out") => (EndReason::SignedOut, Initiator::User),
            Some("replaced") => (EndReason::Replaced, Initiator::User),
            Some("credential_changed") => (EndReason::CredentialChanged, Initiator::User),
            Some("compromised") => (EndReason::Compromised, Initiator::Admin),
            Some("policy") => (EndReason::Policy, Initiator::Policy),
            Some(_) => {
                return Err(ServiceError::Invalid(
                    "reason must be signed_out, revoked, replaced, credential_changed, compromised or policy",
                ));
            }
        };
        Ok((reason, self.initiator.unwrap_or(by)))
    }
}

impl DeviceBody {
    fn read(device: Option<Self>) -> Result<Option<Device>, MetadataError> {
        device.map_or(Ok(None), |device| Device::new(device.name, device.user_agent.as_deref()))
    }
}

impl TryFrom<OpenBody> for OpenSession {
    type Error = ServiceError;

    fn try_from(body: OpenBody) -> Result<Self, ServiceError> {
        Ok(Self {
            subject: body.subject,
            tenant: body.tenant,
            client_id: body.client_id,
            roles: body.roles,
            scope: body.scope,
            acr: body.acr,
            amr: body.amr,
            auth_time: body.auth_time.map(Timestamp::from_secs),
            tier: body.tier,
            device: DeviceBody::read(body.device)?,
            on_limit: body.on_limit,
        })
    }
}

impl TryFrom<StepUpBody> for StepUpSession {
    type Error = ServiceError;

    fn try_from(body: StepUpBody) -> Result<Self, ServiceError> {
        Ok(Self {
            tier: body.tier,
            scope: body.scope,
            acr: body.acr,
            amr: body.amr,
            auth_time: body.auth_time.map(Timestamp::from_secs),
            device: DeviceBody::read(body.device)?,
        })
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
