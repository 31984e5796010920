//! `/v1/keys`: the keys that sign tokens.

use axum::{Json, extract::State};

use super::{
    App,
    answers::Changed,
    error::Problem,
    extract::{Body, Segment},
    schema,
    subjects::Nothing,
};
use crate::keys::KeysView;

/// `GET /v1/keys`: names, states and times of the token keys, and the public feed keys.
#[utoipa::path(
    get, path = "/v1/keys", operation_id = "list_keys", tag = "keys",
    security(("api_key" = ["keys:read"])),
    responses((status = 200, description = "The keys.", body = KeysView))
)]
pub(super) async fn show(State(app): State<App>) -> Json<KeysView> {
    Json(app.service.signing_keys())
}

/// `POST /v1/keys/rotate`: the key that stands by signs as soon as it was published for the lead time
/// (`tokens.key_lead_s`); the one before it is kept until its last token has expired. No valid token is refused.
///
/// 1. a rotation is on its way: 200, and nothing changes
/// 2. there are as many keys as there may be: 409
/// 3. the store failed: 503
/// 4. 200 with the keys
#[utoipa::path(
    post, path = "/v1/keys/rotate", operation_id = "rotate_keys", tag = "keys",
    security(("api_key" = ["keys:write"])),
    request_body = Nothing,
    responses((status = 200, description = "The keys.", body = KeysView))
)]
pub(super) async fn rotate(State(app): State<App>, _: Body<Nothing>) -> Result<Json<KeysView>, Problem> {
    Ok(Json(app.service.rotate_keys().await?))
}

/// `POST /v1/keys/{kid}/revoke`: for a key that others may know. Every token that it signed is refused at once, here and
/// at every gate, and another key signs; sessions go on with their refresh tokens. May be repeated.
///
/// 1. there is no such key, and none of this name was revoked: 404
/// 2. the floor may not be written: 503
/// 3. 200 with the floor
#[utoipa::path(
    post, path = "/v1/keys/{kid}/revoke", operation_id = "revoke_key", tag = "keys",
    security(("api_key" = ["keys:write"])),
    params(("kid" = schema::KeyName, Path)),
    request_body = Nothing,
    responses((status = 200, description = "Its tokens are refused.", body = Changed))
)]
pub(super) async fn revoke(
    State(app): State<App>,
    Segment(kid): Segment<String>,
    _: Body<Nothing>,
) -> Result<Json<Changed>, Problem> {
    Ok(Json(app.service.revoke_key(&kid).await?.into()))
}
