//! Origins, hubs and gates under faults, in simulated time: the rules are those of `shared`, everything around them is a model,
//! and all that happens follows from one seed.
//!
//! A run is three rounds. In each, sessions are opened, refreshed and ended while messages are lost, repeated, reordered and
//! held back, nodes are cut off (both ways, one way) and restarted; then all faults heal and nobody writes for a while.
//! Checked are I1 (nothing is admitted later than the bound), I4 (nothing falls), I5 (who claims to be fresh holds
//! everything), I9 (two seconds after the faults all digests agree), and that good tokens are admitted.
//!
//! In some runs the link to one region is slow in the last round, and sessions end by the thousand, then a tenant: its floor must
//! be at the gates behind the link long before theirs, and the hub must get all of it in time.
//!
//! Out of scope: what happens to the store (the fault matrix over real stores does that), and bytes of HTTP.

mod check;
mod faults;
mod gate;
mod hub;
mod identity;
mod origin;
mod pieces;
mod sign;
mod store;
mod world;

use core::fmt;

pub use self::{check::Report, sign::Signatures, world::run};

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// A rule that is broken on purpose.
    pub mutant: Option<Mutant>,
    /// How frames and tokens are signed.
    pub signatures: Signatures,
    /// Whether what happened is kept to be printed.
    pub traced: bool,
}

impl Plan {
    /// All rules hold; signatures are quick ones.
    pub fn new(seed: u64) -> Self {
        Self { seed, mutant: None, signatures: Signatures::Quick, traced: false }
    }
}

/// Rules that can be broken, so that it is seen whether anybody notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A gate's freshness moves although something before a frame is missing.
    FreshOverGaps,
    /// A gate takes the position of a heartbeat for its own.
    HeartbeatIsData,
    /// An origin reads the clock after the head of the log.
    ClockAfterHead,
    /// A gate that was restarted believes that nothing is revoked.
    EmptyIsFresh,
    /// A gate does not count how far clocks may be apart.
    NoSkew,
    /// A gate believes again in frames of the future once their time has come.
    ClockForgotten,
    /// A gate forgets floors two hours too early.
    ForgetsEarly,
    /// A hub waits for pushes and never pulls.
    HubNeverPulls,
    /// A gate denies whatever comes.
    DeniesAll,
    /// A gate takes the end of an urgent frame for its own position.
    UrgentIsData,
    /// An origin sends no urgent frames.
    NothingOvertakes,
    /// A piece that does not reach the head says how fresh its receiver is.
    FreshPieces,
    /// An origin pushes all that a hub lacks at once.
    PushesWhole,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::FreshOverGaps,
        Self::HeartbeatIsData,
        Self::ClockAfterHead,
        Self::EmptyIsFresh,
        Self::NoSkew,
        Self::ClockForgotten,
        Self::ForgetsEarly,
        Self::HubNeverPulls,
        Self::DeniesAll,
        Self::UrgentIsData,
        Self::NothingOvertakes,
        Self::FreshPieces,
        Self::PushesWhole,
    ];
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which seed.
    pub seed: u64,
    /// When, in simulated milliseconds.
    pub at_ms: u64,
    /// What does not hold, the invariant first.
    pub what: String,
    /// What happened before, if it was traced.
    pub trace: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {} at {} ms: {}", self.seed, self.at_ms, self.what)
    }
}
