//! Programs whose clock is off, by libfaketime.

use std::process::Command;

/// Whether programs can be started so here.
pub(crate) fn can_move_clocks() -> bool {
    let mut date = Command::new("date");
    move_clock(date.arg("+%Y"), -50 * 365 * 86_400);
    date.output().is_ok_and(|said| said.stderr.is_empty() && said.stdout.starts_with(b"19"))
}

/// Puts the clock of a program off by so many seconds: what time it is, not how much of it passes.
pub(crate) fn move_clock(command: &mut Command, ahead_s: i64) {
    if ahead_s == 0 {
        return;
    }
    // Debian's place for it, whatever the processor. The allocator of Redis asks for the time before the library is ready, so
    // that of the C library comes first.
    command.env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1:libc.so.6");
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
