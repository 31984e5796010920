//! `/v1/sessions/{sid}/fields`: the application's short memory of a session, written by compare-and-swap.
//!
//! The entity tag is the revision of the fields; a write names the one that it builds on (RFC 9110 §13.1.1).

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use serde::{Deserialize, Serialize};
use shared::{id::SessionId, session::Fields};
use utoipa::ToSchema;

use super::{
    App,
    error::{Problem, ProblemBody},
    extract::{Body, Segment},
    schema,
};
use crate::service::{ServiceError, changes::FieldsState};

/// All fields, in place of those before.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldsBody {
    #[schema(value_type = schema::FieldsMap)]
    fields: BTreeMap<String, String>,
}

/// The fields as they are.
#[derive(Serialize, ToSchema)]
pub(super) struct FieldsView {
    #[schema(value_type = schema::FieldsMap)]
    fields: BTreeMap<String, String>,
    revision: u32,
}

/// `GET /v1/sessions/{sid}/fields`: 200 with the fields and their `ETag`; 404; 409 if the session is over; 503.
#[utoipa::path(
    get, path = "/v1/sessions/{sid}/fields", operation_id = "show_fields", tag = "sessions",
    security(("api_key" = ["sessions:read"])),
    params(("sid" = schema::SessionIdText, Path)),
    responses(
        (status = 200, description = "The fields, and their revision as ETag.", body = FieldsView),
        (status = 409, description = "The session is over.", body = ProblemBody,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(app): State<App>,
    Segment(sid): Segment<SessionId>,
) -> Result<(HeaderMap, Json<FieldsView>), Problem> {
    Ok(answer(app.service.fields(sid).await?))
}

/// `PUT /v1/sessions/{sid}/fields`: replaces the fields; may be repeated.
///
/// 1. no `If-Match`: 428 (RFC 6585 §3); one that is not a tag of ours: 412
/// 2. malformed body: 400; too many fields, a name that is not allowed, or more than 256 bytes in all: 422
/// 3. no such session: 404; it is over: 409
/// 4. the fields were changed since: 412, and nothing is written
/// 5. 200 with the fields and their new `ETag`
#[utoipa::path(
    put, path = "/v1/sessions/{sid}/fields", operation_id = "set_fields", tag = "sessions",
    security(("api_key" = ["sessions:write"])),
    params(
        ("sid" = schema::SessionIdText, Path),
        ("If-Match" = schema::FieldsTag, Header, description = "The ETag of the fields as they were read."),
    ),
    request_body = FieldsBody,
    responses(
        (status = 200, description = "The fields, and their new revision as ETag.", body = FieldsView),
        (status = 409, description = "The session is over.", body = ProblemBody,
         content_type = "application/problem+json"),
        (status = 412, description = "They were changed since.", body = ProblemBody,
         content_type = "application/problem+json"),
        (status = 428, description = "If-Match is missing.", body = ProblemBody,
         content_type = "application/problem+json"),
    )
)]
pub(super) async fn set(
    State(app): State<App>,
    Segment(sid): Segment<SessionId>,
    headers: HeaderMap,
    Body(body): Body<FieldsBody>,
) -> Result<(HeaderMap, Json<FieldsView>), Problem> {
    let expected = expected(&headers)?;
    let fields = Fields::new(body.fields).map_err(ServiceError::from)?;
    Ok(answer(app.service.set_fields(sid, fields, expected).await?))
}

fn expected(headers: &HeaderMap) -> Result<u32, Problem> {
    let Some(tag) = headers.get(header::IF_MATCH) else {
        let detail = "the header If-Match must hold the ETag of the fields as they were read";
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, detail));
    };
    let revision = tag.to_str().ok().and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    let detail = "If-Match is not one ETag of these fields";
    revision.ok_or_else(|| Problem::new(StatusCode::PRECONDITION_FAILED, detail))
}

fn answer(state: FieldsState) -> (HeaderMap, Json<FieldsView>) {
    let mut headers = HeaderMap::new();
    // A quoted number is a header value.
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", state.revision)) {
        headers.insert(header::ETAG, tag);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (headers, Json(FieldsView { fields: state.fields.as_map().clone(), revision: state.revision }))
}
