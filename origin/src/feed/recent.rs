//! The tail end of the floor log in memory, so that a replica which is a little behind is served without the store.

use std::collections::VecDeque;

use shared::{feed::Cursor, revocation::Floor};

/// The most floors kept: 64 Ki entries of 32 bytes are 2 MiB, and more than fits one frame is a snapshot's job anyway.
const FLOORS_MAX: usize = 65_536;

/// Consecutive entries of the log: every floor of `(start, end]`, each with its position.
#[derive(Debug)]
pub(super) struct Recent {
    start: Cursor,
    end: Cursor,
    entries: VecDeque<(Cursor, Floor)>,
}

impl Recent {
    /// Nothing yet, from `start` on.
    pub(super) fn starting_at(start: Cursor) -> Self {
        Self { start, end: start, entries: VecDeque::new() }
    }

    /// Position up to which the entries are complete.
    pub(super) fn end(&self) -> Cursor {
        self.end
    }

    /// Adds the entries of `(end, upto]`, in order; the oldest are dropped when there are too many.
    pub(super) fn extend(&mut self, entries: impl IntoIterator<Item = (Cursor, Floor)>, upto: Cursor) {
        self.entries.extend(entries);
        self.end = self.end.max(upto);
        while self.entries.len() > FLOORS_MAX {
            if let Some((position, _)) = self.entries.pop_front() {
                self.start = position;
            }
        }
    }

    /// The floors of `(after, end]`; none if the entries do not reach back to `after`, or `after` lies ahead.
    pub(super) fn since(&self, after: Cursor) -> Option<Vec<Floor>> {
        if after < self.start || after > self.end {
            return None;
        }
        let first = self.entries.partition_point(|(position, _)| *position <= after);
        Some(self.entries.range(first..).map(|(_, floor)| *floor).collect())
    }
}
