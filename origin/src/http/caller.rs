//! Who makes a management call.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use shared::id::TenantId;

use super::error::Problem;
use crate::apikeys::{ApiKey, Scopes};

/// The actor of the management key, with which the first API keys are made.
const BOOTSTRAP: &str = "bootstrap";

/// Who makes a management call; handlers take it as an argument.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// The holder of the management key: may do everything.
    Bootstrap,
    /// The holder of an API key.
    Key(Arc<ApiKey>),
}

impl Caller {
    /// As the audit trail names it.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::Bootstrap => BOOTSTRAP.to_owned(),
            Self::Key(key) => key.id.to_string(),
        }
    }

    /// The one tenant that it may touch or see; none for all.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Bootstrap => None,
            Self::Key(key) => key.tenant.as_ref(),
        }
    }

    /// Whether it has all of these scopes. A call that names none is for the management key alone.
    pub(crate) fn has(&self, scopes: Option<&Scopes>) -> bool {
        match self {
            Self::Bootstrap => true,
            Self::Key(key) => scopes.is_some_and(|scopes| scopes.is_subset(&key.scopes)),
        }
    }

    /// Whether it may see what belongs to a tenant, or to none.
    pub(crate) fn sees(&self, tenant: Option<&TenantId>) -> bool {
        self.tenant().is_none_or(|own| Some(own) == tenant)
    }

    /// Refuses to touch what belongs to another tenant, or to none.
    pub(crate) fn check(&self, tenant: Option<&TenantId>) -> Result<(), Problem> {
        let detail = "this API key is bound to another tenant";
        if self.sees(tenant) { Ok(()) } else { Err(Problem::new(StatusCode::FORBIDDEN, detail)) }
    }
}

/// A call that passed no guard has no caller; every route that takes one is behind it.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "this call needs an API key"))
    }
}

/// What a handler acted on, and of which tenant that is, where the path does not say it; goes into the answer's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) target: String,
    pub(crate) tenant: Option<TenantId>,
}
