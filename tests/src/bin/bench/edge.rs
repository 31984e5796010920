//! Gates and a hub in one bare workerd. Every gate is a service of its own: its own isolate, its own replica.

use std::{fmt::Write as _, fs, net::SocketAddr, path::Path};

use portcullis_tests::copy_build;
use shared::policy_text;

use crate::{
    tokens::{AUDIENCE, ISSUER},
    workerd::{COMPATIBILITY_DATE, Workerd, text},
};

/// Name of the hub.
pub(crate) const HUB: &str = "bench";

/// What the gates are told.
pub(crate) struct Edge {
    /// How many.
    pub(crate) gates: usize,
    /// The route policy.
    pub(crate) policy: &'static str,
    pub(crate) origin: SocketAddr,
    pub(crate) feed_key: String,
    /// A JWKS of token keys instead of those of the feed.
    pub(crate) trusted: Option<String>,
    /// The address of the policy's upstream `app`.
    pub(crate) upstream: String,
    /// The key of assertions to it; none are made without.
    pub(crate) assertion_key: Option<&'static str>,
}

/// Gates and hub that run; the gates have the sockets `gate0`, `gate1` and so on.
pub(crate) struct RunningEdge {
    pub(crate) workerd: Workerd,
    hub: SocketAddr,
}

impl RunningEdge {
    /// Kills gates and hub, and starts them again with what they left on the disk.
    ///
    /// # Errors
    ///
    /// They do not start.
    pub(crate) fn restart(self) -> anyhow::Result<Self> {
        let workerd = self.workerd.restart()?;
        let hub = workerd.address("hub")?;
        Ok(Self { workerd, hub })
    }

    /// Where the origin pushes frames.
    pub(crate) fn push_url(&self) -> String {
        format!("http://{}/.portcullis/hubs/{HUB}/frames", self.hub)
    }
}

impl Edge {
    /// Starts them on free ports.
    ///
    /// # Errors
    ///
    /// The edge was not built, or workerd does not start.
    pub(crate) fn start(&self) -> anyhow::Result<RunningEdge> {
        let directory = tempfile::tempdir()?;
        let modules = modules(directory.path())?;
        let policy = policy_text::parse("the policy of the benchmark", self.policy)?.encode()?;
        fs::write(directory.path().join("policy.bin"), policy)?;
        fs::create_dir(directory.path().join("do"))?;
        let workerd = Workerd::start(directory, &self.config(&modules)?, self.gates + 1)?;
        let hub = workerd.address("hub")?;
        Ok(RunningEdge { workerd, hub })
    }

    fn config(&self, modules: &str) -> anyhow::Result<String> {
        let (mut services, mut sockets, mut gates) = (String::new(), String::new(), String::new());
        for gate in 0..self.gates {
            writeln!(services, "    (name = \"gate{gate}\", worker = .gate{gate}),")?;
            writeln!(
                sockets,
                "    (name = \"gate{gate}\", address = \"127.0.0.1:0\", http = (), service = \"gate{gate}\"),"
            )?;
            gates.push_str(&self.worker(&format!("gate{gate}"), ", serviceName = \"hub\"", modules)?);
        }
        let hub = self.worker("hub", "", modules)?;
        Ok(format!(
            r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
{services}    (name = "hub", worker = .hub),
    (name = "disk", disk = (path = "do", writable = true)),
    (name = "internet", network = (allow = ["public", "private", "local"]))
  ],
  sockets = [
{sockets}    (name = "hub", address = "127.0.0.1:0", http = (), service = "hub")
  ]
);
{gates}{hub}"#
        ))
    }

    /// A worker with a binding to the hub in `service`; without one it keeps the hub itself.
    fn worker(&self, name: &str, service: &str, modules: &str) -> anyhow::Result<String> {
        let upstreams = serde_json::json!({ "app": self.upstream }).to_string();
        let mut bindings = format!("(name = \"HUB\", durableObjectNamespace = (className = \"Hub\"{service}))");
        let origin = format!("http://{}", self.origin);
        let settings = [
            ("HUB_NAME", HUB),
            ("ORIGIN_URL", &origin),
            ("ISSUER", ISSUER),
            ("AUDIENCE", AUDIENCE),
            ("CLIENT_ID", "web"),
            ("FEED_KEYS", &self.feed_key),
            ("UPSTREAMS", &upstreams),
            ("RUNTIME_CACHE", "none"),
        ];
        let keys = self.assertion_key.map(|key| serde_json::json!({ "app": key }).to_string()).unwrap_or_default();
        let settings = settings.into_iter().chain([("ASSERTION_KEYS", keys.as_str())]);
        let trusted = self.trusted.as_deref().map(|jwks| ("TRUSTED_JWKS", jwks));
        for (name, value) in settings.chain(trusted) {
            write!(bindings, ", (name = \"{name}\", text = {})", text(value))?;
        }
        let storage = r#"
  durableObjectNamespaces = [(className = "Hub", uniqueKey = "hub", enableSql = true)],
  durableObjectStorage = (localDisk = "disk"),"#;
        let storage = if service.is_empty() { storage } else { "" };
        Ok(format!(
            r#"const {name} :Workerd.Worker = (
  modules = [
{modules}  ],{storage}
  bindings = [{bindings}],
  compatibilityDate = "{COMPATIBILITY_DATE}"
);
"#
        ))
    }
}

/// Copies the build of the edge; its modules as the configuration names them, the entry first.
fn modules(to: &Path) -> anyhow::Result<String> {
    let mut names = copy_build(to)?;
    names.sort_by_key(|name| (name != "entry.mjs", name.clone()));
    let mut modules = String::new();
    for name in names {
        let kind = match name.rsplit_once('.') {
            Some((_, "mjs" | "js")) => "esModule",
            Some((_, "wasm")) => "wasm",
            Some((_, "bin")) => "data",
            _ => continue,
        };
        writeln!(modules, "    (name = \"{name}\", {kind} = embed \"{name}\"),")?;
    }
    Ok(modules)
}
