//! The session record and its transitions: open, refresh, step-up, change, end.
//!
//! Every rule about the life of a session is here, as a function `(record, command, now) -> record' or reason`. The shells
//! load, apply and commit; they decide nothing.
//!
//! Invariant: [`State::Ended`] is terminal; no transition leads out of it.
//! Invariant (I3): one generation is live; asking again gives the same successor; only a real reuse ends the session.
//! Invariant: absolute expiry, `auth_time`, `acr` and `amr` are set by [`Session::open`] and never move (REF-10); a step-up
//! opens another session.

use alloc::{string::String, vec::Vec};

pub use self::{
    changes::{FieldsConflict, StepUp},
    end::{EndReason, Initiator, Limit, NotLive, State},
    metadata::{
        DEVICE_NAME_BYTES_MAX, Device, FIELD_NAME_BYTES_MAX, FIELDS_BYTES_MAX, FIELDS_MAX, Fields, MetadataError,
        USER_AGENT_BYTES_MAX,
    },
    rotation::{RefreshError, Refreshed, ReuseClass},
    tier::{Lifetimes, Policy, Tier, UnknownTier},
};
use crate::{
    id::{ClientId, SessionId, SubjectId, TenantId},
    refresh::{ClientContext, Generation, Seed},
    revocation::Version,
    subject::{Standing, Subject, Versions},
    time::Timestamp,
};

mod changes;
mod end;
mod metadata;
mod rotation;
mod tier;

/// What a session is opened with. Times are cut to whole seconds.
#[derive(Debug, Clone)]
pub struct Open {
    /// Who it speaks for.
    pub subject: SubjectId,
    /// The organisation of the subject.
    pub tenant: Option<TenantId>,
    /// The client that it was opened by.
    pub client_id: ClientId,
    /// Decides how long it may last.
    pub tier: Tier,
    /// Random bytes, drawn for this session.
    pub seed: Seed,
    /// Where the client was when it opened the session.
    pub context: ClientContext,
    /// When the user authenticated, if not just now.
    pub auth_time: Option<Timestamp>,
    /// Authentication context class (OpenID Connect Core §2).
    pub acr: Option<String>,
    /// Authentication methods (RFC 8176).
    pub amr: Vec<String>,
    /// Space-separated scope (RFC 6749 §3.3).
    pub scope: Option<String>,
    /// The device.
    pub device: Option<Device>,
}

/// The record of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whether it goes on.
    pub state: State,
    /// Who it speaks for.
    pub subject: SubjectId,
    /// The organisation of the subject.
    pub tenant: Option<TenantId>,
    /// The client that it was opened by.
    pub client_id: ClientId,
    /// Decides how long it may last.
    pub tier: Tier,
    /// Its own version.
    pub version: Version,
    /// The subject's version when it was opened.
    pub subject_version: Version,
    /// The tenant's version when it was opened; [`Version::NONE`] without a tenant.
    pub tenant_version: Version,
    /// Everyone's version when it was opened.
    pub everyone_version: Version,
    /// The generation of its refresh token that is live.
    pub generation: Generation,
    /// Enters its refresh tokens.
    pub seed: Seed,
    /// Where the last rotation came from.
    pub context: ClientContext,
    /// When the refresh token was last rotated.
    pub rotated_at: Timestamp,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When the user authenticated.
    pub auth_time: Timestamp,
    /// It is over from here on unless it is refreshed before.
    pub idle_expires_at: Timestamp,
    /// It is over from here on.
    pub expires_at: Timestamp,
    /// Authentication context class.
    pub acr: Option<String>,
    /// Authentication methods.
    pub amr: Vec<String>,
    /// Space-separated scope.
    pub scope: Option<String>,
    /// The device that it was opened on.
    pub device: Option<Device>,
    /// The application's short memory.
    pub fields: Fields,
    /// Counts the writes of `fields`.
    pub fields_revision: u32,
}

/// Why a session is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The subject may have no sessions.
    #[error("the subject is disabled")]
    SubjectDisabled,
    /// `auth_time` lies in the future, before that of the session which is stepped up, or so far back that the session
    /// would be over.
    #[error(
        "auth_time must lie between the absolute lifetime ago, or the authentication that a step-up builds on, and now"
    )]
    AuthTime,
}

/// What the log, the records of the wider scopes and the configuration say, beside a session's own record.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Which session is meant.
    pub id: &'a SessionId,
    /// The session's subject.
    pub subject: &'a Subject,
    /// The versions of its tenant, if it has one.
    pub tenant: Option<&'a Versions>,
    /// The versions of everyone.
    pub everyone: &'a Versions,
    /// What holds for sessions now.
    pub policy: &'a Policy,
    /// The session's own floor.
    pub session_floor: Version,
    /// The subject's floor.
    pub subject_floor: Version,
    /// The tenant's floor.
    pub tenant_floor: Version,
    /// Everyone's floor.
    pub everyone_floor: Version,
}

/// Proof that a session is alive at some moment: only from it are tokens made.
#[derive(Debug, Clone, Copy)]
pub struct Live<'a> {
    session: &'a Session,
    around: Surroundings<'a>,
}

impl<'a> Live<'a> {
    /// The session.
    pub fn session(&self) -> &'a Session {
        self.session
    }

    /// Its subject.
    pub fn subject(&self) -> &'a Subject {
        self.around.subject
    }

    /// When it is over unless it is refreshed before; no token outlives this.
    pub fn ends_at(&self) -> Timestamp {
        let (idle, absolute) = self.session.ends_by(self.around.policy);
        idle.min(absolute).min(self.session.idle_expires_at).min(self.session.expires_at)
    }

    /// The versions that a token made now carries: session, subject, tenant ([`Version::NONE`] without one), everyone.
    pub fn versions(&self) -> [Version; 4] {
        let around = &self.around;
        let tenant = around.tenant.map_or(Version::NONE, |versions| versions.current(around.tenant_floor));
        let session = self.session.version.max(around.session_floor);
        let subject = around.subject.versions.current(around.subject_floor);
        [session, subject, tenant, around.everyone.current(around.everyone_floor)]
    }
}

impl Session {
    /// Opens a session of a subject, and of its tenant if it has one.
    ///
    /// # Errors
    ///
    /// The subject is disabled, or `auth_time` is out of range.
    pub fn open(open: Open, around: &Surroundings<'_>, now: Timestamp) -> Result<Self, OpenError> {
        if around.subject.standing == Standing::Disabled {
            return Err(OpenError::SubjectDisabled);
        }
        let lifetimes = around.policy.lifetimes(open.tier);
        let now = Timestamp::from_secs(now.as_secs());
        let auth_time = Timestamp::from_secs(open.auth_time.unwrap_or(now).as_secs());
        // Counted from the authentication, which may be older than the session (SP 800-63B-4 §5.2).
        let expires_at = auth_time.saturating_add(lifetimes.absolute);
        if auth_time > now || now.has_reached(expires_at) {
            return Err(OpenError::AuthTime);
        }
        Ok(Self {
            state: State::Open,
            subject: open.subject,
            tenant: open.tenant,
            client_id: open.client_id,
            tier: open.tier,
            version: Version::INITIAL,
            subject_version: around.subject.versions.current(around.subject_floor),
            tenant_version: around.tenant.map_or(Version::NONE, |versions| versions.current(around.tenant_floor)),
            everyone_version: around.everyone.current(around.everyone_floor),
            generation: Generation(0),
            seed: open.seed,
            context: open.context,
            rotated_at: now,
            opened_at: now,
            auth_time,
            idle_expires_at: now.saturating_add(lifetimes.idle).min(expires_at),
            expires_at,
            acr: open.acr,
            amr: open.amr,
            scope: open.scope,
            device: open.device,
            fields: Fields::default(),
            fields_revision: 0,
        })
    }

    /// The last refresh, to the minute: enough to tell devices apart, too little to watch someone by.
    pub fn last_seen_at(&self) -> Timestamp {
        let seconds = self.rotated_at.as_secs();
        Timestamp::from_secs(seconds.saturating_sub(seconds % 60))
    }

    /// Whether the session is alive: the one place that decides it.
    ///
    /// # Errors
    ///
    /// Why it is not.
    pub fn live<'a>(&'a self, around: Surroundings<'a>, now: Timestamp) -> Result<Live<'a>, NotLive> {
        if let State::Ended { reason, .. } = self.state {
            return Err(NotLive::Ended(reason));
        }
        if around.session_floor == Version::ENDED {
            return Err(NotLive::UnderFloor);
        }
        if now.has_reached(self.expires_at) {
            return Err(NotLive::Expired);
        }
        if now.has_reached(self.idle_expires_at) {
            return Err(NotLive::Idle);
        }
        if around.subject.standing == Standing::Disabled {
            return Err(NotLive::SubjectDisabled);
        }
        let admitted = around.subject.admits(around.id, self.subject_version)
            && around.tenant.is_none_or(|tenant| tenant.admits(self.tenant_version))
            && around.everyone.admits(self.everyone_version);
        if !admitted {
            return Err(NotLive::EndedForAll);
        }
        let (idle, absolute) = self.ends_by(around.policy);
        if now.has_reached(absolute) {
            return Err(NotLive::Policy(Limit::Absolute));
        }
        if now.has_reached(idle) {
            return Err(NotLive::Policy(Limit::Idle));
        }
        Ok(Live { session: self, around })
    }

    /// Ended for `reason`; none if it is ended already, whose reason stays.
    pub fn ended(&self, reason: EndReason, by: Initiator, now: Timestamp) -> Option<Self> {
        match self.state {
            State::Ended { .. } => None,
            State::Open => Some(Self {
                state: State::Ended { at: Timestamp::from_secs(now.as_secs()), reason, by },
                version: Version::ENDED,
                ..self.clone()
            }),
        }
    }

    /// Idle and absolute end by the policy that holds now, which may be stricter than the one that it was opened under.
    fn ends_by(&self, policy: &Policy) -> (Timestamp, Timestamp) {
        let lifetimes = policy.lifetimes(self.tier);
        (self.rotated_at.saturating_add(lifetimes.idle), self.auth_time.saturating_add(lifetimes.absolute))
    }
}

#[cfg(test)]
pub(crate) mod tests;
