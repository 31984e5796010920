//! What a day of sessions leaves in the store.

use portcullis_tests::faults::{StoreOfDay, churn};

/// I11: every record of a session has a lifetime, and none of those whose time is over is left; the index names no session
/// that is gone.
async fn leaves_nothing(store: StoreOfDay) -> anyhow::Result<()> {
    let day = churn(env!("CARGO_BIN_EXE_portcullis-faults").as_ref(), store).await?;
    println!("{store:?}: {day:?}");
    assert_eq!((day.without_lifetime, day.over, day.orphans), (0, 0, 0), "{day:?}");
    // All of it happened, and what must live lives.
    let least = day.refreshed.min(day.refused).min(day.ended).min(day.noted);
    assert!(day.opened > 800 && least > 50 && day.noted <= day.sessions, "{day:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_churn_leaves_nothing_in_the_file_by_faketime() -> anyhow::Result<()> {
    leaves_nothing(StoreOfDay::Embedded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_churn_leaves_nothing_in_redis_by_faketime() -> anyhow::Result<()> {
    leaves_nothing(StoreOfDay::Redis).await
}
