//! Asks one gate at a steady pace until it refuses.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use hyper::StatusCode;
use tokio::task::JoinHandle;

use crate::client::Connection;

/// Nothing takes longer than the bound of the route.
const REFUSED_MAX: Duration = Duration::from_secs(10);

/// A gate that is asked.
pub(super) struct Watch {
    /// Until it is started.
    prepared: Option<Asking>,
    running: Option<JoinHandle<anyhow::Result<Answers>>>,
}

/// What is asked, over a connection that is there already.
struct Asking {
    connection: Connection,
    path: &'static str,
    token: String,
    pause: Duration,
    offset: Duration,
}

/// When requests that passed were sent, and when the first refusal came.
struct Answers {
    passed: Vec<Instant>,
    refused_at: Instant,
}

/// What became of the requests after a revocation.
pub(super) struct Refusal {
    pub(super) refused_at: Instant,
    /// Requests that were sent after the acknowledgement and passed.
    pub(super) passed: u32,
}

impl Watch {
    /// Connects, and sees that the token is good here.
    ///
    /// # Errors
    ///
    /// It is not.
    pub(super) async fn prepare(
        gate: SocketAddr,
        path: &'static str,
        token: String,
        pause: Duration,
        offset: Duration,
    ) -> anyhow::Result<Self> {
        let mut connection = Connection::open(gate).await?;
        let status = connection.ask(path, &token).await?;
        ensure!(status == StatusCode::NO_CONTENT, "a gate answered {status} to a good token");
        Ok(Self { prepared: Some(Asking { connection, path, token, pause, offset }), running: None })
    }

    /// Asks from now on.
    pub(super) fn start(&mut self) {
        self.running = self.prepared.take().map(|asking| tokio::spawn(asking.run()));
    }

    /// What became of the requests after `acknowledged`.
    ///
    /// # Errors
    ///
    /// The gate refused before, or never.
    pub(super) async fn refused(self, acknowledged: Instant) -> anyhow::Result<Refusal> {
        let answers = self.running.context("the gate is not asked")?.await??;
        let passed = answers.passed.iter().filter(|sent| **sent >= acknowledged).count();
        Ok(Refusal { refused_at: answers.refused_at, passed: passed.try_into()? })
    }
}

impl Asking {
    async fn run(mut self) -> anyhow::Result<Answers> {
        let started = Instant::now();
        let mut passed = Vec::new();
        let mut ticks = tokio::time::interval_at((started + self.offset).into(), self.pause);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while started.elapsed() < REFUSED_MAX {
            ticks.tick().await;
            let sent = Instant::now();
            match self.connection.ask(self.path, &self.token).await? {
                StatusCode::NO_CONTENT => passed.push(sent),
                StatusCode::UNAUTHORIZED => return Ok(Answers { passed, refused_at: Instant::now() }),
                status => bail!("a gate answered {status}"),
            }
        }
        bail!("a gate did not refuse within {REFUSED_MAX:?}")
    }
}
