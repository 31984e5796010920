//! How much a hub is sent at once: what a slow link carries in half a second; and which floors overtake the rest.
//!
//! Out of scope: frames, and how they travel.

use alloc::vec::Vec;
use core::{ops::Range, time::Duration};

use crate::{feed::FRAME_FLOORS_MAX, revocation::Floor};

/// Floors of the first piece: 14 KiB, half a second at 256 kbit/s.
const FLOORS_FIRST: usize = 512;

/// The smallest piece, 2 KiB.
const FLOORS_MIN: usize = 64;

/// A full piece that took less lets the next one be larger, one that took more than the other makes it smaller.
const TOOK_MIN: Duration = Duration::from_millis(250);
const TOOK_MAX: Duration = Duration::from_millis(500);

/// The most floors of the next piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceSize(usize);

impl PieceSize {
    /// Of the first piece, before anything is known of the link.
    pub const FIRST: Self = Self(FLOORS_FIRST);

    /// As a number of floors.
    pub const fn floors_max(self) -> usize {
        self.0
    }

    /// Which parts of a snapshot the next piece holds: from `next` on as many as there is room for, at least one.
    pub fn parts(self, part_floors: usize, next: u16, parts: u16) -> Range<u16> {
        let count = u16::try_from(self.0.checked_div(part_floors).unwrap_or(1)).unwrap_or(u16::MAX).max(1);
        next..next.saturating_add(count).min(parts)
    }

    /// After a piece that the hub took in within `took`; `is_full` if more would have followed had there been room.
    #[must_use]
    pub fn taken(self, is_full: bool, took: Duration) -> Self {
        if took > TOOK_MAX {
            Self((self.0 / 2).max(FLOORS_MIN))
        } else if is_full && took < TOOK_MIN {
            Self(self.0.saturating_mul(2).min(FRAME_FLOORS_MAX))
        } else {
            self
        }
    }

    /// After a piece of which it is not known whether the hub took it in.
    #[must_use]
    pub fn failed(self) -> Self {
        Self((self.0 / 2).clamp(FLOORS_MIN, FLOORS_FIRST))
    }
}

/// The floors of an urgent frame: every wide one among those that a hub lacks. None if none of `news`, which were appended since
/// wide ones were looked for last, is wide (if those are not known any more, that is no reason), or if one frame has no room.
pub fn overtaking(news: Option<impl Iterator<Item = Floor>>, lacking: impl Iterator<Item = Floor>) -> Vec<Floor> {
    let is_wide = |floor: &Floor| floor.key.is_wide();
    if news.is_some_and(|mut news| !news.any(|floor| is_wide(&floor))) {
        return Vec::new();
    }
    let floors: Vec<Floor> = lacking.filter(is_wide).take(FRAME_FLOORS_MAX.saturating_add(1)).collect();
    if floors.len() > FRAME_FLOORS_MAX { Vec::new() } else { floors }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::SessionId,
        revocation::{FloorKey, Version},
        time::Timestamp,
    };

    const SLOW: Duration = Duration::from_millis(501);
    const FAST: Duration = Duration::from_millis(249);

    #[test]
    fn a_piece_is_what_the_link_carries_in_half_a_second() {
        let first = PieceSize::FIRST;
        assert_eq!(first.taken(true, FAST).floors_max(), 1_024);
        assert_eq!(first.taken(false, FAST), first, "a piece with room left says nothing of a larger one");
        assert_eq!(first.taken(true, TOOK_MIN), first);
        assert_eq!(first.taken(true, TOOK_MAX), first);
        assert_eq!(first.taken(false, SLOW).floors_max(), 256);
        let (mut small, mut large) = (first, first);
        for _ in 0..20 {
            (small, large) = (small.taken(true, SLOW), large.taken(true, FAST));
        }
        assert_eq!((small.floors_max(), large.floors_max()), (FLOORS_MIN, FRAME_FLOORS_MAX));
        assert_eq!((small.failed(), large.failed()), (small, first));
    }

    #[test]
    fn a_piece_holds_at_least_one_part_of_a_snapshot_and_none_after_the_last() {
        let first = PieceSize::FIRST;
        assert_eq!(first.parts(1_024, 0, 3), 0..1);
        assert_eq!(first.parts(128, 0, 9), 0..4);
        assert_eq!(first.parts(128, 8, 9), 8..9);
    }

    #[test]
    fn wide_floors_overtake_once() {
        let of = |key| Floor { key, lowest: Version::ENDED, forget_at: Timestamp::from_secs(9) };
        let narrow = of(FloorKey::session(&SessionId::from_random([1; 16])));
        let (wide, other) = (of(FloorKey::everyone()), of(FloorKey::signing_key("k")));
        let lacking = [narrow, wide, narrow, other];
        let all = lacking.into_iter();
        assert_eq!(overtaking(Some([narrow, other].into_iter()), all.clone()), [wide, other]);
        assert_eq!(overtaking(Some([narrow].into_iter()), all.clone()), []);
        assert_eq!(overtaking(None::<core::iter::Empty<Floor>>, all), [wide, other]);
    }
}
