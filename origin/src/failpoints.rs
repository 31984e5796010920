//! Named points at which a test stops the process, between the writes of a command and around them.
//!
//! Only with the feature `failpoints`, by the variable `FAILPOINTS` of the environment: `NAME=pause` holds a command there,
//! `NAME=3*off->return` ends the process, as by a power cut, when it comes there for the fourth time.

/// The floor of a change is in the log, its record is not written.
pub const BETWEEN_LOG_AND_RECORD: &str = "between-log-and-record";
/// Floor and record of a change are written, nobody was told.
pub const AFTER_CHANGE: &str = "after-change";
/// A session that is opened is in the index of its subject, and has no record.
pub const BETWEEN_INDEX_AND_RECORD: &str = "between-index-and-record";
/// A session is opened, nobody has its tokens.
pub const AFTER_OPEN: &str = "after-open";
/// The tokens of a refresh are made, its record is not written.
pub const BEFORE_ROTATION: &str = "before-rotation";
/// The record of a refresh is written, nobody has its tokens.
pub const AFTER_ROTATION: &str = "after-rotation";

/// All of them.
pub const ALL: [&str; 6] =
    [BETWEEN_LOG_AND_RECORD, AFTER_CHANGE, BETWEEN_INDEX_AND_RECORD, AFTER_OPEN, BEFORE_ROTATION, AFTER_ROTATION];

/// A command comes to a point.
pub(crate) fn reached(_name: &str) {
    fail::fail_point!(_name, |_| std::process::abort());
}
