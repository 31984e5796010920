//! The programs of a run: each in a process group of its own with a log of its own; they end together.

use std::{
    cell::Cell,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::command::spinner;

/// How long a program may take until it answers.
const READY_MAX: Duration = Duration::from_secs(60);

/// How long the programs may take to end before they are killed.
const STOP_MAX: Duration = Duration::from_secs(5);

/// How often is looked whether something changed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Lines of the log of a program that ended by itself.
const LINES_SHOWN_MAX: usize = 20;

/// Tells when the person wants all of it to end.
pub(super) struct Stop {
    told: Receiver<()>,
    /// Whether it was told already.
    was_told: Cell<bool>,
}

/// The programs of a run.
pub(super) struct Children {
    logs: PathBuf,
    stop: Stop,
    running: Vec<Running>,
}

/// What becomes of the run when a program ends by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing goes on without it.
    Needed,
    /// Others do the same; it goes on as long as there is one of them.
    OneOfSome,
}

struct Running {
    name: String,
    part: Part,
    child: Child,
    log: PathBuf,
}

/// How a wait came to its end.
enum Waited {
    Stopped,
    Passed,
}

impl Stop {
    /// Listens for the signals from now on. Not by a blocked mask: programs that are started would inherit it.
    pub(super) fn on_signals() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listen = |kind| {
            let _within = runtime.enter();
            signal(kind).context("cannot listen for signals")
        };
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let mut hangup = listen(SignalKind::hangup())?;
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    if tell.send(()).is_err() {
                        return;
                    }
                }
            });
        });
        Ok(Self { told, was_told: Cell::new(false) })
    }

    fn wait(&self, time: Duration) -> Waited {
        if !self.was_told.get() {
            self.was_told.set(self.told.recv_timeout(time) != Err(RecvTimeoutError::Timeout));
        }
        if self.was_told.get() { Waited::Stopped } else { Waited::Passed }
    }
}

impl Children {
    pub(super) fn new(logs: PathBuf, stop: Stop) -> Self {
        Self { logs, stop, running: Vec::new() }
    }

    /// Starts a program; its process.
    pub(super) fn start(&mut self, name: &str, part: Part, command: &mut Command) -> anyhow::Result<u32> {
        let log = self.logs.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let process = child.id();
        self.running.push(Running { name: name.to_owned(), part, child, log });
        Ok(process)
    }

    /// Waits until a program that was started `is_ready`.
    ///
    /// # Errors
    ///
    /// It is not in time, a program ends, or the person does not want to wait.
    pub(super) fn until_ready(&mut self, name: &str, is_ready: impl Fn() -> bool) -> anyhow::Result<()> {
        let spinner = spinner(&format!("waiting for the {name}"));
        let started = Instant::now();
        while !is_ready() {
            if let Waited::Stopped = self.stop.wait(LOOK_EVERY) {
                bail!("stopped before the {name} was ready");
            }
            if let Some((ended, status)) = self.take_ended()? {
                return Err(ended.why(status));
            }
            if started.elapsed() > READY_MAX {
                let log = self.logs.join(format!("{name}.log"));
                bail!("the {name} was not ready after {READY_MAX:?}; see {}", log.display());
            }
        }
        spinner.finish_and_clear();
        Ok(())
    }

    /// Waits until the person stops all of it.
    ///
    /// # Errors
    ///
    /// A program ended by itself, and no other one does the same.
    pub(super) fn wait(&mut self) -> anyhow::Result<()> {
        while let Waited::Passed = self.stop.wait(LOOK_EVERY) {
            let Some((ended, status)) = self.take_ended()? else { continue };
            let others = self.running.iter().filter(|other| other.part == Part::OneOfSome).count();
            if ended.part == Part::Needed || others == 0 {
                return Err(ended.why(status));
            }
            println!("the {} ended with {status}; {others} more do the same", ended.name);
        }
        Ok(())
    }

    /// Whether the person wanted the end, and not an error.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.stop.wait(Duration::ZERO), Waited::Stopped)
    }

    /// Stops all programs: asks all of them, then waits for each, the last started first.
    pub(super) fn stop(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let stopping = spinner("stopping");
        for running in self.running.iter().rev() {
            running.signal(Signal::SIGTERM);
        }
        let asked = Instant::now();
        while let Some(mut running) = self.running.pop() {
            running.end(asked);
        }
        stopping.finish_and_clear();
    }

    /// A program that ended by itself, which is none of those that run any more.
    fn take_ended(&mut self) -> anyhow::Result<Option<(Running, ExitStatus)>> {
        for place in 0..self.running.len() {
            if let Some(status) = self.running[place].child.try_wait()? {
                return Ok(Some((self.running.remove(place), status)));
            }
        }
        Ok(None)
    }
}

/// Also when a run ends with an error.
impl Drop for Children {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Running {
    /// Shows what it said last.
    fn why(&self, status: ExitStatus) -> anyhow::Error {
        // Helpers of a program may outlive it.
        self.signal(Signal::SIGKILL);
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        for line in lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN_MAX)) {
            eprintln!("  {line}");
        }
        anyhow!("the {} ended by itself with {status}; all is stopped; see {}", self.name, self.log.display())
    }

    /// Waits until it ends, and kills what is left of its group.
    fn end(&mut self, asked: Instant) {
        while asked.elapsed() < STOP_MAX && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(LOOK_EVERY);
        }
        // Helpers of a program may outlive it.
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // An error means that nobody is left in the group.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }
}
