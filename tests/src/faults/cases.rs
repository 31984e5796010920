//! What happens to the store, one function per case.

use std::{pin::Pin, time::Duration};

use ::origin::config::Level;
use shared::{replica::Replica, revocation::Floor};

use super::{
    Outcome,
    cluster::Cluster,
    disk::SmallDisk,
    ledger::Sessions::{self, Kept, MayBeForgotten},
    sentinels::Sentinels,
    world::World,
};
use crate::{TestRedis, eventually};

type Run = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>>>>;

/// One line of the matrix.
pub struct Case {
    /// What happens.
    pub name: &'static str,
    /// Whether it takes a few seconds only, so that every run of the tests has it.
    pub is_quick: bool,
    run: fn() -> Run,
}

impl Case {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// Something does not start, or clients come to a halt: then nothing can be said.
    pub async fn run(&self) -> anyhow::Result<Outcome> {
        (self.run)().await
    }
}

/// All of them.
pub const CASES: [Case; 12] = [
    case("Redis killed with append-only file, fsync always", true, || Box::pin(killed())),
    case("failover by sentinels", false, || Box::pin(failed_over())),
    case("split brain: primary cut off with its clients, replica promoted, healed", false, || Box::pin(split_brain())),
    case("Redis paused for 10 s", false, || Box::pin(paused())),
    case("replaced by an empty one", true, || Box::pin(emptied())),
    case("restored from an old backup", true, || Box::pin(restored())),
    case("maxmemory reached, then raised", true, || Box::pin(out_of_memory())),
    case("SCRIPT FLUSH every 10 ms", true, || Box::pin(scripts_flushed())),
    case("log trimmed under a hub that lags", true, || Box::pin(trimmed())),
    case("disk full, then freed", false, || Box::pin(disk_full())),
    case("failover of every node of a cluster, by CLUSTER FAILOVER", false, || Box::pin(cluster_failed_over())),
    case("two origins with clocks 2 s apart", false, || skipped("the clock of one process cannot be moved here")),
];

const fn case(name: &'static str, is_quick: bool, run: fn() -> Run) -> Case {
    Case { name, is_quick, run }
}

fn skipped(why: &'static str) -> Run {
    Box::pin(async move { Ok(Outcome::Skipped(why.to_owned())) })
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

/// A node of a cluster that dies before its replica has everything loses it: the risk that the origin has to accept by name.
/// So nothing is expected of that, but of a failover that waits for the replica.
async fn cluster_failed_over() -> anyhow::Result<Outcome> {
    let mut cluster = Cluster::start().await?;
    let world = World::start(&cluster.url(), Level::Local, Kept).await?;
    cluster.fail_over().await?;
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
        return Ok(Outcome::Skipped("a small disk cannot be mounted without the right to".to_owned()));
    };
    let mut redis = TestRedis::start_in(disk.path()).await?;
    let world = over(&redis, Kept).await?;
    disk.fill()?;
    redis.ended().await?;
    disk.free()?;
    redis.restart().await?;
    finish(world).await
}
