//! What happens to the store, one function per case.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use ::origin::{config::Level, failpoints};
use shared::{replica::Replica, revocation::Floor};

use super::{
    Counts, Outcome,
    clock_jumps::jumped,
    cluster::Cluster,
    disk::SmallDisk,
    ledger::Sessions::{self, Kept, MayBeForgotten},
    sentinels::Sentinels,
    world::World,
};
use crate::{TestRedis, clock::can_move_clocks, eventually};

type Run = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>>>>;

/// One line of the matrix.
pub struct Case {
    /// What happens.
    pub name: &'static str,
    /// Whether it takes a few seconds only, so that every run of the tests has it.
    pub is_quick: bool,
    run: fn(PathBuf) -> Run,
}

impl Case {
    /// Runs it; `program` is an origin if its first argument is `serve`.
    ///
    /// # Errors
    ///
    /// Something does not start, or clients come to a halt: then nothing can be said.
    pub async fn run(&self, program: &Path) -> anyhow::Result<Outcome> {
        (self.run)(program.to_owned()).await
    }
}

const NO_FAKETIME: &str = "libfaketime is not installed";

/// All of them.
pub const CASES: [Case; 15] = [
    case("Redis killed with append-only file, fsync always", true, |_| Box::pin(killed())),
    case("failover by sentinels", false, |_| Box::pin(failed_over())),
    case("split brain: primary cut off with its clients, replica promoted, healed", false, |_| Box::pin(split_brain())),
    case("Redis paused for 10 s", false, |_| Box::pin(paused())),
    case("replaced by an empty one", true, |_| Box::pin(emptied())),
    case("restored from a backup of just before", true, |_| Box::pin(restored())),
    case("restored from a backup of an hour ago", true, |program| Box::pin(restored_after_an_hour(program))),
    case("maxmemory reached, then raised", true, |_| Box::pin(out_of_memory())),
    case("SCRIPT FLUSH every 10 ms", true, |_| Box::pin(scripts_flushed())),
    case("log trimmed under a hub that lags", true, |_| Box::pin(trimmed())),
    case("disk full, then freed", false, |_| Box::pin(disk_full())),
    case("every primary of a cluster killed, one after the other", false, |_| Box::pin(cluster_failed_over())),
    case("origin killed at each failpoint", true, |program| Box::pin(killed_at_failpoints(program))),
    case("two origins with clocks 2 s apart", true, |program| Box::pin(clocks_apart(program))),
    case("clock of Redis jumps 3 h back and ahead", true, |program| Box::pin(clock_jumps(program))),
];

const fn case(name: &'static str, is_quick: bool, run: fn(PathBuf) -> Run) -> Case {
    Case { name, is_quick, run }
}

fn skipped(why: &str) -> anyhow::Result<Outcome> {
    Ok(Outcome::Skipped(why.to_owned()))
}

async fn over(redis: &TestRedis, sessions: Sessions) -> anyhow::Result<World> {
    World::start(&redis.url(), Level::Local, sessions).await
}

async fn finish(world: World) -> anyhow::Result<Outcome> {
    world.finish().await.map(Outcome::Ran)
}

async fn killed() -> anyhow::Result<Outcome> {
    let mut redis = TestRedis::start().await?;
    let world = over(&redis, Kept).await?;
    for _ in 0..3 {
        redis.restart().await?;
        world.goes_on().await?;
    }
    finish(world).await
}

async fn failed_over() -> anyhow::Result<Outcome> {
    let mut servers = Sentinels::start().await?;
    let world = World::start(&servers.url(), Level::Replicated(1), Kept).await?;
    servers.first().kill();
    servers.failed_over().await?;
    world.goes_on().await?;
    finish(world).await
}

async fn cluster_failed_over() -> anyhow::Result<Outcome> {
    let mut cluster = Cluster::start().await?;
    let world = World::start(&cluster.url(), Level::Replicated(1), Kept).await?;
    cluster.kill_every_primary().await?;
    world.goes_on().await?;
    finish(world).await
}

async fn split_brain() -> anyhow::Result<Outcome> {
    let mut servers = Sentinels::start().await?;
    let world = World::start(&servers.url(), Level::Replicated(1), Kept).await?;
    servers.first().pause()?;
    servers.failed_over().await?;
    // The old primary goes on as one, with connections of the origins, until the sentinels turn it into a replica.
    servers.first().resume()?;
    world.goes_on().await?;
    finish(world).await
}

async fn paused() -> anyhow::Result<Outcome> {
    let redis = TestRedis::start().await?;
    let world = over(&redis, Kept).await?;
    redis.pause()?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    redis.resume()?;
    finish(world).await
}

async fn emptied() -> anyhow::Result<Outcome> {
    let mut redis = TestRedis::start().await?;
    let world = over(&redis, MayBeForgotten).await?;
    redis.cli(&["FLUSHALL"])?;
    world.goes_on().await?;
    redis.replace(None).await?;
    finish(world).await
}

async fn restored() -> anyhow::Result<Outcome> {
    let mut redis = TestRedis::start().await?;
    let world = over(&redis, MayBeForgotten).await?;
    let backup = redis.backup()?;
    world.goes_on().await?;
    world.goes_on().await?;
    redis.replace(Some(&backup)).await?;
    finish(world).await
}

/// Everything in the backup is an hour old, lifetimes and floors too: store and origins begin an hour ago. What was alive then
/// is alive unless it was ended since.
async fn restored_after_an_hour(program: PathBuf) -> anyhow::Result<Outcome> {
    const AHEAD_S: i64 = -3_600;
    if !can_move_clocks() {
        return skipped(NO_FAKETIME);
    }
    let mut redis = TestRedis::start_ahead(AHEAD_S).await?;
    let mut world = World::start_apart(&redis.url(), &program, [AHEAD_S; 2], MayBeForgotten).await?;
    world.rest().await?;
    let backup = redis.backup()?;
    redis.restart_ahead(0).await?;
    world.catch_up().await?;
    redis.replace(Some(&backup)).await?;
    finish(world).await
}

async fn clock_jumps(program: PathBuf) -> anyhow::Result<Outcome> {
    if can_move_clocks() { jumped(program).await } else { skipped(NO_FAKETIME) }
}

async fn out_of_memory() -> anyhow::Result<Outcome> {
    let redis = TestRedis::start().await?;
    let world = over(&redis, Kept).await?;
    for _ in 0..3 {
        redis.cli(&["CONFIG", "SET", "maxmemory", "1"])?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        redis.cli(&["CONFIG", "SET", "maxmemory", "0"])?;
        world.goes_on().await?;
    }
    finish(world).await
}

async fn scripts_flushed() -> anyhow::Result<Outcome> {
    let redis = TestRedis::start().await?;
    let world = over(&redis, Kept).await?;
    for _ in 0..200 {
        redis.cli(&["SCRIPT", "FLUSH"])?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    finish(world).await
}

/// A replica that stands where the log no longer reaches gets everything by a snapshot.
async fn trimmed() -> anyhow::Result<Outcome> {
    let redis = TestRedis::start().await?;
    let world = over(&redis, Kept).await?;
    let mut lagging = Replica::new();
    world.read_into(&mut lagging).await?;
    world.goes_on().await?;
    redis.cli(&["XTRIM", "{portcullis:log}:entries", "MAXLEN", "0"])?;
    world.goes_on().await?;
    redis.cli(&["XTRIM", "{portcullis:log}:entries", "MAXLEN", "0"])?;
    let held: Vec<Floor> = world.hub().with(|replica| replica.floors().iter().collect());
    // The hub may have heard something before the origin that is asked; what was trimmed comes with a snapshot or never.
    let has_all = async || {
        let read = world.read_into(&mut lagging).await;
        let has = |floor: &Floor| lagging.floors().lowest(&floor.key) >= floor.lowest;
        read.map(|()| held.iter().all(has).then_some(())).transpose()
    };
    eventually("a replica that lags to get what was trimmed", has_all).await??;
    finish(world).await
}

/// A Redis that cannot write its file ends, rather than acknowledge what it cannot keep.
async fn disk_full() -> anyhow::Result<Outcome> {
    let Some(disk) = SmallDisk::mount()? else {
        return skipped("a small disk cannot be mounted without the right to");
    };
    let mut redis = TestRedis::start_in(disk.path()).await?;
    let world = over(&redis, Kept).await?;
    disk.fill()?;
    redis.ended().await?;
    disk.free()?;
    redis.restart().await?;
    finish(world).await
}

async fn killed_at_failpoints(program: PathBuf) -> anyhow::Result<Outcome> {
    if !cfg!(feature = "failpoints") {
        return skipped("the origin was built without failpoints");
    }
    let redis = TestRedis::start().await?;
    let mut world = World::start_apart(&redis.url(), &program, [0, 0], Kept).await?;
    for (number, failpoint) in failpoints::ALL.iter().enumerate() {
        if let Some(origin) = world.processes().get_mut(number % 2) {
            origin.end_at(failpoint).await?;
        }
        world.goes_on().await?;
    }
    finish(world).await
}

/// One is right, the other is first ahead of it, then behind.
async fn clocks_apart(program: PathBuf) -> anyhow::Result<Outcome> {
    if !can_move_clocks() {
        return skipped(NO_FAKETIME);
    }
    let mut counts = Counts::default();
    for ahead_s in [2, -2] {
        let redis = TestRedis::start().await?;
        let world = World::start_apart(&redis.url(), &program, [0, ahead_s], Kept).await?;
        world.goes_on().await?;
        counts += world.finish().await?;
    }
    Ok(Outcome::Ran(counts))
}
