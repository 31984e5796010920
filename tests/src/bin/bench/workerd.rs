//! Bare workerd: one worker in a process of its own, or any configuration.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use portcullis_tests::root;
use serde_json::Value;
use tempfile::TempDir;

use crate::{machine, process::Process};

/// The same for every contestant.
pub(crate) const COMPATIBILITY_DATE: &str = "2026-11-01";

/// A worker to start.
pub(crate) struct Worker {
    /// Name, kind in the configuration, and content; the first one is the entry.
    modules: Vec<(&'static str, &'static str, Vec<u8>)>,
    bindings: Vec<(&'static str, Value)>,
}

/// A workerd that runs.
pub(crate) struct Workerd {
    pub(crate) process: Process,
    addresses: BTreeMap<String, SocketAddr>,
    sockets: usize,
    directory: TempDir,
}

impl Worker {
    /// A module of `tests/peers`, bundled with what it imports from npm.
    ///
    /// # Errors
    ///
    /// esbuild does not bundle it.
    pub(crate) fn bundled(file: &str) -> anyhow::Result<Self> {
        let mut esbuild = Command::new(root().join("node_modules/.bin/esbuild"));
        esbuild.arg(format!("tests/peers/{file}")).args(["--bundle", "--format=esm", "--target=esnext", "--minify"]);
        // workerd takes the WebAssembly module beside the bundle.
        esbuild.args(["--alias:bench-wasm=./build/bench/wasm.js", "--external:./wasm.wasm"]);
        let output = esbuild.current_dir(root()).output();
        let output = output.context("cannot start esbuild; cargo xtask setup installs it")?;
        ensure!(output.status.success(), "esbuild: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { modules: vec![("entry.mjs", "esModule", output.stdout)], bindings: Vec::new() })
    }

    /// As [`Self::bundled`], with the module of the crate `portcullis-bench-wasm`.
    ///
    /// # Errors
    ///
    /// As [`Self::bundled`]; the module was not built.
    pub(crate) fn with_wasm(file: &str) -> anyhow::Result<Self> {
        let mut worker = Self::bundled(file)?;
        let module = fs::read(root().join("build/bench/wasm_bg.wasm"));
        let module = module.context("build/bench is missing; cargo xtask bench builds it")?;
        worker.modules.push(("wasm.wasm", "wasm", module));
        Ok(worker)
    }

    /// Adds a value to `env`.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.bindings.push((name, value.into()));
        self
    }

    /// Starts it on a free port.
    ///
    /// # Errors
    ///
    /// workerd does not start, or refuses the worker.
    pub(crate) fn start(self) -> anyhow::Result<Workerd> {
        let directory = tempfile::tempdir()?;
        let (mut modules, mut bindings) = (String::new(), String::new());
        for (name, kind, content) in &self.modules {
            fs::write(directory.path().join(name), content)?;
            write!(modules, "(name = \"{name}\", {kind} = embed \"{name}\"), ")?;
        }
        for (name, value) in &self.bindings {
            write!(bindings, "(name = \"{name}\", json = {}), ", text(&value.to_string()))?;
        }
        let config = format!(
            r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = .main),
    (name = "internet", network = (allow = ["public", "private", "local"]))
  ],
  sockets = [(name = "main", address = "127.0.0.1:0", http = (), service = "main")]
);
const main :Workerd.Worker = (
  modules = [{modules}],
  bindings = [{bindings}],
  compatibilityDate = "{COMPATIBILITY_DATE}"
);
"#
        );
        Workerd::start(directory, &config, 1)
    }
}

impl Workerd {
    /// Starts workerd in `directory`, which holds what `config` embeds, and waits until its `sockets` listen.
    ///
    /// # Errors
    ///
    /// It does not start, or refuses the configuration.
    pub(crate) fn start(directory: TempDir, config: &str, sockets: usize) -> anyhow::Result<Self> {
        fs::write(directory.path().join("config.capnp"), config)?;
        let (process, addresses) = spawn(directory.path(), sockets)?;
        Ok(Self { process, addresses, sockets, directory })
    }

    /// Kills it, and starts it again with what it left on the disk, on other ports.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(crate) fn restart(self) -> anyhow::Result<Self> {
        let Self { process, sockets, directory, .. } = self;
        drop(process);
        let (process, addresses) = spawn(directory.path(), sockets)?;
        Ok(Self { process, addresses, sockets, directory })
    }

    /// Where `socket` listens.
    ///
    /// # Errors
    ///
    /// It was not in the configuration.
    pub(crate) fn address(&self, socket: &str) -> anyhow::Result<SocketAddr> {
        self.addresses.get(socket).copied().with_context(|| format!("there is no socket {socket}"))
    }
}

fn spawn(directory: &Path, sockets: usize) -> anyhow::Result<(Process, BTreeMap<String, SocketAddr>)> {
    let mut command = Command::new(program());
    // It tells the ports through the descriptor that it is given for that.
    command.args(["serve", "config.capnp", "--control-fd=1"]).current_dir(directory);
    let mut process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut events = BufReader::new(process.stdout().context("workerd has no output")?).lines();
    let mut addresses = BTreeMap::new();
    while addresses.len() < sockets {
        let line = events.next().context("workerd ended before it listened")??;
        let event: Value = serde_json::from_str(&line).context("workerd said something unknown")?;
        let (Some(socket), Some(port)) = (event["socket"].as_str(), event["port"].as_u64()) else { continue };
        addresses.insert(socket.to_owned(), SocketAddr::from(([127, 0, 0, 1], port.try_into()?)));
    }
    Ok((process, addresses))
}

/// A text literal of Cap'n Proto; JSON's escapes are among its own.
pub(crate) fn text(value: &str) -> String {
    Value::from(value).to_string()
}

/// workerd itself: npm puts it in the place of its launcher.
fn program() -> PathBuf {
    root().join("node_modules/workerd/bin/workerd")
}

/// What the version of workerd is.
pub(crate) fn version() -> String {
    machine::version_of(&program())
}

/// `name version` of a package of npm.
///
/// # Errors
///
/// It is not installed.
pub(crate) fn npm_version(name: &str) -> anyhow::Result<String> {
    let package = fs::read(root().join("node_modules").join(name).join("package.json"));
    let package: Value = serde_json::from_slice(&package.with_context(|| format!("{name} is not installed"))?)?;
    Ok(format!("{name} {}", package["version"].as_str().unwrap_or("unknown")))
}
