//! `/v1/me`: what a user may see and do with an access token. The gate passes it on for browsers.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use serde::Serialize;
use shared::{id::SessionId, session::Device};
use utoipa::ToSchema;

use super::{
    App,
    acts::{self, Ended},
    error::{Problem, no_store},
    extract::{Query, SEVERAL_CREDENTIALS, Segment, authorization, bearer},
    paging::{self, PageQuery},
    schema,
};
use crate::service::{
    own::{OwnError, User},
    sessions::SessionState,
};

/// The devices of the user who asks.
#[derive(Serialize, ToSchema)]
pub(super) struct DeviceList {
    devices: Vec<DeviceView>,
    /// Where the next page starts; null on the last. A page may be short, or empty, before that.
    next_cursor: Option<String>,
}

/// A device, as its user would know it.
#[derive(Serialize, ToSchema)]
struct DeviceView {
    #[schema(value_type = schema::SessionIdText)]
    session_id: SessionId,
    /// Whether it is the one that asks.
    current: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    device: Option<Device>,
    #[schema(value_type = schema::ClientName)]
    client_id: shared::id::ClientId,
    /// Unix seconds.
    opened_at: u64,
    /// The last refresh, Unix seconds, to the minute.
    last_seen_at: u64,
}

/// `GET /v1/me/sessions`: the devices of the user.
///
/// 1. no access token: 401; one that counts for nothing: 401 `invalid_token`; two headers, or a malformed query: 400
/// 2. the store does not answer: 503
/// 3. 200, never cached
#[utoipa::path(
    get, path = "/v1/me/sessions", operation_id = "list_own_sessions", tag = "me",
    security(("access_token" = [])),
    params(PageQuery),
    responses((status = 200, description = "A page of the open sessions of the user.", body = DeviceList))
)]
pub(super) async fn sessions(
    State(app): State<App>,
    headers: HeaderMap,
    Query(query): Query<PageQuery>,
) -> Result<(HeaderMap, Json<DeviceList>), Problem> {
    let user = user(&app, &headers).await?;
    let (page, current) = app.service.own_sessions(&user, query.after(), query.limit()?).await?;
    let devices = page.sessions.into_iter().map(|state| DeviceView::new(state, current)).collect();
    Ok((never_cached(), Json(DeviceList { devices, next_cursor: paging::cursor(page.next) })))
}

/// `POST /v1/me/sessions/{sid}/revoke`: ends a device of the user; may be repeated.
///
/// 1. as for the list; a user who did not authenticate lately: 401 `insufficient_user_authentication` (RFC 9470 §3)
/// 2. no such session of this user: 404
/// 3. either write may be missing: 503
/// 4. 204
#[utoipa::path(
    post, path = "/v1/me/sessions/{sid}/revoke", operation_id = "revoke_own_session", tag = "me",
    security(("access_token" = [])),
    params(("sid" = schema::SessionIdText, Path)),
    responses((status = 204, description = "It is ended."))
)]
pub(super) async fn revoke(
    State(app): State<App>,
    Segment(sid): Segment<SessionId>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let user = user(&app, &headers).await?;
    let ended = app.service.end_own(&user, sid).await.map_err(Problem::from);
    noted(&app, &user, "revoke_own_session", sid, ended).await
}

/// `POST /v1/me/sign-out`: ends the session of the access token.
///
/// 401 and 503 as above; 204.
#[utoipa::path(
    post, path = "/v1/me/sign-out", operation_id = "sign_out", tag = "me",
    security(("access_token" = [])),
    responses((status = 204, description = "The session is ended."))
)]
pub(super) async fn sign_out(State(app): State<App>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let user = user(&app, &headers).await?;
    let ended = app.service.sign_out(&user).await.map_err(Problem::from);
    noted(&app, &user, "sign_out", user.session(), ended).await
}

/// Notes what a user did or was refused.
async fn noted(
    app: &App,
    user: &User,
    action: &'static str,
    session: SessionId,
    ended: Result<(), Problem>,
) -> Result<StatusCode, Problem> {
    let status = ended.as_ref().err().map_or(StatusCode::NO_CONTENT, Problem::status);
    let actor = format!("subject:{}", user.subject());
    acts::note(app, Ended { actor, action, session, tenant: user.tenant(), status }).await;
    ended.map(|()| status)
}

async fn user(app: &App, headers: &HeaderMap) -> Result<User, Problem> {
    let several = |_| Problem::new(StatusCode::BAD_REQUEST, SEVERAL_CREDENTIALS);
    let Some(value) = authorization(headers).map_err(several)? else {
        return Err(unauthorized("this needs an access token", r#"Bearer realm="portcullis""#));
    };
    match bearer(value).and_then(|token| std::str::from_utf8(token).ok()) {
        Some(token) => Ok(app.service.user(token).await?),
        None => Err(OwnError::Token.into()),
    }
}

fn never_cached() -> HeaderMap {
    let mut headers = HeaderMap::new();
    no_store(&mut headers);
    headers
}

fn unauthorized(detail: &'static str, challenge: &str) -> Problem {
    let problem = Problem::new(StatusCode::UNAUTHORIZED, detail);
    match HeaderValue::from_str(challenge) {
        Ok(challenge) => problem.with(header::WWW_AUTHENTICATE, challenge),
        Err(_) => problem,
    }
}

impl From<OwnError> for Problem {
    fn from(error: OwnError) -> Self {
        match error {
            OwnError::Token => unauthorized(
                "the access token is malformed, expired or revoked",
                r#"Bearer realm="portcullis", error="invalid_token""#,
            ),
            OwnError::NotRecent(max_age) => unauthorized(
                "this needs a more recent authentication",
                &format!(r#"Bearer realm="portcullis", error="insufficient_user_authentication", max_age="{max_age}""#),
            ),
            OwnError::Service(error) => error.into(),
        }
    }
}

impl DeviceView {
    fn new(SessionState { id, session, .. }: SessionState, current: SessionId) -> Self {
        Self {
            session_id: id,
            current: id == current,
            last_seen_at: session.last_seen_at().as_secs(),
            device: session.device,
            client_id: session.client_id,
            opened_at: session.opened_at.as_secs(),
        }
    }
}
