//! The gate under faults and under a mix of requests; `cargo xtask faults --part edge` and `cargo xtask mixed` run more of both.

use std::{env, time::SystemTime};

use portcullis_tests::{Setting, faults::EDGE_CASES, mixed};

/// Requests of a run of all tests.
const MIXED_REQUESTS: u64 = 20_000;

/// I6: of many subjects' requests through one isolate, each is answered about the subject of its own token, or refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_subject_of_the_answer_is_the_subject_of_the_token() -> anyhow::Result<()> {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>()).transpose();
    let requests = number("PORTCULLIS_MIXED_REQUESTS")?.unwrap_or(MIXED_REQUESTS);
    let drawn = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let seed = number("PORTCULLIS_MIXED_SEED")?.unwrap_or(drawn);
    println!("seed {seed}");
    let mut setting = Setting::start_with(|config| config.tokens.access_ttl_s = mixed::ACCESS_TTL_S).await?;
    let mixed = mixed::run(&mut setting, requests, seed).await?;
    println!("{mixed}");
    assert_eq!(mixed.wrong, 0, "seed {seed}: {mixed}");
    assert_eq!(mixed.right.values().sum::<u64>(), requests);
    assert_eq!(mixed.right.len(), 7, "every kind came: {mixed}");
    setting.origin.stop().await;
    Ok(())
}

/// I1, I5, I7, I9: no token is admitted after the bound, and nobody is refused for nothing.
async fn is_good(name: &str) -> anyhow::Result<()> {
    let found = EDGE_CASES.iter().find(|case| case.name.contains(name) && case.is_quick);
    let case = found.ok_or_else(|| anyhow::anyhow!("no case {name}"))?;
    let counts = case.run(env!("CARGO_BIN_EXE_portcullis-faults").as_ref()).await?;
    println!("{name}: {counts}");
    anyhow::ensure!(counts.is_good(), "{name}: {counts}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_knows_nothing_is_not_ready() -> anyhow::Result<()> {
    is_good("come back with nothing").await
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_without_data_make_nobody_fresh() -> anyhow::Result<()> {
    is_good("data held").await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_origin_takes_over() -> anyhow::Result<()> {
    is_good("takes over").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_tenant_overtakes_on_a_slow_line() -> anyhow::Result<()> {
    is_good("fast again").await
}
