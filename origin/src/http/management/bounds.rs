//! A key that is bound to a tenant touches and sees nothing of another (SES-15).
//!
//! Invariant: a call that is not known here to stay within one tenant is refused to a bounded key.

use axum::{
    RequestPartsExt as _,
    extract::RawPathParams,
    http::{Method, StatusCode, request::Parts},
};
use shared::id::TenantId;

use super::{Call, Problem};
use crate::{http::App, service::ServiceError};

/// Calls whose handlers mind the bound themselves: they take the caller as an argument.
const MINDED_BY_HANDLER: [&str; 7] = [
    "open_session",
    "find_audit_entries",
    "list_api_keys",
    "create_api_key",
    "show_api_key",
    "rotate_api_key",
    "remove_api_key",
];

/// What a parameter of a path names.
pub(super) fn kind(parameter: &str) -> &str {
    match parameter {
        "sid" => "session",
        "sub" => "subject",
        "tid" => "tenant",
        other => other,
    }
}

/// Refuses what is not of the tenant that the key is bound to. Of which tenant that is which an act concerns, if it is of
/// one, for the trail.
///
/// # Errors
///
/// 404 for what is of another tenant or of none, as if it was not there; 403 for calls that concern more than a tenant.
pub(super) async fn check(app: &App, call: &Call, parts: &mut Parts) -> Result<Option<TenantId>, Problem> {
    let Some(own) = call.caller.tenant() else {
        let is_act = parts.method != Method::GET;
        // An act on what is not there is refused by its handler, and is in the trail all the same.
        return Ok(if is_act { concerned(app, parts).await.ok().flatten().flatten() } else { None });
    };
    if MINDED_BY_HANDLER.contains(&call.operation.id.as_str()) {
        return Ok(None);
    }
    match concerned(app, parts).await? {
        Some(tenant) if tenant.as_ref() == Some(own) => Ok(tenant),
        Some(_) => Err(ServiceError::NotFound.into()),
        None => {
            let detail = "this API key is bound to a tenant, and this call concerns all of them";
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
    }
}

/// The tenant of what the path names; none if it names nothing that is of a tenant.
async fn concerned(app: &App, parts: &mut Parts) -> Result<Option<Option<TenantId>>, Problem> {
    let not_found = || Problem::from(ServiceError::NotFound);
    let params = parts.extract::<RawPathParams>().await.map_err(|_| not_found())?;
    for (name, value) in &params {
        return Ok(Some(match kind(name) {
            "tenant" => value.parse().ok(),
            "session" => {
                let id = value.parse().map_err(|_| not_found())?;
                app.service.session(id).await?.session.tenant
            }
            "subject" => {
                let id = value.parse().map_err(|_| not_found())?;
                app.service.subject(id).await?.tenant.clone()
            }
            _ => continue,
        }));
    }
    Ok(None)
}
