//! A Redis server of a test.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A server on a free port; it ends with the test.
pub(crate) struct Server {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts one with more arguments, and waits until it answers.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), Self::free_port());
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(port, directory.path(), &arguments);
        let server = Self { child, port, arguments, directory };
        server.wait(|answer| answer.contains("PONG"), &["PING"]);
        server
    }

    /// Starts a sentinel with a file of its own.
    pub(crate) fn start_sentinel(file: &Path) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), Self::free_port());
        let mut command = Command::new("redis-server");
        command.arg(file).args(["--sentinel", "--port", &port.to_string(), "--dir"]).arg(directory.path());
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let server = Self { child, port, arguments: Vec::new(), directory };
        server.wait(|answer| answer.contains("PONG"), &["PING"]);
        server
    }

    /// A port that nobody listens on. The bus of a cluster listens 10000 above it.
    pub(crate) fn free_port() -> u16 {
        (0..100)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
            .find(|port| *port < 55_000)
            .unwrap()
    }

    /// Kills it and starts it again on what it had written.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.child = spawn(self.port, self.directory.path(), &self.arguments);
        self.wait(|answer| answer.contains("PONG"), &["PING"]);
    }

    /// Kills it.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it in the middle of whatever it does, until it is resumed.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What `redis-cli` says.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits for an answer; there is no event to wait for.
    pub(crate) fn wait(&self, good: impl Fn(&str) -> bool, arguments: &[&str]) {
        let started = Instant::now();
        while !good(&self.cli(arguments)) {
            assert!(started.elapsed() < Duration::from_secs(30), "{arguments:?}");
        }
    }
}

/// Three nodes of a cluster, and their addresses.
pub(crate) fn cluster() -> ([Server; 3], String) {
    let cluster = ["--cluster-enabled", "yes"];
    let servers = [Server::start(&cluster), Server::start(&cluster), Server::start(&cluster)];
    let nodes: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    servers[0].cli(&[&["--cluster", "create"], nodes.as_slice(), &["--cluster-yes"]].concat());
    for server in &servers {
        server.wait(|info| info.contains("cluster_state:ok") && info.contains("cluster_size:3"), &["CLUSTER", "INFO"]);
    }
    let urls = servers.iter().map(Server::url).collect::<Vec<_>>().join(",");
    (servers, urls)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(port: u16, directory: &Path, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args([
        "--port",
        &port.to_string(),
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--dir",
    ]);
    // A replica would wait five seconds for others to come.
    command
        .arg(directory)
        .args(["--repl-diskless-sync-delay", "0"])
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}
