//! Helpers of the end-to-end tests: origins and hubs on free ports, waiting with a deadline.

mod hub;
mod origin;

pub use self::{hub::TestHub, origin::TestOrigin};

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks again until there is an answer.
///
/// # Errors
///
/// There is none within 20 s.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    anyhow::bail!("waited {DEADLINE:?} in vain for {what}")
}
