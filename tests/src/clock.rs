//! Programs whose clock is off, by libfaketime.

use std::{fs, path::PathBuf, process::Command, sync::Arc};

use tempfile::TempDir;

/// Where libfaketime lies on Debian, whatever the processor. The allocator of Redis asks for the time before the library is
/// ready, so that of the C library comes first.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1:libc.so.6";

/// What time it is for a program.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    /// Ahead by so many seconds, for good.
    Ahead(i64),
    /// As a clock that is moved says.
    Moved(MovedClock),
}

impl Clock {
    /// Lets a program go by it.
    pub(crate) fn give_to(&self, command: &mut Command) {
        match self {
            Self::Ahead(ahead_s) => move_clock(command, *ahead_s),
            Self::Moved(clock) => clock.give_to(command),
        }
    }
}

impl From<i64> for Clock {
    fn from(ahead_s: i64) -> Self {
        Self::Ahead(ahead_s)
    }
}

/// A clock that jumps while programs run by it.
#[derive(Debug, Clone)]
pub(crate) struct MovedClock {
    directory: Arc<TempDir>,
}

impl MovedClock {
    /// One that is right.
    ///
    /// # Errors
    ///
    /// No file can be made.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let clock = Self { directory: Arc::new(tempfile::tempdir()?) };
        clock.set(0)?;
        Ok(clock)
    }

    /// Jumps: from now on it is ahead by so many seconds.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn set(&self, ahead_s: i64) -> anyhow::Result<()> {
        // Nobody reads half of it.
        let next = self.directory.path().join("next");
        fs::write(&next, format!("{ahead_s:+}s"))?;
        Ok(fs::rename(next, self.file())?)
    }

    fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", LIBRARY).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        // It is read at every question.
        command.env("FAKETIME_TIMESTAMP_FILE", self.file()).env("FAKETIME_NO_CACHE", "1");
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ahead")
    }
}

/// Whether programs can be started with a clock that is off: libfaketime is installed.
pub fn can_move_clocks() -> bool {
    let mut date = Command::new("date");
    move_clock(date.arg("+%Y"), -50 * 365 * 86_400);
    date.output().is_ok_and(|said| said.stderr.is_empty() && said.stdout.starts_with(b"19"))
}

/// Puts the clock of a program off by so many seconds: what time it is, not how much of it passes.
pub(crate) fn move_clock(command: &mut Command, ahead_s: i64) {
    if ahead_s == 0 {
        return;
    }
    command.env("LD_PRELOAD", LIBRARY);
    command.env("FAKETIME", format!("{ahead_s:+}s")).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_clock_is_moved_by_faketime() -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        for ahead_s in [-3_600, 0, 3_600] {
            let mut date = Command::new("date");
            move_clock(date.arg("+%s"), ahead_s);
            let told: u64 = String::from_utf8(date.output()?.stdout)?.trim().parse()?;
            let expected = now.saturating_add_signed(ahead_s);
            assert!((expected..expected + 60).contains(&told), "{ahead_s}: {told}");
        }
        Ok(())
    }
}
