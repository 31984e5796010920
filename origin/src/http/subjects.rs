//! `/v1/subjects`, `/v1/tenants` and `/v1/everyone`: roles, sign out everywhere, disable and enable.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use shared::id::{Role, SessionId, SubjectId, TenantId};
use utoipa::ToSchema;

use super::{
    App,
    answers::{Changed, SessionView, SubjectView},
    error::Problem,
    extract::{Body, Query, Segment},
    paging::{self, PageQuery},
    schema,
};
use crate::service::{everyone::EveryoneCommand, subjects::Command};

/// The new roles of a subject, all of them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RolesBody {
    #[schema(value_type = Vec<schema::RoleName>, max_items = 16)]
    roles: Vec<Role>,
}

/// Which session is kept.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeAllBody {
    /// This session goes on.
    #[schema(value_type = Option<schema::SessionIdText>)]
    except: Option<SessionId>,
}

/// A body that has to be empty or `{}`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Sessions of a subject, those that expire last first.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionList {
    sessions: Vec<SessionView>,
    /// Where the next page starts; null on the last. A page may be short, or empty, before that.
    next_cursor: Option<String>,
}

/// `GET /v1/subjects/{sub}`: status, roles and version.
///
/// 200; 404 if the subject never had a session; 503 if the store does not answer.
#[utoipa::path(
    get, path = "/v1/subjects/{sub}", operation_id = "show_subject", tag = "subjects",
    security(("api_key" = ["subjects:read"])),
    params(("sub" = schema::SubjectName, Path)),
    responses((status = 200, description = "The subject.", body = SubjectView))
)]
pub(super) async fn show(
    State(app): State<App>,
    Segment(subject): Segment<SubjectId>,
) -> Result<Json<SubjectView>, Problem> {
    Ok(Json(app.service.subject(subject).await?.into()))
}

/// `GET /v1/subjects/{sub}/sessions`: the sessions of a subject that are still open.
///
/// 200, an empty list if there are none; 400 for a malformed query; 503 if the store does not answer.
#[utoipa::path(
    get, path = "/v1/subjects/{sub}/sessions", operation_id = "list_sessions_of_subject", tag = "subjects",
    security(("api_key" = ["sessions:read"])),
    params(("sub" = schema::SubjectName, Path), PageQuery),
    responses((status = 200, description = "A page of its open sessions.", body = SessionList))
)]
pub(super) async fn sessions(
    State(app): State<App>,
    Segment(subject): Segment<SubjectId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<SessionList>, Problem> {
    let page = app.service.sessions_of(&subject, query.after(), query.limit()?).await?;
    let sessions = page.sessions.into_iter().map(SessionView::from).collect();
    Ok(Json(SessionList { sessions, next_cursor: paging::cursor(page.next) }))
}

/// `POST /v1/subjects/{sub}/revoke`: ends every session of a subject, or all but one, with one floor; may be repeated.
///
/// 1. the subject never had a session: 404
/// 2. the session to keep is over or of another subject: 409, and nothing is ended
/// 3. either write may be missing: 503
/// 4. 200 with the floors that were raised; tokens of the session that was kept have to be renewed
#[utoipa::path(
    post, path = "/v1/subjects/{sub}/revoke", operation_id = "revoke_subject", tag = "subjects",
    security(("api_key" = ["subjects:write"])),
    params(("sub" = schema::SubjectName, Path)),
    request_body = RevokeAllBody,
    responses((status = 200, description = "Its sessions are ended.", body = Changed))
)]
pub(super) async fn revoke(
    app: State<App>,
    subject: Segment<SubjectId>,
    Body(body): Body<RevokeAllBody>,
) -> Result<Json<Changed>, Problem> {
    change(app, subject, body.except.map_or(Command::RevokeSessions, Command::RevokeOthers)).await
}

/// `POST /v1/subjects/{sub}/disable`: as revoke, and no session opens until enabled again.
#[utoipa::path(
    post, path = "/v1/subjects/{sub}/disable", operation_id = "disable_subject", tag = "subjects",
    security(("api_key" = ["subjects:write"])),
    params(("sub" = schema::SubjectName, Path)),
    request_body = Nothing,
    responses((status = 200, description = "It is disabled.", body = Changed))
)]
pub(super) async fn disable(
    app: State<App>,
    subject: Segment<SubjectId>,
    _: Body<Nothing>,
) -> Result<Json<Changed>, Problem> {
    change(app, subject, Command::Disable).await
}

/// `POST /v1/subjects/{sub}/enable`: sessions may be opened again; ended ones stay ended.
#[utoipa::path(
    post, path = "/v1/subjects/{sub}/enable", operation_id = "enable_subject", tag = "subjects",
    security(("api_key" = ["subjects:write"])),
    params(("sub" = schema::SubjectName, Path)),
    request_body = Nothing,
    responses((status = 200, description = "It is enabled.", body = Changed))
)]
pub(super) async fn enable(
    app: State<App>,
    subject: Segment<SubjectId>,
    _: Body<Nothing>,
) -> Result<Json<Changed>, Problem> {
    change(app, subject, Command::Enable).await
}

/// `PUT /v1/subjects/{sub}/roles`: replaces the roles; tokens with the old ones fall under a floor.
///
/// As revoke; 400 for a malformed role, 422 for too many.
#[utoipa::path(
    put, path = "/v1/subjects/{sub}/roles", operation_id = "set_roles", tag = "subjects",
    security(("api_key" = ["subjects:write"])),
    params(("sub" = schema::SubjectName, Path)),
    request_body = RolesBody,
    responses((status = 200, description = "It has these roles.", body = Changed))
)]
pub(super) async fn set_roles(
    app: State<App>,
    subject: Segment<SubjectId>,
    Body(body): Body<RolesBody>,
) -> Result<Json<Changed>, Problem> {
    change(app, subject, Command::SetRoles(body.roles)).await
}

/// `POST /v1/tenants/{tid}/revoke`: ends every session of a tenant with one floor; may be repeated.
#[utoipa::path(
    post, path = "/v1/tenants/{tid}/revoke", operation_id = "revoke_tenant", tag = "tenants",
    security(("api_key" = ["tenants:write"])),
    params(("tid" = schema::TenantName, Path)),
    request_body = Nothing,
    responses((status = 200, description = "Its sessions are ended.", body = Changed))
)]
pub(super) async fn revoke_tenant(
    State(app): State<App>,
    Segment(tenant): Segment<TenantId>,
    _: Body<Nothing>,
) -> Result<Json<Changed>, Problem> {
    Ok(Json(app.service.revoke_tenant(tenant).await?.into()))
}

/// `POST /v1/everyone/revoke`: ends every session of the deployment with one floor; may be repeated.
///
/// 200 with the floor that was raised, once log and record are written; 503 if either may be missing.
#[utoipa::path(
    post, path = "/v1/everyone/revoke", operation_id = "revoke_everyone", tag = "everyone",
    security(("api_key" = ["everyone:write"])),
    request_body = Nothing,
    responses((status = 200, description = "Everyone's sessions are ended.", body = Changed))
)]
pub(super) async fn revoke_everyone(State(app): State<App>, _: Body<Nothing>) -> Result<Json<Changed>, Problem> {
    Ok(Json(app.service.change_everyone(EveryoneCommand::EndSessions).await?.into()))
}

/// `POST /v1/everyone/renew`: every token has to be renewed, so that the roles and the policy of now hold at once;
/// sessions that they allow go on. As revoke.
#[utoipa::path(
    post, path = "/v1/everyone/renew", operation_id = "renew_everyone", tag = "everyone",
    security(("api_key" = ["everyone:write"])),
    request_body = Nothing,
    responses((status = 200, description = "Everyone's tokens have to be renewed.", body = Changed))
)]
pub(super) async fn renew_everyone(State(app): State<App>, _: Body<Nothing>) -> Result<Json<Changed>, Problem> {
    Ok(Json(app.service.change_everyone(EveryoneCommand::RenewTokens).await?.into()))
}

async fn change(
    State(app): State<App>,
    Segment(subject): Segment<SubjectId>,
    command: Command,
) -> Result<Json<Changed>, Problem> {
    Ok(Json(app.service.change_subject(subject, command).await?.into()))
}
