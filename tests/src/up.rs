//! A run of `cargo xtask up`, as a person would start it.

use std::{
    fs,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use crate::root;

/// Longest time between two lines of output: a build of everything may have to come first.
const LINE_MAX: Duration = Duration::from_secs(1_200);

/// How long it may take to stop.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Lines of output that wait to be read.
const LINES_MAX: usize = 1_024;

/// In the environment of each process of a run, so that those which outlive it are found.
const MARK: &str = "UP_TEST_RUN";

/// Runs so far, so that each has a mark of its own.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// A run; what is left of it is killed when it is dropped.
pub struct TestUp {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    mark: String,
}

impl TestUp {
    /// Starts `cargo xtask up` with its data in this folder.
    ///
    /// # Errors
    ///
    /// Cargo cannot be started.
    pub fn start(data: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let run = format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let mut cargo = Command::new("cargo");
        cargo.args(["xtask", "up", "--data"]).arg(data).args(arguments).current_dir(root()).env(MARK, &run);
        cargo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = cargo.spawn().context("cannot start cargo")?;
        let (tell, lines) = mpsc::channel(LINES_MAX);
        tell_lines(child.stdout.take().context("no output")?, tell.clone());
        tell_lines(child.stderr.take().context("no output")?, tell);
        Ok(Self { child, lines, seen: Vec::new(), mark: format!("{MARK}={run}") })
    }

    /// Waits for a line with this text; the line.
    ///
    /// # Errors
    ///
    /// The run ends before it, or says nothing for too long.
    pub async fn says(&mut self, text: &str) -> anyhow::Result<String> {
        while let Ok(Some(line)) = timeout(LINE_MAX, self.lines.recv()).await {
            self.seen.push(line.clone());
            if line.contains(text) {
                return Ok(line);
            }
        }
        bail!("{text:?} was not said, but:\n{}", self.seen.join("\n"))
    }

    /// The address of the page, once all runs.
    ///
    /// # Errors
    ///
    /// Something does not start.
    pub async fn page(&mut self) -> anyhow::Result<String> {
        let line = self.says("http://localhost:").await?;
        line.split_whitespace().last().map(str::to_owned).context("an empty line")
    }

    /// Presses Ctrl-C and waits for the end; the exit code, and the processes that are left.
    ///
    /// # Errors
    ///
    /// It does not end in time.
    pub async fn interrupt(self) -> anyhow::Result<(Option<i32>, Vec<String>)> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).context("it has ended")?;
        kill(Pid::from_raw(pid), Signal::SIGINT)?;
        self.end().await
    }

    /// Waits for the end; the exit code, and the processes that are left.
    ///
    /// # Errors
    ///
    /// It does not end in time.
    pub async fn end(mut self) -> anyhow::Result<(Option<i32>, Vec<String>)> {
        let status = timeout(STOP_MAX, self.child.wait()).await.context("it does not end")??;
        Ok((status.code(), self.processes().into_iter().map(|(_, name)| name).collect()))
    }

    /// Kills a program of the run; whether there was one whose command line has this text.
    pub fn kill(&self, text: &str) -> bool {
        let found = self.processes().into_iter().find(|(_, name)| name.contains(text));
        found.is_some_and(|(pid, _)| kill(pid, Signal::SIGKILL).is_ok())
    }

    /// The processes of the run, with their command lines.
    fn processes(&self) -> Vec<(Pid, String)> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let own = numbers.filter(|pid| {
            // Processes of others cannot be read, and are not ours.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == self.mark.as_bytes())
        });
        let name = |pid| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        own.map(|pid| (Pid::from_raw(pid), String::from_utf8_lossy(&name(pid)).replace('\0', " "))).collect()
    }
}

impl Drop for TestUp {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn tell_lines(output: impl AsyncRead + Send + Unpin + 'static, tell: mpsc::Sender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if tell.send(line).await.is_err() {
                return;
            }
        }
    });
}
