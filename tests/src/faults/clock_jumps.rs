//! The clock of the store jumps, by hours and back, while those of the origins are right.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::ensure;
use shared::{replica::Replica, revocation::Floor, time::Timestamp};

use super::{
    Outcome,
    ledger::{BOUND, Sessions},
    world::World,
};
use crate::{
    TestRedis,
    clock::{Clock, MovedClock},
    eventually,
};

/// How far it jumps: longer than floors are remembered, and shorter than a session of the case may be idle.
const JUMP_S: i64 = 3 * 3_600;

/// Clients go on all the while. A hub whose store is behind or ahead does not claim to know how fresh it is. An origin that
/// starts while the store is ahead keeps the floors whose time is over by that clock only.
/// When the clock is put right again the log gets another epoch, and the hub is fresh without waiting until the time that it
/// was told is reached.
pub(super) async fn jumped(program: PathBuf) -> anyhow::Result<Outcome> {
    let clock = MovedClock::new()?;
    let redis = TestRedis::start_by(Clock::Moved(clock.clone())).await?;
    let mut world = World::start_apart(&redis.url(), &program, [0, 0], Sessions::Kept).await?;
    let freshens =
        async |world: &World| eventually("the hub to be fresh", async || knows_age(world).then_some(())).await;
    let ages = async |world: &World| {
        eventually("the hub to say that it is not fresh", async || (!knows_age(world)).then_some(())).await
    };

    freshens(&world).await?;
    clock.set(-JUMP_S)?;
    ages(&world).await?;
    world.goes_on().await?;
    ensure!(!knows_age(&world), "the hub claims to be fresh by a clock that is behind");
    clock.set(0)?;
    freshens(&world).await?;

    clock.set(JUMP_S)?;
    ages(&world).await?;
    if let Some(origin) = world.processes().first_mut() {
        origin.restart_ahead(0).await?;
    }
    world.goes_on().await?;
    ensure!(!knows_age(&world), "the hub claims to be fresh by a clock that is ahead");
    let held: Vec<Floor> = world.hub().with(|replica| replica.floors().iter().collect());
    clock.set(0)?;
    freshens(&world).await?;
    world.goes_on().await?;

    let mut new = Replica::new();
    world.read_into(&mut new).await?;
    let lacks = held.iter().filter(|floor| new.floors().lowest(&floor.key) < floor.lowest).count();
    ensure!(lacks == 0 && !held.is_empty(), "a new replica lacks {lacks} of {} floors", held.len());
    world.finish().await.map(Outcome::Ran)
}

/// Whether the hub says that it knows what was acknowledged until [`BOUND`] ago.
fn knows_age(world: &World) -> bool {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    world.hub().with(|replica| replica.freshness().is_within(BOUND, now, Duration::ZERO))
}
