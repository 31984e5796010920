//! `/v1/apikeys`: the keys of this API.
//!
//! Invariant: a key makes, rotates and removes only keys that may do no more than itself.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use shared::{id::TenantId, time::Timestamp};
use utoipa::ToSchema;

use super::{
    App,
    caller::{Caller, Target},
    error::{Problem, no_store},
    extract::{Body, Query, Segment},
    integer,
    paging::{self, PageQuery, Place},
    schema,
};
use crate::{
    apikeys::{ApiKey, ApiKeyError, ApiKeyId, Issued, NewKey, Scope, Scopes},
    shell,
};

/// The longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The longest life of a key, and the longest that an old secret counts after a rotation.
const LIFE_S_MAX: u64 = 5 * 366 * 86_400;
const OVERLAP_S_MAX: u64 = 30 * 86_400;

/// The key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateBody {
    /// For people.
    #[schema(min_length = 1, max_length = 64, pattern = "^[ -~]+$")]
    name: String,
    /// What it may do.
    #[schema(value_type = Vec<Scope>, min_items = 1)]
    scopes: Scopes,
    /// The one tenant that it may touch; all, if left out.
    #[schema(value_type = Option<schema::TenantName>)]
    tenant: Option<TenantId>,
    /// After how many seconds it ends; never, if left out.
    #[serde(default, deserialize_with = "integer::optional")]
    #[schema(minimum = 60, maximum = 158_112_000)]
    expires_in_s: Option<u64>,
}

/// How a key is rotated.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateBody {
    /// For how many seconds the secret of before still counts.
    #[serde(default = "a_day", deserialize_with = "integer::required")]
    #[schema(minimum = 0, maximum = 2_592_000, default = 86_400)]
    overlap_s: u64,
}

fn a_day() -> u64 {
    86_400
}

/// A key, without its secret. Times are Unix seconds.
#[derive(Serialize, ToSchema)]
pub(super) struct ApiKeyView {
    #[schema(value_type = schema::ApiKeyIdText)]
    id: ApiKeyId,
    name: String,
    #[schema(value_type = Vec<Scope>)]
    scopes: Scopes,
    #[schema(value_type = Option<schema::TenantName>)]
    tenant: Option<TenantId>,
    created_at: u64,
    /// The actor that made it.
    created_by: String,
    expires_at: Option<u64>,
    /// An hour late at most.
    last_used_at: Option<u64>,
    /// When the secret of before the last rotation ends.
    previous_secret_expires_at: Option<u64>,
}

/// A key with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct IssuedBody {
    #[serde(flatten)]
    about: ApiKeyView,
    /// To be sent as a bearer token.
    key: String,
}

/// Keys, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct ApiKeyList {
    api_keys: Vec<ApiKeyView>,
    /// Where the next page starts; null on the last.
    next_cursor: Option<String>,
}

type IssuedAnswer = (StatusCode, HeaderMap, Extension<Target>, Json<IssuedBody>);

/// `POST /v1/apikeys`: makes a key.
///
/// 1. malformed body: 400; a name, time or scope that is not allowed: 422
/// 2. the caller lacks one of the scopes, or is bound to another tenant: 403
/// 3. there are too many keys: 409; the store failed, and the key may exist without anyone holding it: 503
/// 4. 201 with the key, which is not shown again
#[utoipa::path(
    post, path = "/v1/apikeys", operation_id = "create_api_key", tag = "apikeys",
    security(("api_key" = ["apikeys:write"])),
    request_body = CreateBody,
    responses((status = 201, description = "The key, shown this once.", body = IssuedBody))
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<CreateBody>,
) -> Result<IssuedAnswer, Problem> {
    caller.check(body.tenant.as_ref())?;
    check_power(&caller, &body.scopes)?;
    let now = shell::now();
    let new = new_key(body, &caller, now)?;
    Ok(issued(StatusCode::CREATED, app.0.api_keys.create(new, now).await?))
}

/// `GET /v1/apikeys`: the keys that the caller sees.
#[utoipa::path(
    get, path = "/v1/apikeys", operation_id = "list_api_keys", tag = "apikeys",
    security(("api_key" = ["apikeys:read"])),
    params(PageQuery),
    responses((status = 200, description = "A page of keys.", body = ApiKeyList))
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<ApiKeyList>, Problem> {
    let limit = query.limit()?;
    let seen = app.0.api_keys.list().await?.into_iter().filter(|key| caller.sees(key.tenant.as_ref())).collect();
    let place = |key: &ApiKey| Place { at: key.created_at, id: *key.id.as_bytes() };
    let (keys, next_cursor) = paging::page(seen, place, query.cursor, limit);
    Ok(Json(ApiKeyList { api_keys: keys.into_iter().map(ApiKeyView::from).collect(), next_cursor }))
}

/// `GET /v1/apikeys/{api_key}`: one key.
#[utoipa::path(
    get, path = "/v1/apikeys/{api_key}", operation_id = "show_api_key", tag = "apikeys",
    security(("api_key" = ["apikeys:read"])),
    params(("api_key" = schema::ApiKeyIdText, Path)),
    responses((status = 200, description = "The key.", body = ApiKeyView))
)]
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment<ApiKeyId>,
) -> Result<Json<ApiKeyView>, Problem> {
    Ok(Json(seen(&app, &caller, id).await?.into()))
}

/// `POST /v1/apikeys/{api_key}/rotate`: gives a key a new secret; the one of before counts for a while.
///
/// 1. the key is not there, or not seen by the caller: 404; it may do more than the caller: 403
/// 2. an overlap that is not allowed: 422
/// 3. 200 with the key, which is not shown again; the store failed: 503, and the call may be repeated
#[utoipa::path(
    post, path = "/v1/apikeys/{api_key}/rotate", operation_id = "rotate_api_key", tag = "apikeys",
    security(("api_key" = ["apikeys:write"])),
    params(("api_key" = schema::ApiKeyIdText, Path)),
    request_body = RotateBody,
    responses((status = 200, description = "The key with its new secret, shown this once.", body = IssuedBody))
)]
pub(super) async fn rotate(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment<ApiKeyId>,
    Body(body): Body<RotateBody>,
) -> Result<IssuedAnswer, Problem> {
    check_power(&caller, &seen(&app, &caller, id).await?.scopes)?;
    if body.overlap_s > OVERLAP_S_MAX {
        return Err(invalid(format!("overlap_s must be 0 to {OVERLAP_S_MAX}")));
    }
    let overlap = Duration::from_secs(body.overlap_s);
    Ok(issued(StatusCode::OK, app.0.api_keys.rotate(id, overlap, shell::now()).await?))
}

/// `DELETE /v1/apikeys/{api_key}`: ends a key; other origins accept it for 2 s more.
///
/// 204; 404 if it is not there, or not seen by the caller; 403 if it may do more than the caller.
#[utoipa::path(
    delete, path = "/v1/apikeys/{api_key}", operation_id = "remove_api_key", tag = "apikeys",
    security(("api_key" = ["apikeys:write"])),
    params(("api_key" = schema::ApiKeyIdText, Path)),
    responses((status = 204, description = "It no longer counts."))
)]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Segment(id): Segment<ApiKeyId>,
) -> Result<(StatusCode, Extension<Target>), Problem> {
    let key = seen(&app, &caller, id).await?;
    check_power(&caller, &key.scopes)?;
    app.0.api_keys.remove(id, shell::now()).await?;
    Ok((StatusCode::NO_CONTENT, target(&key)))
}

async fn seen(app: &App, caller: &Caller, id: ApiKeyId) -> Result<ApiKey, Problem> {
    let key = app.0.api_keys.show(id).await?;
    if caller.sees(key.tenant.as_ref()) { Ok(key) } else { Err(ApiKeyError::NotFound.into()) }
}

/// Otherwise a key could make, or rotate and so hold, one that may do more.
fn check_power(caller: &Caller, scopes: &Scopes) -> Result<(), Problem> {
    let detail = "an API key cannot make or change one that may do more than itself";
    if caller.has(Some(scopes)) { Ok(()) } else { Err(Problem::new(StatusCode::FORBIDDEN, detail)) }
}

fn new_key(body: CreateBody, caller: &Caller, now: Timestamp) -> Result<NewKey, Problem> {
    let is_printable = body.name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if body.name.is_empty() || body.name.len() > NAME_BYTES_MAX || !is_printable {
        return Err(invalid(format!("name must have 1 to {NAME_BYTES_MAX} printable ASCII characters")));
    }
    if body.scopes.is_empty() {
        return Err(invalid("scopes must name at least one scope"));
    }
    if body.expires_in_s.is_some_and(|seconds| !(60..=LIFE_S_MAX).contains(&seconds)) {
        return Err(invalid(format!("expires_in_s must be 60 to {LIFE_S_MAX}")));
    }
    let expires_at = body.expires_in_s.map(|seconds| now.saturating_add(Duration::from_secs(seconds)));
    Ok(NewKey { name: body.name, scopes: body.scopes, tenant: body.tenant, expires_at, created_by: caller.id() })
}

fn target(key: &ApiKey) -> Extension<Target> {
    Extension(Target { target: format!("api_key:{}", key.id), tenant: key.tenant.clone() })
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

fn issued(status: StatusCode, issued: Issued) -> IssuedAnswer {
    let mut headers = HeaderMap::new();
    no_store(&mut headers);
    let target = target(&issued.key);
    (status, headers, target, Json(IssuedBody { about: issued.key.into(), key: issued.text }))
}

impl From<ApiKey> for ApiKeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            previous_secret_expires_at: key.previous_secret_expires_at(),
            id: key.id,
            name: key.name,
            scopes: key.scopes,
            tenant: key.tenant,
            created_at: key.created_at,
            created_by: key.created_by,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
        }
    }
}
