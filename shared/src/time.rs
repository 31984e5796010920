//! Instants. Spans are [`core::time::Duration`].
//!
//! Invariant: every interval is half-open, `[start, end)`. [`Timestamp::has_reached`] is the only place that decides it.

use core::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// An instant in milliseconds since the Unix epoch, as read by a shell from its clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch itself.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the Unix epoch (a JWT `NumericDate`, RFC 7519 §2); saturates.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Whole seconds since the Unix epoch, rounded up: for an end that must not come too early.
    pub const fn as_secs_ceil(self) -> u64 {
        self.0.div_ceil(1000)
    }

    /// Later by `span`; saturates at the end of time.
    pub fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis_of(span)))
    }

    /// Earlier by `span`; saturates at the Unix epoch.
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis_of(span)))
    }

    /// The time that has passed since `earlier`; zero if `earlier` lies ahead.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Whether an interval that ends at `end` is over at `self`: the end itself is outside (`now == exp` is expired,
    /// RFC 7519 §4.1.4: "on or after which").
    pub const fn has_reached(self, end: Self) -> bool {
        self.0 >= end.0
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

fn millis_of(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_interval_is_outside_of_it() {
        let end = Timestamp::from_millis(1000);
        assert!(!Timestamp::from_millis(999).has_reached(end));
        assert!(Timestamp::from_millis(1000).has_reached(end));
        assert!(Timestamp::from_millis(1001).has_reached(end));
    }

    #[test]
    fn arithmetic_saturates() {
        let late = Timestamp::from_millis(u64::MAX);
        assert_eq!(late.saturating_add(Duration::MAX), late);
        assert_eq!(Timestamp::EPOCH.saturating_sub(Duration::from_secs(1)), Timestamp::EPOCH);
        assert_eq!(Timestamp::from_secs(u64::MAX), late);
        assert_eq!(Timestamp::from_millis(1001).as_secs_ceil(), 2);
    }
}
