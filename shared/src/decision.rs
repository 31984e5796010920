//! The decision on a request whose route is known.
//!
//! Order: credential → expiry → floors → requirements of the route → freshness. A known revocation denies whatever the
//! freshness; only an allowance needs freshness.
//!
//! Invariant (I1): nothing is allowed under a floor that the replica holds, nor, on a route that denies when stale, without
//! the assurance that the route demands.

use alloc::{format, string::String};
use core::{fmt::Write as _, time::Duration};

use crate::{
    policy::{Access, Assurance, OnStale, Requirements, Route},
    replica::Freshness,
    revocation::{Floors, ScopeKind},
    time::Timestamp,
    token::{AccessToken, Claims, TokenError},
};

/// What a request brought to show who it is from.
#[derive(Debug, Clone, Copy)]
pub enum Credential<'a> {
    /// Nothing.
    None,
    /// An access token that does not verify.
    Bad(TokenError),
    /// An access token whose signature, issuer and audience were checked.
    Token(&'a AccessToken),
}

/// Who can make a replica fresher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The hub of the region.
    Hub,
    /// The origin, which reads the log of the store for its answer.
    Origin,
}

/// What became of asking a source on behalf of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Asked {
    /// It was not asked since the request came.
    #[default]
    No,
    /// It did not answer in time, or its frames were refused.
    InVain,
    /// The replica has what it said.
    Answered,
}

/// Whom a request had asked so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inquiry {
    /// The hub.
    pub hub: Asked,
    /// The origin.
    pub origin: Asked,
}

impl Inquiry {
    /// Everybody said all there is; so it is where nobody can revoke anything.
    pub const COMPLETE: Self = Self { hub: Asked::Answered, origin: Asked::Answered };
}

/// What the replica knows.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The floors.
    pub floors: &'a Floors,
    /// How fresh they are.
    pub freshness: Freshness,
    /// Who was asked for this request.
    pub inquiry: Inquiry,
    /// How far apart the clocks of store and gate may be.
    pub skew_max: Duration,
}

/// Why a request is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// 401 with a challenge and no error code (RFC 6750 §3.1).
    NoCredential,
    /// 401 `invalid_token`; another token may help, so a browser's is renewed in line.
    InvalidToken(TokenError),
    /// 401 `invalid_token`: under a floor of this scope.
    Revoked(ScopeKind),
    /// 403 `insufficient_scope` (RFC 6750 §3.1).
    Scope,
    /// 403: none of the roles.
    Roles,
    /// 403: of another tenant.
    Tenant,
    /// 401 `insufficient_user_authentication` (RFC 9470 §3).
    Authentication,
    /// 503 with `Retry-After`: the replica is older than the route allows, or nobody answered whom the route wants asked.
    Stale,
}

impl Denied {
    /// The name in answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoCredential => "no_credential",
            Self::InvalidToken(TokenError::Expired) => "expired",
            Self::InvalidToken(_) => "invalid_token",
            Self::Revoked(_) => "revoked",
            Self::Scope => "scope",
            Self::Roles => "roles",
            Self::Tenant => "tenant",
            Self::Authentication => "authentication",
            Self::Stale => "stale",
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It passes without a session.
    Anonymous,
    /// It passes as the subject of these claims.
    Allow(&'a Claims),
    /// It does not pass.
    Deny(Denied),
    /// The replica does not know enough to let a token pass that looks good: this source has to be asked first.
    Ask(Source),
}

impl Denied {
    /// The status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            Self::NoCredential | Self::InvalidToken(_) | Self::Revoked(_) | Self::Authentication => 401,
            Self::Scope | Self::Roles | Self::Tenant => 403,
            Self::Stale => 503,
        }
    }

    /// What the client is told; the same whatever is wrong with a token (BRR-08).
    pub const fn detail(self) -> &'static str {
        match self {
            Self::NoCredential => "this needs an access token",
            Self::InvalidToken(_) | Self::Revoked(_) => "the access token is malformed, expired or revoked",
            Self::Scope | Self::Roles | Self::Tenant => "the access token does not allow this",
            Self::Authentication => "this needs a stronger or more recent authentication",
            Self::Stale => "the gate does not know enough to decide; try again",
        }
    }

    /// `WWW-Authenticate` for an answer on this route (RFC 6750 §3, RFC 9470 §3); none for 503.
    ///
    /// Roles and tenant are not named: who may come is no business of those who may not.
    pub fn challenge(self, route: &Route) -> Option<String> {
        let error = match self {
            // RFC 6750 §3.1: no error code for a request without credentials.
            Self::NoCredential => return Some(format!("Bearer realm=\"{REALM}\"")),
            Self::InvalidToken(_) | Self::Revoked(_) => "invalid_token",
            Self::Scope | Self::Roles | Self::Tenant => "insufficient_scope",
            Self::Authentication => "insufficient_user_authentication",
            Self::Stale => return None,
        };
        let mut text = format!("Bearer realm=\"{REALM}\", error=\"{error}\"");
        if let Access::Session(Requirements { scope_all, acr_any, max_age_s, .. }) = &route.access {
            // A new authentication is of no use without the scope (RFC 9470 §3).
            let names_scope = matches!(self, Self::Scope | Self::Authentication) && !scope_all.is_empty();
            if names_scope {
                let _ = write!(text, ", scope=\"{}\"", scope_all.join(" "));
            }
            if self == Self::Authentication && !acr_any.is_empty() {
                let _ = write!(text, ", acr_values=\"{}\"", acr_any.join(" "));
            }
            if let (Self::Authentication, Some(max_age)) = (self, max_age_s) {
                let _ = write!(text, ", max_age=\"{max_age}\"");
            }
        }
        Some(text)
    }
}

/// The protection space of every challenge (RFC 9110 §11.5).
pub const REALM: &str = "portcullis";

/// Decides.
pub fn decide<'a>(route: &Route, credential: Credential<'a>, view: View<'_>, now: Timestamp) -> Decision<'a> {
    let Access::Session(requirements) = &route.access else { return Decision::Anonymous };
    let token = match credential {
        Credential::None => return Decision::Deny(Denied::NoCredential),
        // Who may have missed something may have missed the key.
        Credential::Bad(error @ TokenError::UnknownKey) if !is_fresh(route, view, now) => {
            return match (next_source(route, view.inquiry), route.on_stale) {
                (Some(source), _) => Decision::Ask(source),
                (None, OnStale::Allow) => Decision::Deny(Denied::InvalidToken(error)),
                (None, OnStale::Deny | OnStale::Ask) => Decision::Deny(Denied::Stale),
            };
        }
        Credential::Bad(error) => return Decision::Deny(Denied::InvalidToken(error)),
        Credential::Token(token) => token,
    };
    if let Err(error) = token.check_time(now, view.skew_max) {
        return Decision::Deny(Denied::InvalidToken(error));
    }
    if let Some(scope) = token.revoked_by(view.floors) {
        return Decision::Deny(Denied::Revoked(scope));
    }
    let claims = token.claims();
    if let Some(denied) = unmet(requirements, claims, now) {
        return Decision::Deny(denied);
    }
    if is_sure(route, view, now) {
        return Decision::Allow(claims);
    }
    match (next_source(route, view.inquiry), route.on_stale) {
        (Some(source), _) => Decision::Ask(source),
        (None, OnStale::Allow) => Decision::Allow(claims),
        (None, OnStale::Deny | OnStale::Ask) => Decision::Deny(Denied::Stale),
    }
}

/// Until when [`decide`] allows what it allowed this token at `now`, exclusively, while nothing of the view changes but the
/// time. Only on a bounded route, where nobody need be asked, and for a replica that is fresh enough; else none.
pub fn allowed_until(route: &Route, token: &AccessToken, view: View<'_>, now: Timestamp) -> Option<Timestamp> {
    let Access::Session(Requirements { max_age_s, .. }) = &route.access else { return None };
    let Freshness::AsOf(as_of) = view.freshness else { return None };
    let is_allowed = matches!(decide(route, Credential::Token(token), view, now), Decision::Allow(_));
    if route.assurance != Assurance::Bounded || !is_allowed || !is_fresh(route, view, now) {
        return None;
    }
    let claims = token.claims();
    let fresh = as_of.saturating_add(route.staleness_max()).saturating_sub(view.skew_max);
    let recent = max_age_s.zip(claims.auth_time).map(|(max_age, at)| recent_until(at, max_age));
    let until = fresh.min(Timestamp::from_secs(claims.exp));
    Some(recent.map_or(until, |recent| until.min(recent)))
}

/// Whether the view is what the route demands. Who is asked knows no less than who is nearer.
fn is_sure(route: &Route, view: View<'_>, now: Timestamp) -> bool {
    let Inquiry { hub, origin } = view.inquiry;
    let heard = match route.assurance {
        Assurance::Bounded => true,
        Assurance::Regional => hub == Asked::Answered || origin == Asked::Answered,
        Assurance::Authoritative => origin == Asked::Answered,
    };
    heard && is_fresh(route, view, now)
}

fn is_fresh(route: &Route, view: View<'_>, now: Timestamp) -> bool {
    view.freshness.is_within(route.staleness_max(), now, view.skew_max)
}

/// Whom to ask next; none if everybody was asked whom the route allows to ask.
fn next_source(route: &Route, Inquiry { hub, origin }: Inquiry) -> Option<Source> {
    match route.assurance {
        Assurance::Bounded | Assurance::Regional if hub == Asked::No => Some(Source::Hub),
        Assurance::Bounded | Assurance::Regional if route.on_stale != OnStale::Ask => None,
        _ => (origin == Asked::No).then_some(Source::Origin),
    }
}

/// The first requirement that the claims do not meet.
fn unmet(requirements: &Requirements, claims: &Claims, now: Timestamp) -> Option<Denied> {
    let Requirements { roles_any, scope_all, acr_any, max_age_s, tenant } = requirements;
    if tenant.is_some() && claims.tid != *tenant {
        return Some(Denied::Tenant);
    }
    if !roles_any.is_empty() && !roles_any.iter().any(|role| claims.roles.contains(role)) {
        return Some(Denied::Roles);
    }
    let granted = claims.scope.as_deref().unwrap_or_default();
    if !scope_all.iter().all(|token| granted.split(' ').any(|granted| granted == token)) {
        return Some(Denied::Scope);
    }
    let acr = claims.acr.as_ref();
    let recent =
        max_age_s.is_none_or(|max_age| claims.auth_time.is_some_and(|at| !now.has_reached(recent_until(at, max_age))));
    if (!acr_any.is_empty() && !acr.is_some_and(|acr| acr_any.contains(acr))) || !recent {
        return Some(Denied::Authentication);
    }
    None
}

/// Until when an authentication `at` that time, in Unix seconds, is at most `max_age` seconds old; exclusively.
fn recent_until(at: u64, max_age: u64) -> Timestamp {
    Timestamp::from_secs(at).saturating_add(Duration::from_secs(max_age))
}

#[cfg(test)]
mod tests;
