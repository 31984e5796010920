//! What calls about sessions carry, and what they answer with.

use serde::{Deserialize, Serialize};
use shared::{
    cookie::session_cookie,
    id::{ClientId, Role, SessionId, SubjectId, TenantId},
    request::CookieNames,
    roster::OnLimit,
    session::{Device, EndReason, Initiator, MetadataError, Tier},
    time::Timestamp,
};
use utoipa::ToSchema;

use crate::{
    http::{extract::object, integer, schema},
    service::{
        ServiceError,
        open::{OpenSession, Opened},
        step_up::StepUpSession,
    },
};

/// What a login service knows after it authenticated someone.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct OpenBody {
    #[schema(value_type = schema::SubjectName)]
    subject: SubjectId,
    #[schema(value_type = schema::ClientName)]
    client_id: ClientId,
    #[schema(value_type = Option<schema::TenantName>)]
    pub(super) tenant: Option<TenantId>,
    /// Replaces the subject's roles if given.
    #[schema(value_type = Option<Vec<schema::RoleName>>, max_items = 16)]
    roles: Option<Vec<Role>>,
    #[schema(value_type = Option<schema::ScopeText>)]
    scope: Option<String>,
    #[schema(value_type = Option<schema::AuthenticationText>)]
    acr: Option<String>,
    #[serde(default)]
    #[schema(value_type = Vec<schema::AuthenticationText>)]
    amr: Vec<String>,
    /// Unix seconds; now, if left out.
    #[serde(default, deserialize_with = "integer::optional")]
    #[schema(maximum = 253_402_300_799u64)]
    auth_time: Option<u64>,
    /// Decides how long it may last; `sessions.tier` of the configuration, if left out.
    #[schema(value_type = Option<schema::TierName>)]
    tier: Option<Tier>,
    #[serde(default, deserialize_with = "object")]
    device: Option<DeviceBody>,
    /// What happens over `sessions.concurrent_max`, if there is such a limit.
    #[schema(value_type = Option<schema::OnLimitName>)]
    on_limit: Option<OnLimit>,
}

/// A device, as its user would know it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct DeviceBody {
    #[schema(value_type = Option<schema::DeviceName>)]
    name: Option<String>,
    /// Cut after 128 characters.
    user_agent: Option<String>,
}

/// What a login service knows after someone authenticated once more.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct StepUpBody {
    /// That of the session, if left out.
    #[schema(value_type = Option<schema::TierName>)]
    tier: Option<Tier>,
    /// That of the session, if left out.
    #[schema(value_type = Option<schema::ScopeText>)]
    scope: Option<String>,
    #[schema(value_type = Option<schema::AuthenticationText>)]
    acr: Option<String>,
    #[schema(value_type = Vec<schema::AuthenticationText>)]
    amr: Vec<String>,
    /// Unix seconds; now, if left out.
    #[serde(default, deserialize_with = "integer::optional")]
    #[schema(maximum = 253_402_300_799u64)]
    auth_time: Option<u64>,
    /// That of the session, if left out.
    #[serde(default, deserialize_with = "object")]
    device: Option<DeviceBody>,
}

/// The new scope of a session; none if null.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ScopeBody {
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(value_type = Option<schema::ScopeText>, required = true)]
    pub(super) scope: Option<String>,
}

/// A session and its first tokens.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct OpenedBody {
    #[schema(value_type = schema::SessionIdText)]
    session_id: SessionId,
    access_token: String,
    token_type: &'static str,
    /// Lifetime of the access token in seconds.
    expires_in: u64,
    refresh_token: String,
    /// Absolute end of the session, Unix seconds.
    expires_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// Ready-made `Set-Cookie` lines for a browser.
    set_cookie: Vec<String>,
}

/// Why a session is ended, and by whom.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RevokeBody {
    /// `revoked`, if left out.
    #[schema(value_type = Option<schema::ReasonName>)]
    reason: Option<String>,
    /// The user for `signed_out`, `replaced` and `credential_changed`, policy for `policy`, else admin; if left out.
    #[schema(value_type = Option<schema::InitiatorName>)]
    initiator: Option<Initiator>,
}

impl RevokeBody {
    pub(super) fn read(&self) -> Result<(EndReason, Initiator), ServiceError> {
        let (reason, by) = match self.reason.as_deref() {
            None | Some("revoked") => (EndReason::Revoked, Initiator::Admin),
            Some("signed_out") => (EndReason::SignedOut, Initiator::User),
            Some("replaced") => (EndReason::Replaced, Initiator::User),
            Some("credential_changed") => (EndReason::CredentialChanged, Initiator::User),
            Some("compromised") => (EndReason::Compromised, Initiator::Admin),
            Some("policy") => (EndReason::Policy, Initiator::Policy),
            Some(_) => {
                return Err(ServiceError::Invalid(
                    "reason must be signed_out, revoked, replaced, credential_changed, compromised or policy",
                ));
            }
        };
        Ok((reason, self.initiator.unwrap_or(by)))
    }
}

impl DeviceBody {
    fn read(device: Option<Self>) -> Result<Option<Device>, MetadataError> {
        device.map_or(Ok(None), |device| Device::new(device.name, device.user_agent.as_deref()))
    }
}

impl TryFrom<OpenBody> for OpenSession {
    type Error = ServiceError;

    fn try_from(body: OpenBody) -> Result<Self, ServiceError> {
        Ok(Self {
            subject: body.subject,
            tenant: body.tenant,
            client_id: body.client_id,
            roles: body.roles,
            scope: body.scope,
            acr: body.acr,
            amr: body.amr,
            auth_time: body.auth_time.map(Timestamp::from_secs),
            tier: body.tier,
            device: DeviceBody::read(body.device)?,
            on_limit: body.on_limit,
        })
    }
}

impl TryFrom<StepUpBody> for StepUpSession {
    type Error = ServiceError;

    fn try_from(body: StepUpBody) -> Result<Self, ServiceError> {
        Ok(Self {
            tier: body.tier,
            scope: body.scope,
            acr: body.acr,
            amr: body.amr,
            auth_time: body.auth_time.map(Timestamp::from_secs),
            device: DeviceBody::read(body.device)?,
        })
    }
}

impl OpenedBody {
    /// For a browser that keeps its tokens in the cookies of these names.
    pub(super) fn new(opened: Opened, cookies: CookieNames<'_>) -> Self {
        let tokens = opened.tokens;
        Self {
            set_cookie: vec![
                session_cookie(cookies.access, &tokens.access_token),
                session_cookie(cookies.refresh, &tokens.refresh_token),
            ],
            session_id: opened.session_id,
            access_token: tokens.access_token,
            token_type: "Bearer",
            expires_in: tokens.expires_in,
            refresh_token: tokens.refresh_token,
            expires_at: opened.expires_at.as_secs(),
            scope: tokens.scope,
        }
    }
}
