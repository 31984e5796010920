//! The release build of the origin as a process of its own, with the default configuration but for store, port and hubs.

use std::{
    env, fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use hyper::{Request, StatusCode, header};
use portcullis_tests::free_port;
use serde_json::Value;
use tempfile::TempDir;

use crate::{client::Connection, process::Process, tokens::ISSUER};

const MASTER_KEY: &str = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a";

/// The bearer key of management calls.
pub(crate) const MANAGEMENT_KEY: &str = "management-key-of-a-benchmark";

const READY_MAX: Duration = Duration::from_secs(20);

/// What an origin is started with.
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    /// `embedded:…` or `redis://…`.
    store: String,
    directory: TempDir,
}

/// An origin that runs.
pub(crate) struct OriginProcess {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    store: String,
    directory: TempDir,
}

impl Plan {
    /// An origin over `redis`, or over a file.
    ///
    /// # Errors
    ///
    /// No port, no directory.
    pub(crate) fn new(redis: Option<SocketAddr>) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let store = match redis {
            Some(address) => format!("redis://{address}"),
            None => format!("embedded:{}", directory.path().join("store.db").display()),
        };
        Ok(Self { address: SocketAddr::from(([127, 0, 0, 1], free_port()?)), store, directory })
    }

    /// What it keeps sessions in.
    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// The public feed key, made now: what gates and hubs are given before the origin starts.
    ///
    /// # Errors
    ///
    /// The origin does not make it.
    pub(crate) fn feed_key(&self) -> anyhow::Result<String> {
        let output = self.command(&["keys", "show"], &[])?.output().context("cannot start the origin")?;
        ensure!(output.status.success(), "the origin: {}", String::from_utf8_lossy(&output.stderr));
        let keys: Value = serde_json::from_slice(&output.stdout)?;
        Ok(keys["feed_key"].as_str().context("no feed key")?.to_owned())
    }

    /// Starts it, pushing to `hubs` by name and address, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(crate) async fn start(self, hubs: &[(&str, String)]) -> anyhow::Result<OriginProcess> {
        let mut command = self.command(&["serve"], hubs)?;
        // Lines are written as in service, and read by nobody.
        let process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
        let Self { address, store, directory } = self;
        let origin = OriginProcess { process, address, store, directory };
        let started = Instant::now();
        while !origin.is_ready().await {
            if started.elapsed() > READY_MAX {
                bail!("the origin is not ready after {READY_MAX:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(origin)
    }

    fn command(&self, arguments: &[&str], hubs: &[(&str, String)]) -> anyhow::Result<Command> {
        let mut config = format!(
            "[server]\nlisten = \"{}\"\n[tokens]\nissuer = \"{ISSUER}\"\n[store]\nurl = \"{}\"\naccept = [\"fsync-everysec\"]\n",
            self.address, self.store
        );
        for (name, url) in hubs {
            config.push_str(&format!("[[hubs]]\nname = \"{name}\"\nurl = \"{url}\"\n"));
        }
        let path = self.directory.path().join("portcullis.toml");
        fs::write(&path, config)?;
        let mut command = Command::new(program()?);
        command.args(arguments).arg("--config").arg(path);
        command.env("PORTCULLIS_MASTER_KEY", MASTER_KEY).env("PORTCULLIS_MANAGEMENT_KEY", MANAGEMENT_KEY);
        Ok(command)
    }
}

impl OriginProcess {
    /// Ends it at once (SIGKILL), and gives back what it was started with.
    pub(crate) fn kill(self) -> Plan {
        let Self { process, address, store, directory } = self;
        drop(process);
        Plan { address, store, directory }
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut connection) = Connection::open(self.address).await else { return false };
        let request = Request::get("/readyz").header(header::HOST, "bench.example").body(Default::default());
        let Ok(request) = request else { return false };
        connection.send(request).await.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }
}

/// Cargo puts both programs into one folder.
fn program() -> anyhow::Result<PathBuf> {
    let program = env::current_exe()?.with_file_name("portcullis");
    ensure!(program.is_file(), "{} is missing; cargo xtask bench builds it", program.display());
    Ok(program)
}
