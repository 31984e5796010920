//! What must hold, and what was counted so that it is seen that something happened.

use std::collections::BTreeMap;

use shared::{
    replica::{Freshness, Position, Replica},
    revocation::{FloorKey, Floors, Version},
    time::Timestamp,
};

use crate::store::Store;

/// What happened in a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Requests that passed.
    pub admitted: u64,
    /// Requests of tokens that a floor had ended, and that were refused for it.
    pub refused: u64,
    /// Requests that were refused since the gate could not know.
    pub stale: u64,
    /// Requests that passed although a floor had ended the token already, within the bound.
    pub late: u64,
    /// Floors that rose.
    pub floors: u64,
    /// Frames that hubs and gates were sent.
    pub messages: u64,
    /// Messages that were lost, held or cut off.
    pub lost: u64,
    /// Times at which all digests were the same.
    pub agreements: u64,
    /// Gates that said that their clock is behind.
    pub clocks_reported: u64,
    /// Gates that knew of a tenant's end while their hub was far from the head.
    pub overtook: u64,
    /// A number that two runs share only if the same happened in both.
    pub fingerprint: u64,
}

impl Report {
    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Self) {
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.stale += other.stale;
        self.late += other.late;
        self.floors += other.floors;
        self.messages += other.messages;
        self.lost += other.lost;
        self.agreements += other.agreements;
        self.clocks_reported += other.clocks_reported;
        self.overtook += other.overtook;
        self.fingerprint = self.fingerprint.wrapping_add(other.fingerprint);
    }
}

/// I5: whoever claims to be fresh as of a moment holds every floor that was appended before it.
pub(crate) fn holds_what_it_claims(freshness: Freshness, floors: &Floors, store: &Store) -> Result<(), String> {
    let Freshness::AsOf(as_of) = freshness else { return Ok(()) };
    let lacks = |entry: &&crate::store::Entry| {
        Timestamp::from_millis(entry.appended_at) < as_of && floors.lowest(&entry.floor.key) < entry.floor.lowest
    };
    match store.log.iter().find(lacks) {
        None => Ok(()),
        Some(entry) => {
            let (at, key) = (entry.appended_at, entry.floor.key);
            Err(format!("I5: fresh as of {as_of:?} without {key:?}, which was appended at {at}"))
        }
    }
}

/// What a node said before, to see that nothing falls.
#[derive(Default)]
pub(crate) struct Past {
    lowest: BTreeMap<FloorKey, Version>,
    position: Option<Position>,
    as_of: Option<Timestamp>,
}

impl Past {
    /// I4: compares a replica with what it was before.
    pub(crate) fn compare(&mut self, replica: &Replica) -> Result<(), String> {
        self.compare_floors(replica.floors())?;
        self.compare_position(replica.position())?;
        if let Freshness::AsOf(as_of) | Freshness::ClockBehind(as_of) = replica.freshness() {
            if self.as_of.is_some_and(|before| before > as_of) {
                return Err(format!("I4: freshness fell from {:?} to {as_of:?}", self.as_of));
            }
            self.as_of = Some(as_of);
        }
        Ok(())
    }

    /// I4: the same for floors alone.
    pub(crate) fn compare_floors(&mut self, floors: &Floors) -> Result<(), String> {
        if let Some((key, version)) = self.lowest.iter().find(|(key, version)| floors.lowest(key) < **version) {
            return Err(format!("I4: {key:?} fell from {version:?} to {:?}", floors.lowest(key)));
        }
        self.lowest.extend(floors.iter().map(|floor| (floor.key, floor.lowest)));
        Ok(())
    }

    /// I4: the same for a position.
    pub(crate) fn compare_position(&mut self, position: Position) -> Result<(), String> {
        let order = |position: Position| (position.epoch, position.cursor);
        if let Some(before) = self.position.filter(|before| order(*before) > order(position)) {
            return Err(format!("I4: position fell from {before:?} to {position:?}"));
        }
        self.position = Some(position);
        Ok(())
    }
}
