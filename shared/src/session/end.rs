//! How sessions end: by whom, why, and what a session that is not alive is refused with.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Why a session ended. Stored in records: append, never reorder.
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
    /// A stricter policy asks for a new authentication.
    Policy,
    /// The subject opened more sessions than it may have.
    Evicted,
    /// A password or another credential of its user was changed.
    CredentialChanged,
    /// A device was lost, or someone else may hold it.
    Compromised,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::SignedOut,
        Self::Revoked,
        Self::TokenReuse,
        Self::Replaced,
        Self::Policy,
        Self::Evicted,
        Self::CredentialChanged,
        Self::Compromised,
    ];

    /// The name in answers, events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::Revoked => "revoked",
            Self::TokenReuse => "token_reuse",
            Self::Replaced => "replaced",
            Self::Policy => "policy",
            Self::Evicted => "evicted",
            Self::CredentialChanged => "credential_changed",
            Self::Compromised => "compromised",
        }
    }
}

/// Who ended a session, in the words of CAEP 1.0 §2 (`initiating_entity`). Stored in records: append, never reorder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initiator {
    /// An administrator.
    #[default]
    Admin,
    /// The user of the session.
    User,
    /// A rule of the organisation.
    Policy,
    /// This service, by its own rules.
    System,
}

impl Initiator {
    /// The name in answers and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
            Self::Policy => "policy",
            Self::System => "system",
        }
    }
}

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does, until it expires.
    Open,
    /// It does not, ever again.
    Ended {
        /// When it ended.
        at: Timestamp,
        /// Why it ended.
        reason: EndReason,
        /// Who ended it.
        by: Initiator,
    },
}

/// Which of the two lifetimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// From one refresh to the next.
    Idle,
    /// From authentication to the end.
    Absolute,
}

impl Limit {
    /// The name in events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Absolute => "absolute",
        }
    }
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
    /// It would go on by the policy that it was opened under, but not by the one that holds now.
    #[error("the session is older than the policy now allows")]
    Policy(Limit),
    /// The sessions of its subject, of its tenant, or of everyone were ended.
    #[error("all sessions of its subject, its tenant or everyone were ended")]
    EndedForAll,
    /// Its subject is disabled.
    #[error("the subject is disabled")]
    SubjectDisabled,
}

impl NotLive {
    /// The name in answers, events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ended(reason) => reason.name(),
            Self::UnderFloor => "revoked",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::Policy(_) => "policy",
            Self::EndedForAll => "all_sessions_ended",
            Self::SubjectDisabled => "subject_disabled",
        }
    }
}
