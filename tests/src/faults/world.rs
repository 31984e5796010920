//! Two origins over one store, a hub, and clients at work.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::origin::{
    config::{Acknowledge, Config, Level, StoreUrl, secrets::MasterKey},
    server::{open_keys, open_store},
};
use anyhow::Context as _;
use reqwest::Client;
use shared::{keys::PublicKey, replica::Replica, time::Timestamp};
use tokio::task::JoinSet;

use super::{
    Counts,
    ledger::{Ledger, Sessions},
    process::{OriginProcess, Plan},
};
use crate::{MASTER_KEY, TestHub, TestOrigin, eventually};

/// Clients that work at the same time.
const CLIENTS: usize = 4;

/// What the clients are to get done before and after a fault.
const PROGRESS: u64 = 60;

pub(super) struct World {
    ledger: Arc<Ledger>,
    config: Config,
    origins: Vec<TestOrigin>,
    processes: Vec<OriginProcess>,
    tasks: JoinSet<anyhow::Result<()>>,
    watch: tokio::task::JoinHandle<()>,
    hub: Arc<TestHub>,
}

impl World {
    /// Starts everything over the store at `url`; `level` is what must have happened to a write.
    pub(super) async fn start(url: &str, level: Level, sessions: Sessions) -> anyhow::Result<Self> {
        let mut world = Self::prepare(url, level, sessions).await?;
        world.start_origins().await?;
        world.start_clients();
        world.goes_on().await?;
        Ok(world)
    }

    /// As [`Self::start`], with origins that are processes, and whose clocks are ahead by so many seconds.
    pub(super) async fn start_apart(
        url: &str,
        program: &Path,
        ahead_s: [i64; 2],
        sessions: Sessions,
    ) -> anyhow::Result<Self> {
        let mut world = Self::prepare(url, Level::Local, sessions).await?;
        for ahead_s in ahead_s {
            let plan = Plan::new(program.to_owned(), &world.config, ahead_s.into())?;
            world.processes.push(OriginProcess::start(plan).await?);
        }
        world.start_clients();
        world.goes_on().await?;
        Ok(world)
    }

    /// A hub, and no origin.
    async fn prepare(url: &str, level: Level, sessions: Sessions) -> anyhow::Result<Self> {
        let mut config = Config::default();
        config.server.listen.set_port(0);
        config.feed.heartbeat_ms = 100;
        // A session that nobody used for an hour goes on.
        config.sessions.standard_idle_s = 4 * 3_600;
        config.store.url = StoreUrl::from(url.to_owned());
        config.store.timeout_ms = 1_000;
        config.store.acknowledge =
            Acknowledge { floors: level, sessions: level, records: level, ..Acknowledge::default() };
        let keys = open_keys(&open_store(&config).await?, &config, &MasterKey::new(MASTER_KEY)).await?;
        let hub = Arc::new(TestHub::start(PublicKey::ed25519_from_text(&keys.current().feed().public_text())?).await?);
        config.hubs = vec![hub.config()];
        let ledger = Arc::new(Ledger::new(sessions));
        let watch = tokio::spawn(watch(Arc::clone(&ledger), Arc::clone(&hub)));
        let (origins, processes, tasks) = (Vec::new(), Vec::new(), JoinSet::new());
        Ok(Self { ledger, config, origins, processes, tasks, watch, hub })
    }

    async fn start_origins(&mut self) -> anyhow::Result<()> {
        for _ in 0..2 {
            self.origins.push(TestOrigin::start_again(self.config.clone()).await?);
        }
        Ok(())
    }

    fn bases(&self) -> Vec<String> {
        let here = self.origins.iter().map(|origin| origin.base().to_owned());
        here.chain(self.processes.iter().map(OriginProcess::base)).collect()
    }

    fn start_clients(&mut self) {
        let bases = self.bases();
        for number in 0..CLIENTS {
            let (ledger, bases) = (Arc::clone(&self.ledger), bases.clone());
            self.tasks.spawn(async move { ledger.work(number, &bases).await });
        }
    }

    /// The origins, if they are processes.
    pub(super) fn processes(&mut self) -> &mut [OriginProcess] {
        &mut self.processes
    }

    /// Waits until clients got something more done.
    pub(super) async fn goes_on(&self) -> anyhow::Result<()> {
        let wanted = self.ledger.counts().acknowledged + PROGRESS;
        let done = async || (self.ledger.counts().acknowledged >= wanted).then_some(());
        eventually("clients to get on", done).await
    }

    /// Lets time pass at origins that are processes, until their clocks are right, and clients go on with the sessions that are
    /// in a backup of now.
    pub(super) async fn catch_up(&mut self) -> anyhow::Result<()> {
        for origin in &mut self.processes {
            origin.restart_ahead(0).await?;
        }
        self.ledger.take_up(&self.bases()).await?;
        self.start_clients();
        self.goes_on().await
    }

    /// Hands a replica what it lacks of what an origin has.
    pub(super) async fn read_into(&self, replica: &mut Replica) -> anyhow::Result<()> {
        let (bases, client) = (self.bases(), Client::builder().no_proxy().build()?);
        let base = bases.first().context("there is no origin")?;
        let at = replica.position();
        let address = format!("{base}/feed/delta?epoch={}&after={}&keys={}", at.epoch.0, at.cursor.0, at.keys);
        let answer = client.get(address).send().await?.error_for_status()?;
        self.hub.read(replica, &answer.bytes().await?);
        Ok(())
    }

    /// The hub of the origins.
    pub(super) fn hub(&self) -> &TestHub {
        &self.hub
    }

    /// Lets the clients get on and finish, then compares what they were told with what is.
    pub(super) async fn finish(mut self) -> anyhow::Result<Counts> {
        self.goes_on().await?;
        self.rest().await?;
        self.settle().await
    }

    async fn settle(mut self) -> anyhow::Result<Counts> {
        // What was ended last is past its bound too.
        tokio::time::sleep(super::ledger::BOUND + Duration::from_millis(200)).await;
        self.watch.abort();
        if !self.processes.is_empty() {
            self.processes.clear();
            self.start_origins().await?;
        }
        self.ledger.settle(&self.origins).await?;
        for origin in self.origins {
            origin.stop().await;
        }
        Ok(self.ledger.counts())
    }
}

impl World {
    /// Lets the clients finish what they are at.
    pub(super) async fn rest(&mut self) -> anyhow::Result<()> {
        self.ledger.stop();
        while let Some(done) = self.tasks.join_next().await {
            done??;
        }
        Ok(())
    }
}

async fn watch(ledger: Arc<Ledger>, hub: Arc<TestHub>) {
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        hub.with(|replica| ledger.watch(replica, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestRedis;

    /// The twin of all cases: a client that was told what is not true is found.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_true_is_counted() -> anyhow::Result<()> {
        let redis = TestRedis::start().await?;
        let mut world = World::start(&redis.url(), Level::Local, Sessions::Kept).await?;
        world.rest().await?;
        world.ledger.exchange();
        let counts = world.settle().await?;
        assert_eq!((counts.lost, counts.admitted, counts.false_alarms), (2, 1, 0));
        assert!(!counts.is_good());
        Ok(())
    }
}
