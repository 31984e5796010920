//! Installs the tools that are missing: the Wasm target and Redis.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::bail;

use crate::execute;

/// Programs that tests start, with the Debian package that holds each.
const PROGRAMS: [(&str, &str); 1] = [("redis-server", "redis-server")];

/// Installs what is missing.
pub(crate) fn run() -> anyhow::Result<()> {
    execute(Command::new("rustup").args(["target", "add", "wasm32-unknown-unknown"]).stderr(Stdio::null()))?;
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_installed("apt-get") {
        bail!("{} must be installed by hand: there is no apt-get here", missing.join(", "));
    }
    let mut apt = elevated("apt-get");
    // Debian starts a server of its own at installation; ours are started by the tests.
    execute(elevated("apt-get").args(["update", "--quiet"]))?;
    execute(
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(missing),
    )
}

/// Whether `program` is in the search path.
fn is_installed(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|directory| is_file(&directory.join(program))))
}

fn is_file(path: &Path) -> bool {
    path.is_file()
}

/// `program` as root: as it is if we are root, else through sudo.
fn elevated(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}
