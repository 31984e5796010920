//! How each program of a run is started.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{
    Ports, Store,
    secrets::{self, ASSERTION_KEY_FILE, MANAGEMENT_KEY_FILE, MASTER_KEY_FILE},
};
use crate::command::{npm_program, root, search_path};

/// What the programs of one run have to know.
pub(super) struct Programs {
    pub(super) store: Store,
    /// Where secrets, data and logs are.
    pub(super) directory: PathBuf,
    pub(super) ports: Ports,
    /// The folder of the programs that Cargo builds.
    built: PathBuf,
}

impl Programs {
    /// Writes the configuration of the origin.
    pub(super) fn prepare(store: Store, directory: PathBuf, ports: Ports) -> anyhow::Result<Self> {
        let built = env::current_exe()?.parent().context("xtask is in no folder")?.to_owned();
        let programs = Self { store, directory, ports, built };
        fs::write(programs.config(), programs.config_text()).context("cannot write the configuration")?;
        Ok(programs)
    }

    /// A copy of the edge for this run: the next build must not change it while it runs.
    pub(super) fn edge(&self) -> PathBuf {
        self.directory.join("edge")
    }

    fn config(&self) -> PathBuf {
        self.directory.join("origin.toml")
    }

    fn config_text(&self) -> String {
        let Ports { redis, origin, gate, .. } = &self.ports;
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
             [[clients]]\nid = \"web\"\nkind = \"public\"\n\n[[clients]]\nid = \"phone\"\nkind = \"public\"\n\n\
             [[hubs]]\nname = \"local\"\nurl = \"http://127.0.0.1:{gate}/.portcullis/hubs/local/frames\"\n",
            file(MASTER_KEY_FILE),
            file(MANAGEMENT_KEY_FILE),
        )
    }

    pub(super) fn redis(&self) -> anyhow::Result<Command> {
        let data = self.directory.join("data");
        fs::create_dir_all(&data)?;
        let mut redis = Command::new("redis-server");
        redis.args(["--bind", "127.0.0.1", "--port", &self.ports.redis.to_string(), "--save", ""]);
        redis
            .args(["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--dir"])
            .arg(data);
        Ok(redis)
    }

    pub(super) fn origin(&self, arguments: &[&str]) -> Command {
        let mut origin = Command::new(self.built.join("portcullis"));
        // The secrets are in files; a second source would be refused.
        origin.env_remove("PORTCULLIS_MASTER_KEY").env_remove("PORTCULLIS_MANAGEMENT_KEY");
        origin.args(arguments).arg("--config").arg(self.config());
        origin
    }

    /// Makes the keys if there are none; the public key of the feed. Not while the origin runs on an embedded store,
    /// which has one process at a time.
    pub(super) fn feed_key(&self) -> anyhow::Result<String> {
        let output = self.origin(&["keys", "show"]).stderr(Stdio::inherit()).output();
        let output = output.context("cannot start portcullis")?;
        ensure!(output.status.success(), "portcullis keys show ended with {}", output.status);
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).context("the keys are not JSON")?;
        Ok(shown["feed_key"].as_str().context("there is no feed key")?.to_owned())
    }

    pub(super) fn gate(&self, feed_key: &str) -> anyhow::Result<Command> {
        let Ports { origin, gate, inspector, demos, .. } = &self.ports;
        let addresses: Vec<_> = demos.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        // Not among the arguments, which every user of this machine can read.
        let secret = self.directory.join("gate.env");
        secrets::write(&secret, &format!("ASSERTION_KEYS='{{\"app\":\"{}\"}}'", self.secret(ASSERTION_KEY_FILE)?))?;
        let origin = format!("http://127.0.0.1:{origin}");
        let mut wrangler = Command::new(npm_program("wrangler"));
        wrangler.current_dir(root()).env("PATH", search_path()?);
        // It runs here, for here: nothing is fetched or reported.
        wrangler.envs([("WRANGLER_SEND_METRICS", "false"), ("CLOUDFLARE_CF_FETCH_ENABLED", "false")]);
        // For the log.
        wrangler.env("FORCE_COLOR", "0");
        wrangler.arg("dev").arg(self.edge().join("entry.mjs")).arg("--config").arg(root().join("wrangler.toml"));
        wrangler.args(["--ip", "127.0.0.1", "--port", &gate.to_string()]);
        wrangler.args(["--inspector-port", &inspector.to_string(), "--show-interactive-dev-session", "false"]);
        wrangler.arg("--env-file").arg(secret);
        wrangler.args(["--log-level", "warn", "--persist-to"]).arg(self.directory.join("wrangler"));
        for (name, value) in [
            ("ORIGIN_URL", origin.as_str()),
            ("ISSUER", &origin),
            ("AUDIENCE", "portcullis"),
            ("FEED_KEYS", feed_key),
            ("UPSTREAMS", &json!({ "app": addresses }).to_string()),
        ] {
            wrangler.arg("--var").arg(format!("{name}:{value}"));
        }
        Ok(wrangler)
    }

    /// The upstream on this port.
    pub(super) fn demo(&self, port: u16, feed_key: &str) -> anyhow::Result<Command> {
        let origin = self.ports.origin;
        let mut demo = Command::new(self.built.join("portcullis-demo"));
        demo.env("PORTCULLIS_MANAGEMENT_KEY", self.secret(MANAGEMENT_KEY_FILE)?);
        demo.env("PORTCULLIS_ASSERTION_KEY", self.secret(ASSERTION_KEY_FILE)?);
        demo.args(["--port", &port.to_string(), "--origin", &format!("http://127.0.0.1:{origin}")]);
        demo.args(["--feed-key", feed_key]);
        Ok(demo)
    }

    fn secret(&self, file: &str) -> anyhow::Result<String> {
        let text = fs::read_to_string(self.directory.join(file)).with_context(|| format!("cannot read {file}"))?;
        Ok(text.trim_end().to_owned())
    }
}

/// A path as a TOML string; JSON's escapes are TOML's too.
fn toml_text(path: &Path) -> String {
    serde_json::Value::from(path.display().to_string()).to_string()
}
