//! What this process holds of the log: the floors, the newest entries, and how far and how fresh both are.

use std::time::{Duration, Instant};

use shared::{
    feed::{Epoch, FrameKind, Header},
    revocation::{FLOORS_MAX, Floor, Floors, Joined},
    time::Timestamp,
};

use super::{FeedError, recent::Recent};
use crate::store::{Entries, LogRead, Snapshot};

pub(super) struct State {
    pub(super) epoch: Epoch,
    pub(super) as_of: Timestamp,
    pub(super) floors: Floors,
    pub(super) recent: Recent,
    pub(super) read_at: Instant,
    /// How far two readings of the store's clock may contradict their order before it counts as set back.
    skew_max: Duration,
    /// Floors were told that had no place. What has no place cannot be vouched for: `as_of` stays until everything was
    /// read anew, and replicas turn stale instead of wrong.
    overflowed: bool,
    /// Until then other origins append again what the log may have lost, and `as_of` stays.
    settling_until: Option<Instant>,
    /// The hubs have not been asked yet for what the log may have lost; until then `as_of` stays, and nobody is answered.
    pub(super) rejoining: bool,
}

impl State {
    /// Everything that a log holds, as a process begins that knew nothing before.
    pub(super) fn new(snapshot: &Snapshot, skew_max: Duration) -> Self {
        let mut state = Self {
            epoch: snapshot.epoch,
            as_of: snapshot.as_of,
            floors: Floors::new(),
            recent: Recent::starting_at(snapshot.head),
            read_at: Instant::now(),
            skew_max,
            overflowed: false,
            settling_until: None,
            rejoining: false,
        };
        state.join(&snapshot.floors);
        state
    }

    /// Joins floors; whether all that were ever told have a place.
    pub(super) fn join(&mut self, floors: &[Floor]) -> bool {
        for floor in floors {
            self.overflowed |= self.floors.join(*floor) == Joined::Full;
        }
        !self.overflowed
    }

    /// Whether everything should be read anew, since there is room again for what had none.
    pub(super) fn has_room_again(&self) -> bool {
        self.overflowed && self.floors.len() < FLOORS_MAX
    }

    /// Takes in a read of this epoch from where this process follows the log; whether it reached the head.
    pub(super) fn take(&mut self, read: &LogRead) -> Result<bool, FeedError> {
        let Entries::Contiguous(floors) = &read.entries else { return Ok(false) };
        let whole = self.join(floors);
        self.recent.extend(floors);
        let upto = self.recent.end();
        if !whole {
            return Err(FeedError::Full);
        }
        let complete = upto >= read.head;
        if complete {
            if !self.rejoining && self.settling_until.is_none_or(|until| Instant::now() >= until) {
                self.settling_until = None;
                self.as_of = self.as_of.max(read.as_of);
            }
            self.read_at = Instant::now();
        }
        Ok(complete)
    }

    /// Whether the store's clock was set back before this reading: what is acknowledged from now on gets readings at which
    /// everything is claimed to be known already. No reading mends that before its time is reached; another epoch does.
    pub(super) fn was_set_back(&self, reading: Timestamp) -> bool {
        self.is_set_back(self.as_of, reading)
    }

    /// Whether two readings, one after the other, tell that the clock was set back between them.
    pub(super) fn is_set_back(&self, earlier: Timestamp, later: Timestamp) -> bool {
        earlier > later.saturating_add(self.skew_max)
    }

    /// The floors in memory that a snapshot lacks.
    pub(super) fn lost(&self, snapshot: &Snapshot, now: Timestamp) -> Vec<Floor> {
        missing_from(snapshot, &self.floors, now)
    }

    /// Goes on from a snapshot, after a gap or in another epoch. In another epoch freshness waits for `settle`, and for
    /// the hubs if there are any; if the store's clock was set back too, nothing is claimed until then (I5).
    pub(super) fn restart(&mut self, snapshot: &Snapshot, settle: Duration, has_hubs: bool) {
        self.overflowed = false;
        self.join(&snapshot.floors);
        if snapshot.epoch != self.epoch {
            self.settling_until = Some(Instant::now() + settle);
            self.rejoining = has_hubs;
            if self.was_set_back(snapshot.as_of) {
                self.as_of = Timestamp::EPOCH;
            }
        } else if self.settling_until.is_none() && !self.rejoining && !self.overflowed {
            self.as_of = self.as_of.max(snapshot.as_of);
        }
        self.epoch = snapshot.epoch;
        self.recent = Recent::starting_at(snapshot.head);
        self.read_at = Instant::now();
    }

    /// The header of a heartbeat.
    pub(super) fn header(&self) -> Header {
        let end = self.recent.end();
        Header {
            kind: FrameKind::Delta,
            part: 0,
            parts: 1,
            epoch: self.epoch,
            after: end,
            upto: end,
            as_of: self.as_of,
        }
    }
}

/// The floors that still count at `now` and that a snapshot lacks, or has lower.
pub(super) fn missing_from(snapshot: &Snapshot, floors: &Floors, now: Timestamp) -> Vec<Floor> {
    let mut known = Floors::new();
    known.extend(snapshot.floors.iter().copied());
    let is_missing = |floor: &Floor| !now.has_reached(floor.forget_at) && floor.lowest > known.lowest(&floor.key);
    floors.iter().filter(is_missing).collect()
}
