//! `/v1/sessions`: open, show, step up, change and end one session.

mod bodies;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use shared::id::{SessionId, TenantId};

use self::bodies::{OpenBody, OpenedBody, RevokeBody, ScopeBody, StepUpBody};
use super::{
    App,
    answers::{Changed, SessionView},
    caller::{Caller, Target},
    error::{Problem, ProblemBody, no_store},
    extract::{Body, Segment},
    schema,
};
use crate::service::open::Opened;

/// `POST /v1/sessions`: opens a session.
///
/// 1. malformed body: 400, other media type: 415, too large: 413
/// 2. the subject is disabled, or the key is bound to another tenant: 403
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
    caller: Caller,
    Body(body): Body<OpenBody>,
) -> Result<Created, Problem> {
    caller.check(body.tenant.as_ref())?;
    let tenant = body.tenant.clone();
    Ok(created(&app, app.service.open(body.try_into()?).await?, tenant))
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
) -> Result<Created, Problem> {
    Ok(created(&app, app.service.step_up(sid, body.try_into()?).await?, None))
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
    responses(
        (status = 200, description = "It has this scope.", body = Changed),
        (status = 409, description = "The session is over.", body = ProblemBody,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn set_scope(
    State(app): State<App>,
    Segment(sid): Segment<SessionId>,
    Body(body): Body<ScopeBody>,
) -> Result<Json<Changed>, Problem> {
    Ok(Json(app.service.set_scope(sid, body.scope).await?.into()))
}

type Created = (StatusCode, HeaderMap, Extension<Target>, Json<OpenedBody>);

fn created(app: &App, opened: Opened, tenant: Option<TenantId>) -> Created {
    let target = Target { target: format!("session:{}", opened.session_id), tenant };
    let mut headers = HeaderMap::new();
    no_store(&mut headers);
    (StatusCode::CREATED, headers, Extension(target), Json(OpenedBody::new(opened, app.0.cookies())))
}
