//! The roster of a subject: its sessions that count against a limit on concurrent ones.
//!
//! It is one record, changed by compare-and-swap, so that the limit holds exactly however many open at the same time. A
//! session is put on it before anyone has its tokens, and off it only when it is over: so there are never more sessions
//! with tokens than entries.
//!
//! Invariant: at most [`ROSTER_MAX`] entries, the oldest first, each session once.

use alloc::vec::Vec;
use core::{num::NonZeroU8, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{id::SessionId, time::Timestamp};

/// The highest limit that can be set: a roster of so many entries stays under 3 KiB.
pub const ROSTER_MAX: usize = 100;

/// What happens to a session over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLimit {
    /// It is opened, and the oldest sessions are ended until the limit holds.
    EvictOldest,
    /// It is refused.
    Refuse,
}

/// A limit on the concurrent sessions of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many.
    pub sessions_max: NonZeroU8,
    /// What happens over it.
    pub on_limit: OnLimit,
}

/// A session on the roster. Times are whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    id: SessionId,
    opened_s: u32,
    lasts_s: u32,
}

impl Entry {
    /// A session that was opened at `opened_at` and is over at `expires_at`.
    pub fn new(id: SessionId, opened_at: Timestamp, expires_at: Timestamp) -> Self {
        let lasts = expires_at.as_secs_ceil().saturating_sub(opened_at.as_secs());
        Self {
            id,
            opened_s: u32::try_from(opened_at.as_secs()).unwrap_or(u32::MAX),
            lasts_s: u32::try_from(lasts).unwrap_or(u32::MAX),
        }
    }

    /// Which.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// When it is over at the latest.
    pub fn expires_at(&self) -> Timestamp {
        let opened_at = Timestamp::from_secs(u64::from(self.opened_s));
        opened_at.saturating_add(Duration::from_secs(u64::from(self.lasts_s)))
    }
}

/// The sessions of a subject that count, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster(Vec<Entry>);

/// What becomes of a session that is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It has a place. The roster is to be written first.
    Place(Roster),
    /// It has a place once these sessions are ended. Their floors come first, then the roster is written.
    Evict {
        /// With the new session, without those.
        roster: Roster,
        /// The oldest ones.
        evicted: Vec<SessionId>,
    },
    /// It has none.
    Refused {
        /// How many sessions there are.
        open: usize,
    },
}

impl Roster {
    /// Of the given sessions; the youngest [`ROSTER_MAX`], if there are more.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by_key(|entry| (entry.opened_s, entry.id));
        entries.dedup_by_key(|entry| entry.id);
        let over = entries.len().saturating_sub(ROSTER_MAX);
        entries.drain(..over);
        Self(entries)
    }

    /// The entries, the oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// When the last of them is over.
    pub fn expires_at(&self) -> Timestamp {
        self.0.iter().map(Entry::expires_at).max().unwrap_or(Timestamp::EPOCH)
    }

    /// Whether `entry` needs one of the others to be over, as far as the times on the roster tell.
    pub fn is_full(&self, entry: &Entry, limit: Limit, now: Timestamp) -> bool {
        let others = self.0.iter().filter(|other| other.id != entry.id && !now.has_reached(other.expires_at()));
        others.count() >= usize::from(limit.sessions_max.get())
    }

    /// Puts a session on the roster; those in `over` and those whose time has passed go off it. May be repeated.
    pub fn admit(&self, entry: Entry, over: &[SessionId], limit: Limit, now: Timestamp) -> Admission {
        let counts =
            |other: &&Entry| other.id != entry.id && !now.has_reached(other.expires_at()) && !over.contains(&other.id);
        let mut kept: Vec<Entry> = self.0.iter().filter(counts).copied().collect();
        let sessions_max = usize::from(limit.sessions_max.get()).min(ROSTER_MAX);
        let excess = kept.len().saturating_add(1).saturating_sub(sessions_max);
        if excess == 0 {
            kept.push(entry);
            return Admission::Place(Self(kept));
        }
        match limit.on_limit {
            OnLimit::Refuse => Admission::Refused { open: kept.len() },
            OnLimit::EvictOldest => {
                let evicted = kept.drain(..excess.min(kept.len())).map(|entry| entry.id).collect();
                kept.push(entry);
                Admission::Evict { roster: Self(kept), evicted }
            }
        }
    }

    /// Puts a session in the place of another, whatever the limit, since there are no more of them than before.
    #[must_use]
    pub fn replaced(&self, old: &SessionId, entry: Entry, now: Timestamp) -> Self {
        let counts = |other: &&Entry| other.id != *old && other.id != entry.id && !now.has_reached(other.expires_at());
        Self::new(self.0.iter().filter(counts).copied().chain([entry]).collect())
    }
}

#[cfg(test)]
mod tests;
