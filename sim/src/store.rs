//! The store: its clock is the time of the simulation, its log loses nothing.

use shared::{feed::Epoch, revocation::Floor};

/// Of the only log.
pub(crate) const EPOCH: Epoch = Epoch(1);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) floor: Floor,
    pub(crate) appended_at: u64,
}

/// The floor log.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) log: Vec<Entry>,
}

impl Store {
    pub(crate) fn append(&mut self, floor: Floor, now: u64) {
        self.log.push(Entry { floor, appended_at: now });
    }

    pub(crate) fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// The floors of `(after, upto]`.
    pub(crate) fn between(&self, after: u64, upto: u64) -> Vec<Floor> {
        let range = usize::try_from(after).unwrap_or(usize::MAX)..usize::try_from(upto).unwrap_or(usize::MAX);
        self.log.get(range).unwrap_or_default().iter().map(|entry| entry.floor).collect()
    }
}
