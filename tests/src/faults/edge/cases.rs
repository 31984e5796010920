//! What happens to origin, hub and gate, one function per case.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use reqwest::Client;
use tokio::time::sleep;

use super::{
    EdgeCounts,
    world::{BOUND, World},
};
use crate::eventually;

type Run = Pin<Box<dyn Future<Output = anyhow::Result<EdgeCounts>>>>;

/// One line of the matrix.
pub struct EdgeCase {
    /// What happens.
    pub name: &'static str,
    /// Whether it takes a few seconds only, so that every run of the tests has it.
    pub is_quick: bool,
    run: fn(PathBuf) -> Run,
}

impl EdgeCase {
    /// Runs it; `program` is an origin if its first argument is `serve`.
    ///
    /// # Errors
    ///
    /// Something does not start, or clients come to a halt: then nothing can be said.
    pub async fn run(&self, program: &Path) -> anyhow::Result<EdgeCounts> {
        (self.run)(program.to_owned()).await
    }
}

/// All of them.
pub const EDGE_CASES: [EdgeCase; 7] = [
    case("hub and gate killed every 5 s", false, |program| Box::pin(killed(program))),
    case("gate and hub come back with nothing while the origin is stopped", true, |program| Box::pin(emptied(program))),
    case("data held for 10 s while heartbeats pass", true, |program| Box::pin(held(program))),
    case("origin stopped for 30 s", false, |program| Box::pin(stopped(program))),
    case("the origin that pushes killed, another one takes over", true, |program| Box::pin(taken_over(program))),
    case("30,000 revocations on a line of 256 kbit/s, and it is fast again", true, |program| {
        Box::pin(slow_line(program, 30_000, true))
    }),
    case("100,000 revocations over a line of 256 kbit/s", false, |program| {
        Box::pin(slow_line(program, 100_000, false))
    }),
];

const fn case(name: &'static str, is_quick: bool, run: fn(PathBuf) -> Run) -> EdgeCase {
    EdgeCase { name, is_quick, run }
}

/// What the hub was told it keeps; the gate comes back with nothing and is ready once it has asked the hub.
async fn killed(program: PathBuf) -> anyhow::Result<EdgeCounts> {
    let mut world = World::start(&program, 1).await?;
    for _ in 0..4 {
        sleep(Duration::from_secs(5)).await;
        let token = world.open().await?;
        world.gate.restart().await?;
        world.recovers(&token).await?;
    }
    world.finish().await
}

/// I1, I5: a gate that knows nothing says so, and admits nobody where that matters.
async fn emptied(program: PathBuf) -> anyhow::Result<EdgeCounts> {
    let mut world = World::start(&program, 1).await?;
    let token = world.open().await?;
    world.origin(0)?.pause(true)?;
    world.gate.restart_empty().await?;
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let status = world.gate.status().await?;
        world.expect(status["ready"] == false, "a gate that knows nothing says that it is ready");
        let closed = world.gate.status_of("/app/x", &token).await?;
        world.expect(closed == 503, "a gate that knows nothing does not answer 503");
        let open = world.gate.status_of("/public/x", &token).await?;
        world.expect(open == 200, "what is open to everyone is closed");
        sleep(Duration::from_millis(200)).await;
    }
    world.origin(0)?.pause(false)?;
    world.recovers(&token).await?;
    world.finish().await
}

/// I1, I5: heartbeats without what lies before them make nobody fresh.
async fn held(program: PathBuf) -> anyhow::Result<EdgeCounts> {
    let world = World::start(&program, 1).await?;
    let token = world.open().await?;
    world.hold(true);
    sleep(Duration::from_secs(10)).await;
    world.expect(world.gate.status_of("/app/x", &token).await? == 503, "a gate behind held data is not stale");
    world.hold(false);
    world.recovers(&token).await?;
    world.finish().await
}

/// I7: 503 with `Retry-After`, and only after the bound.
async fn stopped(program: PathBuf) -> anyhow::Result<EdgeCounts> {
    let world = World::start(&program, 1).await?;
    let token = world.open().await?;
    world.origin(0)?.pause(true)?;
    let since = Instant::now();
    let stale = async || (world.gate.status_of("/app/x", &token).await.ok()? == 503).then(|| since.elapsed());
    let after = eventually("the gate to be stale", stale).await?;
    world.note(format!("stale after {after:.1?}"));
    while since.elapsed() < Duration::from_secs(30) {
        world.expect(world.gate.status_of("/relaxed/x", &token).await? == 200, "I7: a route that goes on did not");
        sleep(Duration::from_millis(500)).await;
    }
    world.origin(0)?.pause(false)?;
    world.recovers(&token).await?;
    world.finish().await
}

/// One of two origins pushes; when it is killed the other one does within [`TAKEOVER_MAX`], and until then the hub pulls.
async fn taken_over(program: PathBuf) -> anyhow::Result<EdgeCounts> {
    let mut world = World::start(&program, 2).await?;
    let pushing = async || {
        let (first, second) = (pushes(&world, 0).await.ok()?, pushes(&world, 1).await.ok()?);
        (first + second >= 10).then_some((first, second))
    };
    let (first, second) = eventually("pushes", pushing).await?;
    world.expect(first.min(second) == 0, "both origins push");
    let (killed, other) = if first > second { (0, 1) } else { (1, 0) };
    world.use_origin(other);
    world.origins.get_mut(killed).context("no origin")?.kill();
    let since = Instant::now();
    let takes_over = async || (pushes(&world, other).await.ok()? > 0).then(|| since.elapsed());
    let took = eventually("another origin to push", takes_over).await?;
    world.note(format!("taken over after {took:.1?}"));
    world.expect(took < TAKEOVER_MAX, "the other origin takes over too late");
    world.finish().await
}

/// I1, I5: while the line has still to carry most of what was ended, no route that denies admits anybody, and the end of a tenant
/// is known within [`OVERTAKES_MAX`] by a route that goes on; there others pass.
async fn slow_line(program: PathBuf, count: usize, is_mended: bool) -> anyhow::Result<EdgeCounts> {
    let world = World::start(&program, 1).await?;
    let (ended, good) = (world.open_in(Some("acme")).await?, world.open_in(Some("globex")).await?);
    for path in ["/app/x", "/relaxed/x"] {
        world.gate.comes_to_answer(path, &ended, 200).await?;
        world.gate.comes_to_answer(path, &good, 200).await?;
    }
    world.slow(Some(LINE_BITS_PER_S));
    let begun = Instant::now();
    let head = world.revoke(count).await?;
    let is_far = async || anyhow::Ok(head.saturating_sub(world.cursor_of_gate().await?) > head / 2);
    let acknowledged = world.end_tenant("acme").await?;
    world.gate.comes_to_answer("/relaxed/x", &ended, 401).await?;
    let took = acknowledged.elapsed();
    world.note(format!("a tenant's end overtook after {took:.1?}"));
    world.expect(took < OVERTAKES_MAX, "the end of a tenant waits behind those of sessions");
    world.expect(is_far().await?, "the gate knows most of it already, so nothing was overtaken");
    world.expect(world.gate.status_of("/relaxed/x", &good).await? == 200, "another tenant is refused");
    world.gate.comes_to_answer("/app/x", &good, 503).await?;
    world.expect(acknowledged.elapsed() < BOUND * 2, "a gate that lacks floors is not stale");
    world.expect(world.gate.status_of("/app/x", &ended).await? == 401, "what is known to have ended is not refused");
    world.expect(is_far().await?, "the gate knew most of it before it was stale");
    if is_mended {
        world.slow(None);
    } else {
        while world.cursor_of_gate().await? < head {
            anyhow::ensure!(begun.elapsed() < CARRIED_MAX, "the line never carried it");
            world.expect(world.gate.status_of("/relaxed/x", &good).await? == 200, "another tenant is refused");
            sleep(Duration::from_millis(500)).await;
        }
        world.note(format!("all of it carried after {:.1?}", begun.elapsed()));
    }
    world.recovers(&good).await?;
    world.expect(world.gate.status_of("/relaxed/x", &ended).await? == 401, "the end of a tenant was forgotten");
    world.finish().await
}

/// A line that is thin for a data centre.
const LINE_BITS_PER_S: u64 = 256_000;

/// A piece that is on its way takes half a second, another one as long, and a busy machine some more.
const OVERTAKES_MAX: Duration = Duration::from_secs(5);

/// Of 100,000 floors the line has 90 s to carry, beside heartbeats and what clients end meanwhile.
const CARRIED_MAX: Duration = Duration::from_secs(180);

/// The lease lasts five seconds and is looked for every second; a busy machine takes longer.
const TAKEOVER_MAX: Duration = Duration::from_secs(15);

/// Pushes of an origin that its hub acknowledged.
async fn pushes(world: &World, number: usize) -> anyhow::Result<u64> {
    let base = world.origin(number)?.base();
    let text = Client::builder().no_proxy().build()?.get(format!("{base}/metrics")).send().await?.text().await?;
    let is_it = |line: &&str| line.starts_with("portcullis_feed_pushes_total") && line.contains("acknowledged");
    let count = text.lines().find(is_it).and_then(|line| line.rsplit(' ').next()).context("no count of pushes")?;
    Ok(count.parse()?)
}
