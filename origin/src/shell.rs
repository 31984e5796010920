//! The clock and the randomness of the process; nothing else asks for either.

use std::time::{SystemTime, UNIX_EPOCH};

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
