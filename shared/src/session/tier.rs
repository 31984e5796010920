//! Named tiers of sessions and how long each may last.

use core::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// How much depends on a session; decides how long it may last. Stored in records: append, never reorder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Reading and remembering (SP 800-63B-4 §2.1.3, AAL1).
    Browse,
    /// Ordinary work (SP 800-63B-4 §2.2.3, AAL2).
    #[default]
    Standard,
    /// Administration and money (SP 800-63B-4 §2.3.3, AAL3).
    Privileged,
}

impl Tier {
    /// Every tier.
    pub const ALL: [Self; 3] = [Self::Browse, Self::Standard, Self::Privileged];

    /// The name in configuration, answers, events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Browse => "browse",
            Self::Standard => "standard",
            Self::Privileged => "privileged",
        }
    }
}

/// A text that names no tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tier must be browse, standard or privileged")]
pub struct UnknownTier;

impl FromStr for Tier {
    type Err = UnknownTier;

    fn from_str(text: &str) -> Result<Self, UnknownTier> {
        Self::ALL.into_iter().find(|tier| tier.name() == text).ok_or(UnknownTier)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long the sessions of one tier last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// From one refresh to the next at most.
    pub idle: Duration,
    /// From authentication to the end at most.
    pub absolute: Duration,
}

/// What holds for sessions now. A stricter policy than the one that a session was opened under holds for it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Of [`Tier::Browse`].
    pub browse: Lifetimes,
    /// Of [`Tier::Standard`].
    pub standard: Lifetimes,
    /// Of [`Tier::Privileged`].
    pub privileged: Lifetimes,
    /// How long a refresh may be repeated with the token before.
    pub retry_window: Duration,
}

impl Policy {
    /// The lifetimes of a tier.
    pub const fn lifetimes(&self, tier: Tier) -> Lifetimes {
        match tier {
            Tier::Browse => self.browse,
            Tier::Standard => self.standard,
            Tier::Privileged => self.privileged,
        }
    }
}
