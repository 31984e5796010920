//! The cases of the fault matrix that take a few seconds; `cargo xtask faults` runs all of them.

use portcullis_tests::faults::{CASES, Outcome};

/// I1, I2, I3, I7: whatever happens to the store, nothing that was acknowledged is lost, no token is admitted after the bound, and
/// nobody is refused for nothing.
async fn is_good(name: &str) -> anyhow::Result<()> {
    let found = CASES.iter().find(|case| case.name.contains(name) && case.is_quick);
    let case = found.ok_or_else(|| anyhow::anyhow!("no case {name}"))?;
    let outcome = case.run(env!("CARGO_BIN_EXE_portcullis-faults").as_ref()).await?;
    anyhow::ensure!(matches!(outcome, Outcome::Ran(counts) if counts.is_good()), "{name}: {outcome}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_killed() -> anyhow::Result<()> {
    is_good("killed").await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_emptied_and_replaced() -> anyhow::Result<()> {
    is_good("empty").await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_falls_back_to_a_backup() -> anyhow::Result<()> {
    is_good("backup of just before").await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_falls_back_an_hour_by_faketime() -> anyhow::Result<()> {
    is_good("backup of an hour ago").await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_runs_out_of_memory() -> anyhow::Result<()> {
    is_good("maxmemory").await
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_are_flushed() -> anyhow::Result<()> {
    is_good("SCRIPT FLUSH").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_trimmed() -> anyhow::Result<()> {
    is_good("trimmed").await
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_are_moved_by_faketime() -> anyhow::Result<()> {
    is_good("clocks").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_of_redis_jumps_by_faketime() -> anyhow::Result<()> {
    is_good("jumps").await
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn origins_are_killed_at_failpoints() -> anyhow::Result<()> {
    is_good("failpoint").await
}
