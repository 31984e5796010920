//! `cargo xtask up`: everything on this machine, until Ctrl-C: a store, the origin, the gate with its hub, the demo.
//!
//! What lasts is in `.portcullis/STORE/`: secrets (for this user only), configuration, data and logs. Removing the folder
//! starts anew.

mod children;
mod probe;
mod secrets;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;

use self::{
    children::{Children, Stop},
    probe::{free_port, get, pings},
    secrets::{MANAGEMENT_KEY_FILE, MASTER_KEY_FILE, private_directory},
};
use crate::{
    command::{self, npm_program, root, search_path},
    edge_build::{self, EdgeBuild},
    setup::{self, Program},
};

/// Where the origin keeps sessions.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Store {
    /// One file.
    Embedded,
    /// A Redis server that is started for it.
    Redis,
}

/// The ports of one run: the usual ones, or the next that are free.
struct Ports {
    redis: u16,
    origin: u16,
    gate: u16,
    inspector: u16,
    app: u16,
    front: u16,
}

struct Run {
    store: Store,
    directory: PathBuf,
    /// The folder of the programs that Cargo builds.
    programs: PathBuf,
    ports: Ports,
}

/// Installs, builds and starts everything, and runs until a signal, or until one of the programs ends.
///
/// # Errors
///
/// Something cannot be installed, built or started, is not ready in time, or ends by itself.
pub(crate) fn run(store: Store) -> anyhow::Result<()> {
    setup::run(match store {
        Store::Embedded => &[],
        Store::Redis => &[Program::Redis],
    })?;
    let packages = ["build", "--package", "portcullis-origin", "--package", "portcullis-demo"];
    command::run(Command::new("cargo").args(packages).current_dir(root()))?;
    let bytes = edge_build::build(&EdgeBuild { policy: None, out_dir: edge_build::default_out_dir() })?;
    println!("the module of the edge has {bytes} bytes gzipped");

    let run = Run::prepare(store)?;
    let mut children = Children::new(run.directory.clone(), Stop::on_signals()?);
    let ran = run.start(&mut children).and_then(|()| children.wait());
    children.stop();
    ran
}

impl Run {
    fn prepare(store: Store) -> anyhow::Result<Self> {
        let name = match store {
            Store::Embedded => "embedded",
            Store::Redis => "redis",
        };
        let directory = root().join(".portcullis").join(name);
        private_directory(&directory)?;
        let programs = env::current_exe()?.parent().context("xtask is in no folder")?.to_owned();
        let run = Self { store, directory, programs, ports: Ports::choose()? };
        secrets::make(&run.directory)?;
        fs::write(run.config(), run.config_text()).context("cannot write the configuration")?;
        Ok(run)
    }

    fn start(&self, children: &mut Children) -> anyhow::Result<()> {
        let ports = &self.ports;
        if matches!(self.store, Store::Redis) {
            children.start("redis", &mut self.redis()?)?;
            children.until_ready("redis", || pings(ports.redis))?;
        }
        // Before the origin runs: the embedded store has one process at a time.
        let feed_key = self.feed_key()?;
        children.start("origin", &mut self.origin(&["serve"]))?;
        children.until_ready("origin", || get(ports.origin, "/readyz").is_some_and(|answer| answer.is_ok()))?;
        children.start("demo", &mut self.demo()?)?;
        children.until_ready("demo", || get(ports.front, "/").is_some_and(|answer| answer.is_ok()))?;
        children.start("gate", &mut self.gate(&feed_key)?)?;
        children.until_ready("gate", || {
            get(ports.gate, "/.portcullis/status").is_some_and(|answer| answer.text.contains(r#""ready":true"#))
        })?;
        println!("\n  the page      http://localhost:{}/", ports.front);
        println!("  the gate      http://localhost:{}/", ports.gate);
        println!("  the origin    http://127.0.0.1:{}/", ports.origin);
        println!("  data and logs {}\n\nCtrl-C stops all of it.", self.directory.display());
        Ok(())
    }

    fn config(&self) -> PathBuf {
        self.directory.join("origin.toml")
    }

    fn config_text(&self) -> String {
        let Ports { redis, origin, gate, .. } = self.ports;
        let file = |name: &str| toml_text(&self.directory.join(name));
        let store = match self.store {
            Store::Embedded => toml_text(Path::new(&format!("embedded:{}", self.directory.join("store.db").display()))),
            Store::Redis => format!("\"redis://127.0.0.1:{redis}/0\""),
        };
        format!(
            "# Written anew by each `cargo xtask up`.\n\
             [server]\nlisten = \"127.0.0.1:{origin}\"\npublic_url = \"http://127.0.0.1:{origin}\"\ndrain_ms = 1000\n\n\
             [store]\nurl = {store}\n\n\
             [secrets]\nmaster_key_file = {}\nmanagement_key_file = {}\n\n\
             [[hubs]]\nname = \"local\"\nurl = \"http://127.0.0.1:{gate}/.portcullis/hubs/local/frames\"\n",
            file(MASTER_KEY_FILE),
            file(MANAGEMENT_KEY_FILE),
        )
    }

    fn redis(&self) -> anyhow::Result<Command> {
        let data = self.directory.join("data");
        fs::create_dir_all(&data)?;
        let mut redis = Command::new("redis-server");
        redis.args(["--bind", "127.0.0.1", "--port", &self.ports.redis.to_string(), "--save", ""]);
        redis.args(["--appendonly", "yes", "--maxmemory-policy", "noeviction", "--dir"]).arg(data);
        Ok(redis)
    }

    fn origin(&self, arguments: &[&str]) -> Command {
        let mut origin = Command::new(self.programs.join("portcullis"));
        // The secrets are in files; a second source would be refused.
        origin.env_remove("PORTCULLIS_MASTER_KEY").env_remove("PORTCULLIS_MANAGEMENT_KEY");
        origin.args(arguments).arg("--config").arg(self.config());
        origin
    }

    /// Makes the keys if there are none; the public key of the feed.
    fn feed_key(&self) -> anyhow::Result<String> {
        let output = self.origin(&["keys", "show"]).stderr(Stdio::inherit()).output();
        let output = output.context("cannot start portcullis")?;
        ensure!(output.status.success(), "portcullis keys show ended with {}", output.status);
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).context("the keys are not JSON")?;
        Ok(shown["feed_key"].as_str().context("there is no feed key")?.to_owned())
    }

    fn gate(&self, feed_key: &str) -> anyhow::Result<Command> {
        let Ports { origin, gate, inspector, app, .. } = self.ports;
        let origin = format!("http://127.0.0.1:{origin}");
        let mut wrangler = Command::new(npm_program("wrangler"));
        wrangler.current_dir(root()).env("PATH", search_path()?);
        // It runs here, for here: nothing is fetched or reported.
        wrangler.envs([("WRANGLER_SEND_METRICS", "false"), ("CLOUDFLARE_CF_FETCH_ENABLED", "false")]);
        wrangler.args(["dev", "--ip", "127.0.0.1", "--port", &gate.to_string()]);
        wrangler.args(["--inspector-port", &inspector.to_string(), "--show-interactive-dev-session", "false"]);
        wrangler.args(["--log-level", "warn", "--persist-to"]).arg(self.directory.join("wrangler"));
        for (name, value) in [
            ("ORIGIN_URL", origin.as_str()),
            ("ISSUER", &origin),
            ("AUDIENCE", "portcullis"),
            ("FEED_KEYS", feed_key),
            ("UPSTREAMS", &format!(r#"{{"app":"http://127.0.0.1:{app}"}}"#)),
        ] {
            wrangler.arg("--var").arg(format!("{name}:{value}"));
        }
        Ok(wrangler)
    }

    fn demo(&self) -> anyhow::Result<Command> {
        let Ports { origin, gate, app, front, .. } = self.ports;
        let key = fs::read_to_string(self.directory.join(MANAGEMENT_KEY_FILE))?;
        let mut demo = Command::new(self.programs.join("portcullis-demo"));
        demo.env("PORTCULLIS_MANAGEMENT_KEY", key.trim_end());
        demo.args(["--port", &app.to_string(), "--front-port", &front.to_string()]);
        demo.args(["--origin", &format!("http://127.0.0.1:{origin}"), "--gate", &format!("http://127.0.0.1:{gate}")]);
        Ok(demo)
    }
}

impl Ports {
    fn choose() -> anyhow::Result<Self> {
        let mut taken = Vec::new();
        let mut next = |usual: u16| {
            let Some(port) = (usual..=u16::MAX).find(|port| !taken.contains(port) && free_port(*port)) else {
                bail!("no port from {usual} on is free");
            };
            taken.push(port);
            Ok(port)
        };
        Ok(Self {
            redis: next(8779)?,
            origin: next(8780)?,
            gate: next(8787)?,
            inspector: next(9229)?,
            app: next(8790)?,
            front: next(8791)?,
        })
    }
}

/// A path as a TOML string; JSON's escapes are TOML's too.
fn toml_text(path: &Path) -> String {
    serde_json::Value::from(path.display().to_string()).to_string()
}
