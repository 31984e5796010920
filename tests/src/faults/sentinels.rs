//! A primary, two replicas, and three sentinels over them.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::{REDIS_PASSWORD, TestRedis, eventually, free_port};

pub(super) struct Sentinels {
    servers: Vec<TestRedis>,
    sentinels: Vec<(Child, u16)>,
    _directory: TempDir,
}

impl Sentinels {
    /// Starts all of them, and waits until they know each other.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let primary = TestRedis::start().await?;
        let mut servers = vec![];
        for _ in 0..2 {
            servers.push(TestRedis::start_replica_of(&primary).await?);
        }
        let directory = tempfile::tempdir()?;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let port = free_port()?;
            let file = directory.path().join(port.to_string());
            let text = format!(
                "port {port}\nsentinel monitor primary 127.0.0.1 {} 2\nsentinel auth-pass primary {REDIS_PASSWORD}\n\
                 sentinel down-after-milliseconds primary 500\nsentinel failover-timeout primary 4000\n",
                primary.port()
            );
            fs::write(&file, text)?;
            let mut command = Command::new("redis-server");
            let child = command.arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn();
            sentinels.push((child.context("cannot start a sentinel")?, port));
        }
        servers.insert(0, primary);
        let all = Self { servers, sentinels, _directory: directory };
        let complete = async || {
            let known = |info: String| info.contains("slaves=2") && info.contains("sentinels=3");
            let told = all.sentinels.iter().map(|(_, port)| ask(*port, &["INFO", "sentinel"]).map(known));
            told.map(Result::ok).all(|known| known == Some(true)).then_some(())
        };
        eventually("the sentinels to know each other", complete).await?;
        Ok(all)
    }

    /// The address of the store.
    pub(super) fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://:{REDIS_PASSWORD}@{}/primary", hosts.join(","))
    }

    /// The server that was the primary at first.
    pub(super) fn first(&mut self) -> &mut TestRedis {
        &mut self.servers[0]
    }

    /// Waits until the sentinels name another primary than the first.
    pub(super) async fn failed_over(&self) -> anyhow::Result<()> {
        let first = self.servers[0].port().to_string();
        let other = async || {
            let named = ask(self.sentinels[0].1, &["SENTINEL", "get-master-addr-by-name", "primary"]).ok()?;
            (!named.is_empty() && !named.contains(&first)).then_some(())
        };
        eventually("the sentinels to name another primary", other).await
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for (child, _) in &mut self.sentinels {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ask(port: u16, arguments: &[&str]) -> anyhow::Result<String> {
    let said = Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments).output()?;
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}
