//! Moves everything that a store holds to another one by a file, without ending a session.
//!
//! Sessions, subjects, tenants, rosters, keys (sealed as they are), API keys, the audit trail, idempotent answers and the
//! floors go along; of the log its live floors. The log of the other store gets a higher epoch than the one that was left, so
//! hubs and gates take it for the newer one and read all of it. Origins of both stores need the same master key.
//!
//! Order of an import: mark → epoch → floors → records and index → unmark. It may be repeated at any point; a store that is
//! marked is opened by nobody but an import.
//!
//! Invariant: nothing is written before the whole file was read and found whole and authentic.

mod export;
mod file;
mod import;
#[cfg(test)]
mod tests;

pub use self::{
    export::{ExportError, export},
    file::FileError,
    import::{ImportError, Taken, Whole, check_not_importing, import},
};

/// What went along.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Live floors.
    pub floors: u64,
    /// Values under keys.
    pub records: u64,
    /// Sessions that are noted for their subjects.
    pub sessions: u64,
}
