//! A Redis server of a test.

use std::{
    process::{Child, Command, Stdio},
    time::Instant,
};

use crate::{origin::lasting_port, restart::PATIENCE};

/// A Redis that keeps every acknowledged write; it ends with the test.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    fsync: &'static str,
    directory: tempfile::TempDir,
}

impl Redis {
    /// Starts one on a free port, and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_with_fsync("always")
    }

    /// As [`Self::start`], with this `appendfsync`.
    pub(crate) fn start_with_fsync(fsync: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = lasting_port();
        let redis = Self { child: spawn(port, fsync, &directory), port, fsync, directory };
        redis.wait();
        redis
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills it and starts it again on what it had written.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port, self.fsync, &self.directory);
        self.wait();
    }

    fn wait(&self) {
        let started = Instant::now();
        loop {
            let pong = Command::new("redis-cli").args(["-p", &self.port.to_string(), "PING"]).output().unwrap();
            if pong.stdout.starts_with(b"PONG") {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "Redis does not answer");
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, fsync: &str, directory: &tempfile::TempDir) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--appendonly", "yes", "--appendfsync", fsync, "--dir"]);
    command.arg(directory.path()).stdout(Stdio::null()).spawn().expect("redis-server is installed")
}
