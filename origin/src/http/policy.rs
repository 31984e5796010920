//! `/v1/policy`: the route policy of the gates.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{App, error::Problem, extract::Body, subjects::Nothing};
use crate::policies::{CurrentPolicy, POLICY_BYTES_MAX};

/// A policy.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyBody {
    /// TOML, of the form that the edge is built with.
    #[schema(max_length = 49152)]
    policy: String,
}

const _: () = assert!(POLICY_BYTES_MAX == 49_152, "the document says so");

/// The policy that counts.
#[derive(Serialize, ToSchema)]
pub(super) struct PolicyView {
    /// As replicas tell it; 0 if there never was a policy here.
    version: String,
    /// TOML; null where every gate judges by the policy that it was built with.
    policy: Option<String>,
}

impl From<&CurrentPolicy> for PolicyView {
    fn from(policy: &CurrentPolicy) -> Self {
        Self { version: policy.version().to_string(), policy: policy.text().map(ToOwned::to_owned) }
    }
}

/// `GET /v1/policy`: the policy that gates get with the feed.
#[utoipa::path(
    get, path = "/v1/policy", operation_id = "show_policy", tag = "policy",
    security(("api_key" = ["policy:read"])),
    responses((status = 200, description = "The policy.", body = PolicyView))
)]
pub(super) async fn show(State(app): State<App>) -> Json<PolicyView> {
    Json(PolicyView::from(&*app.feed.policies().current()))
}

/// `PUT /v1/policy`: every gate of the feed judges by this policy as soon as it hears of it, and keeps it over restarts.
///
/// 1. the text is no policy: 422 that names line and field; nothing changes
/// 2. the store failed: 503
/// 3. 200 with the policy
#[utoipa::path(
    put, path = "/v1/policy", operation_id = "set_policy", tag = "policy",
    security(("api_key" = ["policy:write"])),
    request_body = PolicyBody,
    responses((status = 200, description = "Gates get it.", body = PolicyView))
)]
pub(super) async fn set(State(app): State<App>, Body(body): Body<PolicyBody>) -> Result<Json<PolicyView>, Problem> {
    Ok(Json(PolicyView::from(&*app.feed.set_policy(Some(body.policy)).await?)))
}

/// `POST /v1/policy/withdraw`: every gate of the feed judges by the policy again that it was built with.
///
/// 1. the store failed: 503
/// 2. 200
#[utoipa::path(
    post, path = "/v1/policy/withdraw", operation_id = "withdraw_policy", tag = "policy",
    security(("api_key" = ["policy:write"])),
    request_body = Nothing,
    responses((status = 200, description = "Gates go back.", body = PolicyView))
)]
pub(super) async fn withdraw(State(app): State<App>, _: Body<Nothing>) -> Result<Json<PolicyView>, Problem> {
    Ok(Json(PolicyView::from(&*app.feed.set_policy(None).await?)))
}
