//! The tail end of the floor log in memory, so that a replica which is a little behind is served without the store.

use std::collections::VecDeque;

use shared::{feed::Cursor, revocation::Floor};

/// The most floors kept: 256 Ki entries of 32 bytes are 8 MiB, taken as they come. A hub behind a slow link that lacks more gets
/// a snapshot.
const FLOORS_MAX: usize = 262_144;

/// Consecutive entries of the log: every floor of `(start, end]`.
#[derive(Debug)]
pub(super) struct Recent {
    start: Cursor,
    entries: VecDeque<Floor>,
}

impl Recent {
    /// Nothing yet, from `start` on.
    pub(super) fn starting_at(start: Cursor) -> Self {
        Self { start, entries: VecDeque::new() }
    }

    /// Position up to which the entries are complete.
    pub(super) fn end(&self) -> Cursor {
        Cursor(self.start.0.saturating_add(u64::try_from(self.entries.len()).unwrap_or(u64::MAX)))
    }

    /// Adds the entries that follow on the end; the oldest are dropped when there are too many.
    pub(super) fn extend(&mut self, floors: &[Floor]) {
        for floor in floors {
            if self.entries.len() >= FLOORS_MAX {
                self.entries.pop_front();
                self.start = Cursor(self.start.0.saturating_add(1));
            }
            self.entries.push_back(*floor);
        }
    }

    /// The floors of `(after, end]`; none if the entries do not reach back to `after`, or `after` lies ahead.
    pub(super) fn since(&self, after: Cursor) -> Option<impl Iterator<Item = Floor>> {
        let first = usize::try_from(after.0.checked_sub(self.start.0)?).ok()?;
        (first <= self.entries.len()).then(|| self.entries.range(first..).copied())
    }
}
