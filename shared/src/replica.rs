//! A replica of the floors: the set, where in the log it stands, how fresh it is, and the token keys and the
//! route policy that came with the feed.
//!
//! Joining is always safe and always done; freshness is a separate matter and moves only over a log without gaps.
//!
//! Invariant (I5): a replica that is fresh as of t holds every floor acknowledged before t. So loss, duplication, reordering
//! and holding back of frames can make a replica less fresh than it might be, never fresher than it is.
//! Invariant (I4): no frame lowers a floor, and none takes freshness away that was earned in the same log.
//! The readings of another log's clock say nothing beside those of the one before: the whole snapshot of a newer log replaces
//! them, also by an earlier one, so a store whose clock ran ahead is known again once that is put right and the log renewed.
//! Invariant: a new replica is [`Freshness::Unsynced`]: knowing nothing is not the same as nothing being revoked.

use core::{fmt, time::Duration};

use crate::{
    feed::{Cursor, Epoch, Frame, FrameKind, Header},
    keys::KeySet,
    policy::Policy,
    revocation::{Floor, FloorKey, Floors, Joined, Version},
    time::Timestamp,
};

/// How long the feed must go on, by the store's clock, until a clock that was behind is believed again.
const SETTLED: Duration = Duration::from_secs(30);

/// How much a replica knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It does not hold all floors of any moment.
    Unsynced,
    /// It holds every floor acknowledged before this reading of the store's clock.
    AsOf(Timestamp),
    /// It holds every floor acknowledged before this reading, which came from further ahead than the clocks may be apart: so
    /// how old it is cannot be said, now or later.
    ClockBehind(Timestamp),
}

impl Freshness {
    /// How old the knowledge can be at `now`, when the clocks differ by at most `skew_max`; none if that cannot be said:
    /// before the first sync, or when the store's reading lies, or lay when it came, further ahead than the skew that was
    /// declared.
    pub fn age_max(self, now: Timestamp, skew_max: Duration) -> Option<Duration> {
        let Self::AsOf(as_of) = self else { return None };
        if as_of > now.saturating_add(skew_max) {
            return None;
        }
        Some(now.saturating_add(skew_max).saturating_since(as_of))
    }

    /// Whether the knowledge is at most `bound` old at `now`.
    pub fn is_within(self, bound: Duration, now: Timestamp, skew_max: Duration) -> bool {
        self.age_max(now, skew_max).is_some_and(|age| age <= bound)
    }
}

/// What a frame did to a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The replica stands at the end of the frame now.
    Advanced,
    /// The replica was there or further already.
    Known,
    /// A part of a snapshot of which others are missing, or an urgent frame: its floors count, all else stays.
    Partial,
    /// Floors between the replica's position and the frame are missing; those of the frame count all the same.
    Gap,
    /// The frame belongs to another log: an older one, or a newer one whose snapshot is needed first. Its floors count.
    OtherEpoch,
    /// The set is full, so the replica can no longer say that it holds everything.
    Full,
    /// A keys frame whose set is malformed; the last good set is kept.
    MalformedKeys,
    /// A policy frame whose policy is malformed or wrong; the last good one is kept.
    MalformedPolicy,
}

/// Where a replica stands, as it tells its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The log.
    pub epoch: Epoch,
    /// Floors up to here are held.
    pub cursor: Cursor,
    /// Version of the key set that is held; 0 for none.
    pub keys: u64,
    /// Version of the policy that the feed brought; 0 for none.
    pub policy: u64,
}

impl Position {
    /// Whether who stands here lacks nothing of what one has who stands at `other`.
    pub fn has_all_of(self, other: Self) -> bool {
        self.epoch == other.epoch
            && self.cursor >= other.cursor
            && self.keys >= other.keys
            && self.policy >= other.policy
    }
}

/// The query in which a replica tells where it stands.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, cursor, keys, policy } = self;
        write!(f, "epoch={epoch}&after={cursor}&keys={keys}&policy={policy}")
    }
}

/// Floors, position, freshness and token keys of one node.
#[derive(Debug, Default)]
pub struct Replica {
    floors: Floors,
    synced: Option<Synced>,
    assembling: Option<Assembling>,
    overflowed: bool,
    /// The newest reading that came from too far ahead, and the log that it came from.
    behind_at: Option<(Epoch, Timestamp)>,
    keys: KeySet,
    keys_version: u64,
    policy: Option<Policy>,
    policy_version: u64,
    changes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Synced {
    epoch: Epoch,
    cursor: Cursor,
    as_of: Timestamp,
}

/// A snapshot of which the first parts have come, in order.
#[derive(Debug, Clone, Copy)]
struct Assembling {
    epoch: Epoch,
    upto: Cursor,
    as_of: Timestamp,
    next_part: u16,
}

impl Replica {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The floors.
    pub fn floors(&self) -> &Floors {
        &self.floors
    }

    /// The token keys that the feed brought.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The route policy that the feed brought; none where the policy of the build counts.
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// How fresh the floors are.
    pub fn freshness(&self) -> Freshness {
        match self.synced {
            Some(synced) if self.behind_at.is_some() && !self.overflowed => Freshness::ClockBehind(synced.as_of),
            Some(synced) if !self.overflowed => Freshness::AsOf(synced.as_of),
            _ => Freshness::Unsynced,
        }
    }

    /// Where the replica stands; zeroes before the first sync, which no log answers with a delta.
    pub fn position(&self) -> Position {
        let (epoch, cursor) = self.synced.map_or((Epoch(0), Cursor(0)), |synced| (synced.epoch, synced.cursor));
        Position { epoch, cursor, keys: self.keys_version, policy: self.policy_version }
    }

    /// A number that is another one after every change that may take back what was allowed before it. That the replica is
    /// as fresh as it was at some later time is none.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes in a frame whose signature was checked.
    pub fn accept(&mut self, frame: &Frame<'_>) -> Accepted {
        match frame.header().kind {
            FrameKind::Keys => return self.accept_keys(frame),
            FrameKind::Policy => return self.accept_policy(frame),
            FrameKind::Delta | FrameKind::Snapshot | FrameKind::Urgent => {}
        }
        for floor in frame.floors() {
            match self.floors.join(floor) {
                Joined::Known => continue,
                Joined::Raised => {}
                Joined::Full => self.overflowed = true,
            }
            self.note_change();
        }
        let accepted = match frame.header().kind {
            FrameKind::Snapshot => self.accept_snapshot(frame.header()),
            FrameKind::Urgent => Accepted::Partial,
            _ => self.accept_delta(frame.header()),
        };
        if self.overflowed { Accepted::Full } else { accepted }
    }

    /// Compares the clock of this node with the store's after frames came: one that is further behind than declared would
    /// take them for younger than they are. Waiting does not mend that, nor do frames that lay somewhere for a while; a feed
    /// that goes on for half a minute without a frame from too far ahead does. In another log, whose clock may be right where
    /// that of the one before was ahead, that half minute begins no later than now.
    pub fn check_clock(&mut self, now: Timestamp, skew_max: Duration) {
        let Some(synced) = self.synced else { return };
        if synced.as_of > now.saturating_add(skew_max) {
            self.behind_at = Some((synced.epoch, synced.as_of));
            self.note_change();
            return;
        }
        self.behind_at = self.behind_at.map(|(epoch, at)| {
            let at = if epoch == synced.epoch { at } else { at.min(now) };
            (synced.epoch, at)
        });
        self.behind_at.take_if(|(_, at)| synced.as_of > at.saturating_add(SETTLED));
    }

    /// Tokens carry floors: a valid token with a higher version than the floor of its scope proves that floor. A first
    /// version proves nothing, so ordinary sessions take no place.
    pub fn learn(&mut self, key: FloorKey, version: Version, forget_at: Timestamp) {
        if version > Version::INITIAL && version > self.floors.lowest(&key) {
            // Without a place the token's own version still is what it is; nothing that the feed told is lost.
            self.floors.join(Floor { key, lowest: version, forget_at });
            self.note_change();
        }
    }

    /// Drops what may be forgotten at `now`.
    pub fn prune(&mut self, now: Timestamp) {
        self.floors.prune(now);
    }

    fn accept_delta(&mut self, header: &Header) -> Accepted {
        let Some(synced) = &mut self.synced else { return Accepted::Gap };
        if header.epoch != synced.epoch {
            return Accepted::OtherEpoch;
        }
        if header.after > synced.cursor {
            return Accepted::Gap;
        }
        if header.upto < synced.cursor {
            return Accepted::Known;
        }
        let moved = header.upto > synced.cursor || header.as_of > synced.as_of;
        synced.cursor = header.upto;
        synced.as_of = synced.as_of.max(header.as_of);
        if moved { Accepted::Advanced } else { Accepted::Known }
    }

    fn accept_snapshot(&mut self, header: &Header) -> Accepted {
        let expected = match self.assembling {
            Some(begun) if (begun.epoch, begun.upto, begun.as_of) == (header.epoch, header.upto, header.as_of) => {
                begun.next_part
            }
            _ => 0,
        };
        if header.part != expected {
            return if header.part < expected { Accepted::Partial } else { Accepted::Gap };
        }
        let next_part = header.part.saturating_add(1);
        if next_part < header.parts {
            let (epoch, upto, as_of) = (header.epoch, header.upto, header.as_of);
            self.assembling = Some(Assembling { epoch, upto, as_of, next_part });
            return Accepted::Partial;
        }
        self.assembling = None;
        self.complete(header)
    }

    /// All floors that were live at the snapshot's `as_of` have been joined.
    fn complete(&mut self, header: &Header) -> Accepted {
        let new = Synced { epoch: header.epoch, cursor: header.upto, as_of: header.as_of };
        match self.synced {
            Some(old) if new.epoch < old.epoch => Accepted::OtherEpoch,
            Some(old) if new.epoch == old.epoch && new.cursor < old.cursor => Accepted::Known,
            Some(old) if new.epoch == old.epoch => {
                let as_of = old.as_of.max(new.as_of);
                let moved = new.cursor > old.cursor || as_of > old.as_of;
                self.synced = Some(Synced { as_of, ..new });
                if moved { Accepted::Advanced } else { Accepted::Known }
            }
            _ => {
                // The readings of another clock may be earlier.
                self.synced = Some(new);
                self.note_change();
                Accepted::Advanced
            }
        }
    }

    fn accept_policy(&mut self, frame: &Frame<'_>) -> Accepted {
        let version = frame.header().upto.0;
        if version <= self.policy_version {
            return Accepted::Known;
        }
        let Ok(policy) = frame.policy() else { return Accepted::MalformedPolicy };
        self.policy = policy;
        self.policy_version = version;
        self.note_change();
        Accepted::Advanced
    }

    fn accept_keys(&mut self, frame: &Frame<'_>) -> Accepted {
        let version = frame.header().upto.0;
        if version <= self.keys_version {
            return Accepted::Known;
        }
        let Some(keys) = frame.keys() else { return Accepted::MalformedKeys };
        self.keys = keys;
        self.keys_version = version;
        self.note_change();
        Accepted::Advanced
    }

    fn note_change(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests;
