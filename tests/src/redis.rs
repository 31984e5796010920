//! A Redis server on a free port.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{eventually, free_port};

/// Opens every server of a test.
pub const REDIS_PASSWORD: &str = "password-of-the-redis-of-a-test";

/// A server of its own that keeps what it acknowledges, with an empty directory; it ends when it is dropped.
pub struct TestRedis {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
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
        let primary = ["--replicaof", "127.0.0.1", &primary.port.to_string(), "--masterauth", REDIS_PASSWORD];
        let replica = Self::start_with(&primary).await?;
        eventually("the replica to follow", async || {
            let mut info = Command::new("redis-cli");
            info.args(["-p", &replica.port.to_string(), "INFO", "replication"]).env("REDISCLI_AUTH", REDIS_PASSWORD);
            let output = info.output().ok()?;
            String::from_utf8_lossy(&output.stdout).contains("master_link_status:up").then_some(())
        })
        .await?;
        Ok(replica)
    }

    async fn start_with(arguments: &[&str]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let port = free_port()?;
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--requirepass", REDIS_PASSWORD])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(directory.path())
            // A replica would wait five seconds for others to come.
            .args(["--repl-diskless-sync-delay", "0"])
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self { child, port, directory };
        eventually("redis-server", async || TcpStream::connect(("127.0.0.1", port)).ok()).await?;
        Ok(server)
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
        for entry in std::fs::read_dir(self.directory.path().join("appendonlydir"))? {
            written.extend(std::fs::read(entry?.path())?);
        }
        Ok(written)
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
