//! A key that is bound to a tenant touches and sees nothing of another (SES-15).
//!
//! Invariant: a call that is not known here to stay within one tenant is refused to a bounded key.

use axum::{
    RequestPartsExt as _,
    extract::RawPathParams,
    http::{StatusCode, request::Parts},
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

/// Refuses what is not of the tenant that the key is bound to.
///
/// # Errors
///
/// 404 for what is of another tenant or of none, as if it was not there; 403 for calls that concern more than a tenant.
pub(super) async fn check(app: &App, call: &Call, parts: &mut Parts) -> Result<(), Problem> {
    let Some(own) = call.caller.tenant() else { return Ok(()) };
    if MINDED_BY_HANDLER.contains(&call.operation.id.as_str()) {
        return Ok(());
    }
    let not_found = || Problem::from(ServiceError::NotFound);
    let params = parts.extract::<RawPathParams>().await.map_err(|_| not_found())?;
    for (name, value) in &params {
        let tenant: Option<TenantId> = match kind(name) {
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
        };
        return if tenant.as_ref() == Some(own) { Ok(()) } else { Err(not_found()) };
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "this API key is bound to a tenant, and this call concerns all of them"))
}
