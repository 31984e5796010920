//! The session record and its transitions: open, refresh, end.
//!
//! Every rule about the life of a session is here, as a function `(record, command, now) -> record' or reason`. The shells
//! load, apply and commit; they decide nothing.
//!
//! Invariant: [`State::Ended`] is terminal; no transition leads out of it.
//! Invariant (I3): one generation is live; asking again gives the same successor; only a real reuse ends the session.
//! Invariant: absolute expiry, `auth_time`, `acr` and `amr` are set by [`Session::open`] and never move (REF-10).

use alloc::{boxed::Box, string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::{ClientId, SubjectId, TenantId},
    refresh::{ClientContext, Generation, Seed},
    revocation::Version,
    subject::{Standing, Subject, Versions},
    time::Timestamp,
};

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its user signed out.
    SignedOut,
    /// An operator or a login service ended it.
    Revoked,
    /// An old refresh token was used again.
    TokenReuse,
    /// Another session took its place (step-up, re-authentication).
    Replaced,
}

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It does, until it expires.
    Open,
    /// It does not, ever again.
    Ended {
        /// When it ended.
        at: Timestamp,
        /// Why it ended.
        reason: EndReason,
    },
}

/// What a session is opened with. Times are cut to whole seconds.
#[derive(Debug, Clone)]
pub struct Open {
    /// Who it speaks for.
    pub subject: SubjectId,
    /// The organisation of the subject.
    pub tenant: Option<TenantId>,
    /// The client that it was opened by.
    pub client_id: ClientId,
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
}

/// How long sessions last and how forgiving a refresh is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// From one refresh to the next at most.
    pub idle: Duration,
    /// From login to the end at most.
    pub absolute: Duration,
    /// How long a refresh may be repeated with the token before.
    pub retry_window: Duration,
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
    /// Its own version.
    pub version: Version,
    /// The subject's version when it was opened.
    pub subject_version: Version,
    /// The tenant's version when it was opened; [`Version::NONE`] without a tenant.
    pub tenant_version: Version,
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
}

/// Why a session is not alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotLive {
    /// It was ended.
    #[error("the session was ended")]
    Ended(EndReason),
    /// Its own floor says that it was ended, although the record does not: the record was lost or never written.
    #[error("the session was ended, as its floor says")]
    UnderFloor,
    /// It was not refreshed for too long.
    #[error("the session was idle for too long")]
    Idle,
    /// It reached its absolute end.
    #[error("the session has expired")]
    Expired,
    /// The sessions of its subject, or of its tenant, were ended.
    #[error("all sessions of its subject or tenant were ended")]
    EndedForAll,
    /// Its subject is disabled.
    #[error("the subject is disabled")]
    SubjectDisabled,
}

/// Why a session is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The subject may have no sessions.
    #[error("the subject is disabled")]
    SubjectDisabled,
    /// `auth_time` lies in the future, or so far back that the session would be over.
    #[error("auth_time must lie between now and the absolute lifetime ago")]
    AuthTime,
}

/// What the log and the records of the wider scopes say, beside a session's own record.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The session's subject.
    pub subject: &'a Subject,
    /// The versions of its tenant, if it has one.
    pub tenant: Option<&'a Versions>,
    /// The session's own floor.
    pub session_floor: Version,
    /// The subject's floor.
    pub subject_floor: Version,
    /// The tenant's floor.
    pub tenant_floor: Version,
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

    /// The versions that a token made now carries: session, subject, tenant ([`Version::NONE`] without one).
    pub fn versions(&self) -> [Version; 3] {
        let tenant = self.around.tenant.map_or(Version::NONE, |versions| versions.current(self.around.tenant_floor));
        let session = self.session.version.max(self.around.session_floor);
        [session, self.around.subject.versions.current(self.around.subject_floor), tenant]
    }
}

/// A repeat or a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// The record that has to be written before the answer; `healed` if the store had lost a rotation.
    Rotated {
        /// The session with its next generation.
        session: Box<Session>,
        /// Whether the token was of a later generation than the record.
        healed: bool,
    },
    /// The same successor once more; nothing changes.
    Repeated(Generation),
}

/// Kinds of reuse, told apart in events and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReuseClass {
    /// The token before, from the same client, after the retry window.
    LateRetry,
    /// An older token, from the same client.
    Ancestor,
    /// An old token from another client context.
    OtherClient,
}

/// Why a refresh is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshError {
    /// The token belongs to another client (REF-07). Nothing changes.
    WrongClient,
    /// The generations are used up. Nothing changes; the session runs out.
    Exhausted,
    /// An old token was used again (RFC 9700 §4.14.2): the record as ended, to be written with its floor.
    Reuse {
        /// The ended session.
        session: Box<Session>,
        /// What kind of reuse it was.
        class: ReuseClass,
    },
}

impl Session {
    /// Opens a session of a subject, and of its tenant if it has one.
    ///
    /// # Errors
    ///
    /// The subject is disabled, or `auth_time` is out of range.
    pub fn open(
        open: Open,
        around: &Surroundings<'_>,
        lifetimes: &Lifetimes,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        if around.subject.standing == Standing::Disabled {
            return Err(OpenError::SubjectDisabled);
        }
        let now = Timestamp::from_secs(now.as_secs());
        let auth_time = Timestamp::from_secs(open.auth_time.unwrap_or(now).as_secs());
        let expires_at = now.saturating_add(lifetimes.absolute);
        if auth_time > now || now.has_reached(auth_time.saturating_add(lifetimes.absolute)) {
            return Err(OpenError::AuthTime);
        }
        Ok(Self {
            state: State::Open,
            subject: open.subject,
            tenant: open.tenant,
            client_id: open.client_id,
            version: Version::INITIAL,
            subject_version: around.subject.versions.current(around.subject_floor),
            tenant_version: around.tenant.map_or(Version::NONE, |versions| versions.current(around.tenant_floor)),
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
        })
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
        let admitted = around.subject.versions.admits(self.subject_version)
            && around.tenant.is_none_or(|tenant| tenant.admits(self.tenant_version));
        if admitted { Ok(Live { session: self, around }) } else { Err(NotLive::EndedForAll) }
    }

    /// Ended for `reason`; none if it is ended already, whose reason stays.
    pub fn ended(&self, reason: EndReason, now: Timestamp) -> Option<Self> {
        match self.state {
            State::Ended { .. } => None,
            State::Open => Some(Self {
                state: State::Ended { at: Timestamp::from_secs(now.as_secs()), reason },
                version: Version::ENDED,
                ..self.clone()
            }),
        }
    }
}

impl Live<'_> {
    /// Presents an authentic refresh token of generation `presented` (design table of rotation, repeat, healing, reuse).
    ///
    /// # Errors
    ///
    /// Another client, no generation left, or reuse, which ends the session.
    pub fn refresh(
        &self,
        presented: Generation,
        client: &ClientId,
        context: ClientContext,
        lifetimes: &Lifetimes,
        now: Timestamp,
    ) -> Result<Refreshed, RefreshError> {
        let session = self.session;
        if *client != session.client_id {
            return Err(RefreshError::WrongClient);
        }
        if presented >= session.generation {
            let generation = presented.next().ok_or(RefreshError::Exhausted)?;
            let healed = presented > session.generation;
            let session = Box::new(session.rotated(generation, context, lifetimes, now));
            return Ok(Refreshed::Rotated { session, healed });
        }
        let is_previous = presented.next() == Some(session.generation);
        let same_client = context == session.context;
        if is_previous && same_client && !now.has_reached(session.rotated_at.saturating_add(lifetimes.retry_window)) {
            return Ok(Refreshed::Repeated(session.generation));
        }
        let class = match (is_previous, same_client) {
            (_, false) => ReuseClass::OtherClient,
            (true, true) => ReuseClass::LateRetry,
            (false, true) => ReuseClass::Ancestor,
        };
        // A live session is open, so it can be ended.
        let ended = session.ended(EndReason::TokenReuse, now).unwrap_or_else(|| session.clone());
        Err(RefreshError::Reuse { session: Box::new(ended), class })
    }
}

impl Session {
    fn rotated(&self, generation: Generation, context: ClientContext, lifetimes: &Lifetimes, now: Timestamp) -> Self {
        let now = Timestamp::from_secs(now.as_secs()).max(self.rotated_at);
        Self {
            generation,
            context,
            rotated_at: now,
            idle_expires_at: now.saturating_add(lifetimes.idle).min(self.expires_at),
            ..self.clone()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
