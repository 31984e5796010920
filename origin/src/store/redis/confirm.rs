//! Waiting for replicas: one `WAIT` for all writes of a connection that wait at the same time.
//!
//! `WAIT` speaks for what its own connection wrote before, and holds up what comes after it there. So writes that must be
//! confirmed have a connection of their own; while one `WAIT` is on its way, the next writes gather behind it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// The writes of one connection.
#[derive(Default)]
pub(super) struct Confirms {
    written: AtomicU64,
    last: Mutex<Last>,
}

/// What the last `WAIT` came to.
#[derive(Default)]
struct Last {
    /// The writes that were answered before it was sent.
    upto: u64,
    asked: u64,
    confirmed: u64,
}

impl Confirms {
    /// Whether so many replicas have the write that was just answered. `wait` asks the server how many have, and says none
    /// if that is not known.
    pub(super) async fn have(&self, replicas: u64, wait: impl AsyncFnOnce() -> u64) -> bool {
        let own = self.written.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let mut last = self.last.lock().await;
        if last.upto < own || last.asked < replicas {
            let upto = self.written.load(Ordering::SeqCst);
            *last = Last { upto, asked: replicas, confirmed: wait().await };
        }
        last.confirmed >= replicas
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    /// Of writes that come while one is waited for, one more wait speaks for all; nobody takes the word of an earlier one.
    #[tokio::test]
    async fn one_wait_speaks_for_all_that_were_written_before_it() {
        let (confirms, waits) = (Confirms::default(), AtomicU64::new(0));
        let wait = async || {
            waits.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            1
        };
        assert_eq!(join_all((0..100).map(|_| confirms.have(1, wait))).await, [true; 100]);
        assert!((1..=2).contains(&waits.load(Ordering::SeqCst)), "{waits:?}");
        let before = waits.load(Ordering::SeqCst);
        assert!(confirms.have(1, wait).await);
        assert_eq!(waits.load(Ordering::SeqCst), before + 1, "a later write is waited for anew");
    }

    #[tokio::test]
    async fn a_wait_for_fewer_does_not_speak_for_more() {
        let confirms = Confirms::default();
        let have = join_all([1, 2].map(|replicas| confirms.have(replicas, async move || replicas)));
        assert_eq!(have.await, [true, true]);
        assert!(!confirms.have(2, async || 1).await);
        assert!(!confirms.have(1, async || 0).await);
    }
}
