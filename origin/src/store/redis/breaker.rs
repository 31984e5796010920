//! A circuit breaker: after several calls in a row that got no answer, calls fail at once for a moment, then one call finds
//! out whether the store is back. So a store that hangs costs callers no time, and is not met by a crowd when it returns.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use backon::ExponentialBackoff;
use tokio::time::Instant;

use super::{StoreError, link::pauses};

/// Calls in a row without an answer after which the store counts as gone.
const FAILURES_MAX: u32 = 5;

pub(super) struct Breaker {
    state: Mutex<State>,
    /// A call that tries is given this long before another one tries.
    timeout: Duration,
}

struct State {
    failures: u32,
    closed_until: Option<Instant>,
    pauses: ExponentialBackoff,
}

impl Breaker {
    pub(super) fn new(timeout: Duration) -> Self {
        let state = State { failures: 0, closed_until: None, pauses: pauses() };
        Self { state: Mutex::new(state), timeout }
    }

    /// Lets a call pass, or refuses it at once.
    pub(super) fn admit(&self, now: Instant) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.closed_until {
            Some(until) if now < until => Err(StoreError::Unavailable(
                "it gave no answer several times and is left alone for a moment".to_owned(),
            )),
            Some(_) => {
                state.closed_until = Some(now + self.timeout);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The store answered, whatever it said.
    pub(super) fn answered(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failures > 0 {
            *state = State { failures: 0, closed_until: None, pauses: pauses() };
        }
    }

    /// It did not.
    pub(super) fn failed(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_MAX {
            state.closed_until = state.pauses.next().map(|pause| now + pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_try() {
        let (breaker, now) = (Breaker::new(Duration::from_secs(1)), Instant::now());
        for _ in 1..FAILURES_MAX {
            breaker.failed(now);
        }
        breaker.answered();
        for _ in 1..FAILURES_MAX {
            assert!(breaker.admit(now).is_ok(), "failures that are not in a row do not count");
            breaker.failed(now);
        }
        breaker.failed(now);
        assert!(breaker.admit(now).is_err_and(|error| !error.may_have_happened()));
        let later = now + Duration::from_secs(2);
        assert!(breaker.admit(later).is_ok(), "one finds out");
        assert!(breaker.admit(later).is_err(), "the others wait for what it finds");
        breaker.answered();
        assert!(breaker.admit(later).is_ok());
    }
}
