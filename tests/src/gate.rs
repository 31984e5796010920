//! A gate with its hub in a `workerd` of its own, on a free port, with a route policy of the test.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use ::origin::config::Hub;
use anyhow::{Context as _, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Client, Method, RequestBuilder, redirect};
use serde::Serialize;
use serde_json::{Value, json};
use shared::policy_text;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::{TestOrigin, eventually};

/// The longest answer that [`TestGate::raw`] reads, in bytes.
const RAW_BYTES_MAX: u64 = 1 << 20;

/// What a gate is started with, as bindings by name.
#[derive(Debug, Clone, Default)]
pub struct GateSettings {
    bindings: BTreeMap<&'static str, String>,
}

impl GateSettings {
    /// A gate that follows this origin.
    pub fn of(origin: &TestOrigin) -> Self {
        let empty = Self { bindings: BTreeMap::from([("HUB_NAME", "local".to_owned())]) };
        empty
            .with("ORIGIN_URL", origin.base())
            .with("ISSUER", origin.issuer())
            .with("AUDIENCE", "portcullis")
            .with("FEED_KEYS", origin.feed_key())
    }

    /// With another value for a binding.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.bindings.insert(name, value.to_owned());
        self
    }

    /// With the address of an upstream of the policy, or those of a pool.
    #[must_use]
    pub fn with_upstream(self, name: &str, address: impl Serialize) -> Self {
        let value = json!({ name: address }).to_string();
        self.with("UPSTREAMS", &value)
    }
}

/// The place of a gate that does not run yet, so that an origin can know its hub.
#[derive(Debug)]
pub struct GatePlace {
    port: u16,
    /// Of the second gate, if there is one.
    second: Option<u16>,
    /// The file of the build that workerd is started with.
    configuration: &'static str,
    directory: TempDir,
}

impl GatePlace {
    /// Takes a free port, and makes the folder of the build with this policy.
    ///
    /// # Errors
    ///
    /// The edge was not built (`cargo xtask edge`), or the policy is wrong.
    pub fn new(policy: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        copy_build(directory.path())?;
        fs::create_dir(directory.path().join("do"))?;
        let place = Self { port: free_port()?, second: None, configuration: "workerd.capnp", directory };
        place.write_policy(policy)?;
        Ok(place)
    }

    /// Adds a gate with an isolate of its own, and the hub of the first one: nobody pushes to its address.
    ///
    /// # Errors
    ///
    /// The configuration of the build has another form than it had.
    pub fn with_second(mut self) -> anyhow::Result<Self> {
        let file = self.directory.path().join("workerd.capnp");
        fs::write(&file, second_gate(&fs::read_to_string(&file)?)?)?;
        self.second = Some(free_port()?);
        Ok(self)
    }

    /// Puts another text into the configuration, for one that stands there.
    ///
    /// # Errors
    ///
    /// It does not stand there.
    pub fn reconfigured(self, from: &str, to: &str) -> anyhow::Result<Self> {
        let file = self.directory.path().join(self.configuration);
        let text = fs::read_to_string(&file)?;
        anyhow::ensure!(text.contains(from), "{} has no {from}", self.configuration);
        fs::write(&file, text.replace(from, to))?;
        Ok(self)
    }

    /// Has the gate believe what a proxy says of the scheme.
    #[must_use]
    pub fn behind_proxy(mut self) -> Self {
        self.configuration = "behind-proxy.capnp";
        self
    }

    /// The hub, as the origin's configuration names it.
    pub fn hub(&self) -> Hub {
        self.hub_named("local")
    }

    /// As [`Self::hub`], for a gate whose binding `HUB_NAME` is this.
    pub fn hub_named(&self, name: &str) -> Hub {
        Hub { name: name.to_owned(), url: format!("http://127.0.0.1:{}/.portcullis/hubs/{name}/frames", self.port) }
    }

    /// Where the gate will listen.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the gate here, and waits until it answers.
    ///
    /// # Errors
    ///
    /// It does not.
    pub async fn start(self, settings: GateSettings) -> anyhow::Result<TestGate> {
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).build()?;
        let base = format!("http://127.0.0.1:{}", self.port);
        let child = self.spawn(&settings)?;
        let gate = TestGate { place: self, settings, base, client, child };
        gate.answers().await?;
        Ok(gate)
    }

    fn write_policy(&self, text: &str) -> anyhow::Result<()> {
        let policy = policy_text::parse("policy.toml", text)?.encode()?;
        Ok(fs::write(self.directory.path().join("policy.bin"), policy)?)
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("workerd.log")
    }

    fn spawn(&self, settings: &GateSettings) -> anyhow::Result<std::process::Child> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut workerd = Command::new(root().join("node_modules/.bin/workerd"));
        workerd.args(["serve", self.configuration]).current_dir(self.directory.path());
        workerd.arg(format!("--socket-addr=http=127.0.0.1:{}", self.port));
        if let Some(port) = self.second {
            workerd.arg(format!("--socket-addr=second=127.0.0.1:{port}"));
        }
        workerd.envs(&settings.bindings).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        workerd.spawn().context("cannot start workerd; run cargo xtask setup")
    }
}

/// A running gate; it ends when it is dropped.
pub struct TestGate {
    place: GatePlace,
    settings: GateSettings,
    base: String,
    client: Client,
    child: std::process::Child,
}

impl TestGate {
    /// `http://127.0.0.1:PORT`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request to the second gate, see [`GatePlace::with_second`]; to the first if there is none.
    pub fn second(&self, method: Method, path: &str) -> RequestBuilder {
        let port = self.place.second.unwrap_or(self.place.port);
        self.client.request(method, format!("http://127.0.0.1:{port}{path}"))
    }

    /// A request without credential; redirects are not followed.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// The status of a GET request with a bearer token.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn status_of(&self, path: &str, token: &str) -> anyhow::Result<u16> {
        Ok(self.request(Method::GET, path).bearer_auth(token).send().await?.status().as_u16())
    }

    /// Waits until a request with this token is answered with this status.
    ///
    /// # Errors
    ///
    /// It is not in time.
    pub async fn comes_to_answer(&self, path: &str, token: &str, status: u16) -> anyhow::Result<()> {
        let is_so = async || (self.status_of(path, token).await.ok()? == status).then_some(());
        eventually(&format!("{path} to be answered {status}"), is_so).await
    }

    /// What the gate says of itself.
    ///
    /// # Errors
    ///
    /// No answer, or not JSON.
    pub async fn status(&self) -> anyhow::Result<Value> {
        let answer = self.request(Method::GET, "/.portcullis/status").send().await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// Waits until the replica is synced.
    ///
    /// # Errors
    ///
    /// It is not in time.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let what = "the replica of the gate";
        eventually(what, async || self.status().await.ok().filter(|status| status["ready"] == true)).await?;
        Ok(())
    }

    /// Sends bytes as they are on a connection of their own; head and body of the answer, until the gate closes it.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn raw(&self, request: &str) -> anyhow::Result<String> {
        Self::rest(self.sent(request).await?).await
    }

    /// As [`Self::raw`], and nothing can come after these bytes.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn raw_to_its_end(&self, request: &str) -> anyhow::Result<String> {
        let mut stream = self.sent(request).await?;
        stream.shutdown().await?;
        Self::rest(stream).await
    }

    /// The status of a request that is sent as it stands here; the connection is closed then, whatever was to follow.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn raw_status(&self, request: &str) -> anyhow::Result<u16> {
        let stream = self.sent(request).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        Ok(line.split(' ').nth(1).unwrap_or_default().parse()?)
    }

    async fn sent(&self, request: &str) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.place.port)).await?;
        stream.write_all(request.as_bytes()).await?;
        Ok(stream)
    }

    async fn rest(stream: TcpStream) -> anyhow::Result<String> {
        let mut answer = Vec::new();
        stream.take(RAW_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// What `workerd` wrote.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.place.log())?)
    }

    /// What its hub keeps, as it lies on the disk.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn stored(&self) -> anyhow::Result<Vec<u8>> {
        let (mut bytes, mut folders) = (Vec::new(), vec![self.place.directory.path().join("do")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    bytes.extend(fs::read(path)?);
                }
            }
        }
        Ok(bytes)
    }

    /// Kills the process and starts it again, with the hub's storage as it was left.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        self.child = self.place.spawn(&self.settings)?;
        self.answers().await
    }

    /// As [`Self::restart`], with nothing in the hub's storage.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn restart_empty(&mut self) -> anyhow::Result<()> {
        self.kill();
        let storage = self.place.directory.path().join("do");
        fs::remove_dir_all(&storage)?;
        fs::create_dir(&storage)?;
        self.restart().await
    }

    /// As [`Self::restart`], with other bindings.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn restart_with(&mut self, name: &'static str, value: &str) -> anyhow::Result<()> {
        self.settings = self.settings.clone().with(name, value);
        self.restart().await
    }

    /// Stops the process in the middle of whatever it does, or lets it go on.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn pause(&self, paused: bool) -> anyhow::Result<()> {
        let signal = if paused { Signal::SIGSTOP } else { Signal::SIGCONT };
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    fn kill(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }

    async fn answers(&self) -> anyhow::Result<()> {
        let asked = eventually("workerd", async || self.status().await.ok()).await;
        asked.map(|_| ()).with_context(|| format!("workerd said: {}", self.log().unwrap_or_default()))
    }
}

impl Drop for TestGate {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on now.
///
/// # Errors
///
/// There is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The root of the repository.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The configuration of the build with another gate in it.
fn second_gate(config: &str) -> anyhow::Result<String> {
    let (services, gate) = config.split_once("const gate :Workerd.Worker").context("no gate in workerd.capnp")?;
    let storage = gate.lines().filter(|line| !line.contains("durableObjectNamespaces") && !line.contains("localDisk"));
    let second = storage.collect::<Vec<_>>().join("\n");
    let own = "durableObjectNamespace = \"Hub\"";
    ensure!(second.contains(own), "no hub in workerd.capnp");
    let second = second.replace(own, "durableObjectNamespace = (className = \"Hub\", serviceName = \"gate\")");
    let services = services
        .replace("(Workerd.Service) = [", "(Workerd.Service) = [\n    (name = \"second\", worker = .second),")
        .replace(
            "sockets = [",
            "sockets = [(name = \"second\", address = \"*:0\", http = (), service = \"second\"),\n    ",
        );
    Ok(format!("{services}const second :Workerd.Worker{second}\nconst gate :Workerd.Worker{gate}"))
}

/// Copies the files of the build of the edge; their names.
///
/// # Errors
///
/// The edge was not built.
pub fn copy_build(to: &Path) -> anyhow::Result<Vec<String>> {
    let missing = "the edge is not built: run cargo xtask edge";
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("build/edge")).context(missing)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    ensure!(names.iter().any(|name| name == "entry.mjs"), missing);
    Ok(names)
}
