//! Helpers of the end-to-end tests: origins, gates and hubs on free ports, waiting with a deadline.

mod clock;
mod demo;
pub mod faults;
mod gate;
mod guarded;
mod hub;
mod issuer;
pub mod mixed;
mod nginx;
mod node;
mod origin;
mod redis;
pub mod secrets;
mod setting;
mod up;
mod upstream;
pub mod vectors;

pub use self::{
    clock::can_move_clocks,
    demo::{TestDemo, in_chromium},
    gate::{GatePlace, GateSettings, TestGate, copy_build, free_port, root},
    guarded::TestGuarded,
    hub::TestHub,
    issuer::{TestIssuer, signed},
    nginx::TestNginx,
    node::in_node,
    origin::{MANAGEMENT_KEY, MASTER_KEY, TestOrigin, feed_key},
    redis::{REDIS_PASSWORD, TestRedis},
    setting::{ASSERTION_KEY, Opened, POLICY, Setting, set_cookies},
    up::TestUp,
    upstream::TestUpstream,
};

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again until there is an answer.
///
/// # Errors
///
/// There is none within a minute.
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
