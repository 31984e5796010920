//! The clock and the randomness of the process; nothing else asks for either. Pauses between attempts are random too.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use shared::time::Timestamp;

/// The time of this machine.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The library has no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptography library has no randomness")]
pub struct NoRandomness;

/// 128 random bits.
pub(crate) fn random() -> Result<[u8; 16], NoRandomness> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Pauses between attempts, from `min` to `max`, without an end; with jitter, so that processes do not come back in step.
pub(crate) fn pauses(min: Duration, max: Duration) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(min)
        .with_max_delay(max)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// SES-01: no two are the same, and every bit is set about as often as not.
    #[test]
    fn random_bits_are_unique_and_even() {
        const DRAWS: usize = 20_000;
        let mut seen = HashSet::new();
        let mut set = [0_usize; 128];
        for _ in 0..DRAWS {
            let bits = u128::from_be_bytes(random().unwrap());
            assert!(seen.insert(bits));
            for (bit, count) in set.iter_mut().enumerate() {
                *count += usize::from(bits >> bit & 1 == 1);
            }
        }
        // One count in 10^40 lies so far off.
        assert!(set.iter().all(|count| (DRAWS * 45 / 100..DRAWS * 55 / 100).contains(count)), "{set:?}");
    }
}
