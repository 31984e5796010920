//! A Redis server on a free port.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use crate::{eventually, free_port};

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
        let directory = tempfile::tempdir()?;
        let port = free_port()?;
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--dir",
            ])
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self { child, port, directory };
        eventually("redis-server", async || TcpStream::connect(("127.0.0.1", port)).ok()).await?;
        Ok(server)
    }

    /// Its address, as the origin's configuration names it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl TestRedis {
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

    /// Everything that was ever written, as it lies on the disk.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn on_disk(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for file in std::fs::read_dir(self.directory.path().join("appendonlydir"))? {
            bytes.extend(std::fs::read(file?.path())?);
        }
        Ok(bytes)
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
