//! A Redis server on a free port.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{clock::Clock, eventually, free_port};

/// Opens every server of a test.
pub const REDIS_PASSWORD: &str = "password-of-the-redis-of-a-test";

/// A server of its own that keeps what it acknowledges, with an empty directory; it ends when it is dropped.
pub struct TestRedis {
    child: Child,
    port: u16,
    /// What it writes lies here, or in another place that was given to it.
    directory: TempDir,
    place: Option<PathBuf>,
    arguments: Vec<String>,
    /// What time it is for it.
    clock: Clock,
}

impl TestRedis {
    /// Starts one and waits until it listens.
    ///
    /// # Errors
    ///
    /// `redis-server` is not installed, or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts one that follows another, and waits until it has everything of it.
    ///
    /// # Errors
    ///
    /// As for [`Self::start`].
    pub async fn start_replica_of(primary: &Self) -> anyhow::Result<Self> {
        let primary = ["--replicaof", "127.0.0.1", &primary.port.to_string()];
        // What it keeps on its disk is not looked at, and a disk that is slow would hold up what it confirms.
        let replica = Self::start_with(&[primary.as_slice(), &["--appendonly", "no"]].concat()).await?;
        let follows = async || {
            let info = replica.cli(&["INFO", "replication"]).ok()?;
            info.contains("master_link_status:up").then_some(())
        };
        eventually("the replica to follow", follows).await?;
        Ok(replica)
    }

    /// As [`Self::start`], with more arguments.
    ///
    /// # Errors
    ///
    /// As for [`Self::start`].
    pub async fn start_with(arguments: &[&str]) -> anyhow::Result<Self> {
        Self::start_at(None, arguments, 0.into()).await
    }

    /// As [`Self::start`], with a clock that is ahead by so much.
    ///
    /// # Errors
    ///
    /// As for [`Self::start`].
    pub async fn start_ahead(ahead_s: i64) -> anyhow::Result<Self> {
        Self::start_at(None, &[], ahead_s.into()).await
    }

    /// As [`Self::start`], by a clock.
    ///
    /// # Errors
    ///
    /// As for [`Self::start`].
    pub(crate) async fn start_by(clock: Clock) -> anyhow::Result<Self> {
        Self::start_at(None, &[], clock).await
    }

    /// As [`Self::start`], in a folder that is not its own.
    ///
    /// # Errors
    ///
    /// As for [`Self::start`].
    pub async fn start_in(place: &Path) -> anyhow::Result<Self> {
        Self::start_at(Some(place.to_owned()), &[], 0.into()).await
    }

    async fn start_at(place: Option<PathBuf>, arguments: &[&str], clock: Clock) -> anyhow::Result<Self> {
        let (directory, port) = (tempfile::tempdir()?, free_port()?);
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(port, place.as_deref().unwrap_or(directory.path()), &arguments, &clock)?;
        let server = Self { child, port, directory, place, arguments, clock };
        server.answers().await?;
        Ok(server)
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// It goes on.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        eventually("redis-server to end", async || self.child.try_wait().ok()?.map(|_| ())).await
    }

    /// What `redis-cli` says.
    ///
    /// # Errors
    ///
    /// It is not installed.
    pub fn cli(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(arguments).env("REDISCLI_AUTH", REDIS_PASSWORD);
        Ok(String::from_utf8_lossy(&command.output()?.stdout).trim().to_owned())
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills it, and starts it again with what lies on its disk.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        self.child = spawn(self.port, self.path(), &self.arguments, &self.clock)?;
        self.answers().await
    }

    /// As [`Self::restart`], with a clock that is ahead by so much.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn restart_ahead(&mut self, ahead_s: i64) -> anyhow::Result<()> {
        self.clock = ahead_s.into();
        self.restart().await
    }

    /// Puts another server in its place, with what `backup` holds, or with nothing.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn replace(&mut self, backup: Option<&TempDir>) -> anyhow::Result<()> {
        self.kill();
        self.place = None;
        self.directory = match backup {
            Some(backup) => copy_of(backup.path())?,
            None => tempfile::tempdir()?,
        };
        self.restart().await
    }

    /// A copy of what lies on its disk.
    ///
    /// # Errors
    ///
    /// It cannot be copied.
    pub fn backup(&self) -> anyhow::Result<TempDir> {
        copy_of(self.path())
    }

    fn path(&self) -> &Path {
        self.place.as_deref().unwrap_or(self.directory.path())
    }

    async fn answers(&self) -> anyhow::Result<()> {
        eventually("redis-server", async || (self.cli(&["PING"]).ok()? == "PONG").then_some(())).await
    }

    /// Stops it in the middle of whatever it does, until it is resumed.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().try_into()?), signal)?)
    }

    /// Its address, as the origin's configuration names it.
    pub fn url(&self) -> String {
        format!("redis://:{REDIS_PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every command that wrote something, as the server keeps it in its append-only file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn written(&self) -> anyhow::Result<Vec<u8>> {
        let mut written = Vec::new();
        for entry in fs::read_dir(self.path().join("appendonlydir"))? {
            written.extend(fs::read(entry?.path())?);
        }
        Ok(written)
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, directory: &Path, arguments: &[String], clock: &Clock) -> anyhow::Result<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--requirepass", REDIS_PASSWORD, "--masterauth", REDIS_PASSWORD]);
    command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir"]).arg(directory);
    // A replica would wait five seconds for others to come.
    command.args(["--repl-diskless-sync-delay", "0"]).args(arguments).stdout(Stdio::null());
    clock.give_to(&mut command);
    command.spawn().context("cannot start redis-server; run cargo xtask setup")
}

fn copy_of(from: &Path) -> anyhow::Result<TempDir> {
    let (to, files) = (tempfile::tempdir()?, "appendonlydir");
    fs::create_dir(to.path().join(files))?;
    for file in fs::read_dir(from.join(files))? {
        let file = file?;
        fs::copy(file.path(), to.path().join(files).join(file.file_name()))?;
    }
    Ok(to)
}
