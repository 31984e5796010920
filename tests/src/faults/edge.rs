//! The gate's part of the fault matrix: an origin as a process of its own, hub and gate in `workerd`, and clients that ask the
//! gate and end sessions at the origin while something happens to one of them or to what is between them.
//!
//! Told of each case: tokens that were admitted later than the bound after their end was acknowledged (I1), sessions that were
//! refused although nobody ended them, and how long it took until good tokens passed again; the first two must be 0.

mod cases;
mod link;
mod world;

use std::{fmt, time::Duration};

pub use self::cases::{EDGE_CASES, EdgeCase};

/// What a case came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeCounts {
    /// Good tokens that passed.
    pub passed: u64,
    /// Ended tokens that were refused.
    pub refused: u64,
    /// Answers of a gate that could not know, as it says.
    pub stale: u64,
    /// Tokens that passed later than the bound after their end.
    pub admitted: u64,
    /// Good tokens that were refused, and answers that tell of the trouble in another way than 503 with `Retry-After`.
    pub wrong: u64,
    /// From the end of the fault until a good token passed.
    pub recovered: Vec<Duration>,
    /// What did not hold beside.
    pub broken: Vec<String>,
    /// What else was measured.
    pub notes: Vec<String>,
}

impl EdgeCounts {
    /// Whether nothing went wrong, and something was done.
    pub fn is_good(&self) -> bool {
        self.passed > 0 && self.refused > 0 && (self.admitted, self.wrong) == (0, 0) && self.broken.is_empty()
    }
}

impl fmt::Display for EdgeCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "admitted late {}, refused wrongly {}", self.admitted, self.wrong)?;
        if let Some(longest) = self.recovered.iter().max() {
            write!(f, ", recovered in {longest:.1?} at most")?;
        }
        write!(f, " ({} passed, {} refused, {} could not be known)", self.passed, self.refused, self.stale)?;
        for note in self.notes.iter().chain(&self.broken) {
            write!(f, "\n  {note}")?;
        }
        Ok(())
    }
}
