//! A Redis server whose processor time is measured.

use std::{
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use portcullis_tests::{eventually, free_port};
use tempfile::TempDir;

use crate::process::Process;

/// A server of its own with an append-only file, flushed every second as is Redis's default; it ends when it is dropped.
pub(crate) struct Redis {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    _directory: TempDir,
}

impl Redis {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    ///
    /// `redis-server` is not installed, or does not start.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut server = Command::new("redis-server");
        server.args(["--port", &address.port().to_string(), "--save", "", "--appendonly", "yes", "--dir"]);
        server.arg(directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let process = Process::start(&mut server)?;
        eventually("redis-server", async || TcpStream::connect(address).ok()).await?;
        Ok(Self { process, address, _directory: directory })
    }
}
