//! Origins as processes of their own: what happens to a whole process, and to its clock.

use std::{
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use ::origin::config::Config;
use anyhow::{Context as _, ensure};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use reqwest::Client;

use crate::{MANAGEMENT_KEY, MASTER_KEY, clock::Clock, eventually, free_port};

/// What an origin is started with.
pub(super) struct Plan {
    /// A program that is an origin if its first argument is `serve`.
    program: PathBuf,
    variables: Vec<(String, String)>,
    port: u16,
    clock: Clock,
}

impl Plan {
    /// An origin that goes by a clock.
    ///
    /// # Errors
    ///
    /// No port is free.
    pub(super) fn new(program: PathBuf, config: &Config, clock: Clock) -> anyhow::Result<Self> {
        Ok(Self { program, variables: variables(config), port: free_port()?, clock })
    }

    fn start(&self, failpoints: &str) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg("serve").envs(self.variables.iter().cloned()).env("FAILPOINTS", failpoints);
        command.env("PORTCULLIS_SERVER__LISTEN", format!("127.0.0.1:{}", self.port));
        self.clock.give_to(&mut command);
        command.stderr(Stdio::null()).spawn().context("cannot start an origin")
    }
}

/// An origin that runs; it is killed when it is dropped.
pub(super) struct OriginProcess {
    plan: Plan,
    child: Child,
    client: Client,
}

impl OriginProcess {
    /// Starts one, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(super) async fn start(plan: Plan) -> anyhow::Result<Self> {
        let child = plan.start("")?;
        let origin = Self { plan, child, client: Client::builder().no_proxy().build()? };
        origin.is_ready().await?;
        Ok(origin)
    }

    /// `http://127.0.0.1:PORT`.
    pub(super) fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.plan.port)
    }

    /// Kills it, and starts it with a clock that is ahead by so much.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(super) async fn restart_ahead(&mut self, ahead_s: i64) -> anyhow::Result<()> {
        self.kill();
        self.plan.clock = ahead_s.into();
        self.child = self.plan.start("")?;
        self.is_ready().await
    }

    /// Kills it, starts it so that it ends when it comes to a failpoint for the third time, and once it has, starts it again.
    ///
    /// # Errors
    ///
    /// It does not end there, or does not start.
    pub(super) async fn end_at(&mut self, failpoint: &str) -> anyhow::Result<()> {
        self.kill();
        self.child = self.plan.start(&format!("{failpoint}=2*off->return"))?;
        let what = format!("an origin to come to {failpoint}");
        let ended = eventually(&what, async || self.child.try_wait().ok()?).await?;
        ensure!(ended.signal() == Some(Signal::SIGABRT as i32), "an origin ended before {failpoint}: {ended}");
        self.child = self.plan.start("")?;
        self.is_ready().await
    }

    async fn is_ready(&self) -> anyhow::Result<()> {
        let address = format!("{}/readyz", self.base());
        let ready = async || self.client.get(&address).send().await.ok().filter(|it| it.status().is_success());
        eventually("an origin to be ready", ready).await.map(drop)
    }

    /// Stops it in the middle of whatever it does, or lets it go on.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(super) fn pause(&self, paused: bool) -> anyhow::Result<()> {
        let signal = if paused { Signal::SIGSTOP } else { Signal::SIGCONT };
        Ok(signal::kill(Pid::from_raw(self.child.id().try_into()?), signal)?)
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for OriginProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What of a configuration the cases choose, as an origin reads it from its environment.
fn variables(config: &Config) -> Vec<(String, String)> {
    let (store, acknowledge) = (&config.store, &config.store.acknowledge);
    let hubs = config.hubs.iter().map(|hub| format!("{{name={:?},url={:?}}}", hub.name, hub.url));
    let chosen = [
        ("MASTER_KEY", MASTER_KEY.iter().map(|byte| format!("{byte:02x}")).collect()),
        ("MANAGEMENT_KEY", MANAGEMENT_KEY.to_owned()),
        ("STORE__URL", store.url.expose().to_owned()),
        ("STORE__TIMEOUT_MS", store.timeout_ms.to_string()),
        ("STORE__ACKNOWLEDGE__FLOORS", acknowledge.floors.into()),
        ("STORE__ACKNOWLEDGE__SESSIONS", acknowledge.sessions.into()),
        ("STORE__ACKNOWLEDGE__RECORDS", acknowledge.records.into()),
        ("FEED__HEARTBEAT_MS", config.feed.heartbeat_ms.to_string()),
        ("SESSIONS__STANDARD_IDLE_S", config.sessions.standard_idle_s.to_string()),
        ("HUBS", format!("[{}]", hubs.collect::<Vec<_>>().join(","))),
    ];
    chosen.map(|(name, value)| (format!("PORTCULLIS_{name}"), value)).into()
}
