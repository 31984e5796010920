//! The store's part of the fault matrix: clients work on two origins over one store while something happens to the store;
//! one ledger of what was acknowledged, and one checker, serve all cases.
//!
//! Told of each case, and each must be 0: acknowledgements that were lost (I2), tokens that a replica would admit later than
//! the bound after their end was acknowledged (I1), and alarms for sessions that nobody ended (I3).

mod cases;
mod churn;
mod clock_jumps;
mod cluster;
mod disk;
mod edge;
mod ledger;
mod process;
mod sentinels;
mod world;

use std::{fmt, ops::AddAssign};

pub use self::{
    cases::{CASES, Case},
    churn::{Day, StoreOfDay, churn},
    edge::{EDGE_CASES, EdgeCase, EdgeCounts},
};

/// What a case came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran.
    Ran(Counts),
    /// It cannot run here, and why.
    Skipped(String),
}

/// What was counted in a case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Commands that had to be repeated.
    pub repeated: u64,
    /// Acknowledged commands of which nothing is known any more, or that were undone.
    pub lost: u64,
    /// Tokens that a fresh replica admits later than the bound after their end.
    pub admitted: u64,
    /// Sessions that were refused although nobody ended them, and answers that tell of the trouble in another way than 503.
    pub false_alarms: u64,
}

impl Counts {
    /// Whether nothing went wrong, and something was done.
    pub fn is_good(&self) -> bool {
        self.acknowledged > 0 && (self.lost, self.admitted, self.false_alarms) == (0, 0, 0)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.repeated += other.repeated;
        self.lost += other.lost;
        self.admitted += other.admitted;
        self.false_alarms += other.false_alarms;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped(why) => write!(f, "skipped: {why}"),
            Self::Ran(counts) => write!(
                f,
                "lost {}, admitted late {}, false alarms {} ({} acknowledged, {} repeated)",
                counts.lost, counts.admitted, counts.false_alarms, counts.acknowledged, counts.repeated
            ),
        }
    }
}
