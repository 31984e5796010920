//! A program that a benchmark starts, and the processor time that it took.

use std::{
    process::{Child, Command},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    time::{ClockId, clock_getcpuclockid},
    unistd::Pid,
};

/// A running program; it ends when it is dropped.
pub(crate) struct Process {
    child: Child,
    clock: ClockId,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// It is not there, or has no clock.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = Pid::from_raw(child.id().try_into()?);
        let clock = clock_getcpuclockid(pid).with_context(|| format!("{name} has no clock"))?;
        Ok(Self { child, clock })
    }

    /// The processor time that all its threads took so far, those that have ended included.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(self.clock.now().context("a program of the benchmark has ended")?.into())
    }

    /// Its standard output, if that is piped; only once.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }
}

/// The processor time that the calling thread took so far.
///
/// # Errors
///
/// There is no such clock.
pub(crate) fn thread_cpu() -> anyhow::Result<Duration> {
    Ok(ClockId::CLOCK_THREAD_CPUTIME_ID.now().context("this thread has no clock")?.into())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
