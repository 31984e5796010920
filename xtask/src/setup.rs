//! Installs the tools that are missing: the Wasm target, npm packages, Redis and Chromium, the builders of the edge.
//!
//! Invariant: what is there already is not touched, so a second run does nothing and takes no time.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, bail};

use crate::command::{is_installed, root, run_quietly};

const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Programs that tests start, with the Debian package that holds each.
const PROGRAMS: [(&str, &str); 2] = [("redis-server", "redis-server"), ("chromium", "chromium")];

/// A program of crates.io in a folder of its own, so that other versions do not get in the way.
pub(crate) struct CargoTool {
    package: &'static str,
    version: &'static str,
    /// The folder's name without the version.
    folder: &'static str,
    binary: &'static str,
    /// Whether the published lock file can be used.
    locked: bool,
}

/// Must be of the version of the crate `wasm-bindgen`. Its lock file names a version that is no longer published.
pub(crate) const WASM_BINDGEN: CargoTool = CargoTool {
    package: "wasm-bindgen-cli",
    version: "0.2.130",
    folder: "wasm-bindgen",
    binary: "wasm-bindgen",
    locked: false,
};

/// Must be of the version of the crate `worker`.
pub(crate) const WORKER_BUILD: CargoTool = CargoTool {
    package: "worker-build",
    version: "0.8.7",
    folder: "worker-build",
    binary: "worker-build",
    locked: true,
};

/// Installs what is missing.
///
/// # Errors
///
/// Something cannot be installed.
pub(crate) fn run() -> anyhow::Result<()> {
    add_wasm_target()?;
    install_debian_packages()?;
    install_npm_packages()?;
    WASM_BINDGEN.install()?;
    WORKER_BUILD.install()
}

impl CargoTool {
    /// Where the program is once it is installed.
    ///
    /// # Errors
    ///
    /// There is no home directory.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        Ok(self.root()?.join("bin").join(self.binary))
    }

    fn root(&self) -> anyhow::Result<PathBuf> {
        let cache = match env::var_os("XDG_CACHE_HOME") {
            Some(cache) if !cache.is_empty() => PathBuf::from(cache),
            _ => env::home_dir().context("there is no home directory to keep tools in")?.join(".cache"),
        };
        Ok(cache.join("portcullis").join(format!("{}-{}", self.folder, self.version)))
    }

    fn install(&self) -> anyhow::Result<()> {
        if self.path()?.is_file() {
            return Ok(());
        }
        let mut cargo = Command::new("cargo");
        cargo.args(["install", self.package, "--version", &format!("={}", self.version), "--root"]).arg(self.root()?);
        if self.locked {
            cargo.arg("--locked");
        }
        run_quietly(&format!("installing {} {}, some minutes", self.package, self.version), &mut cargo)
    }
}

fn add_wasm_target() -> anyhow::Result<()> {
    let list = Command::new("rustup").args(["target", "list", "--installed"]).output();
    let list = list.context("cannot start rustup")?;
    if String::from_utf8_lossy(&list.stdout).lines().any(|target| target == WASM_TARGET) {
        return Ok(());
    }
    run_quietly("adding the Wasm target", Command::new("rustup").args(["target", "add", WASM_TARGET]))
}

fn install_debian_packages() -> anyhow::Result<()> {
    let missing: Vec<_> =
        PROGRAMS.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(", ");
    if !is_installed("apt-get") {
        bail!("{names} must be installed by hand: there is no apt-get here");
    }
    if !nix::unistd::geteuid().is_root() && !is_installed("sudo") {
        bail!("{names} must be installed by hand: that needs root, and there is no sudo here");
    }
    run_quietly("asking Debian for its packages", elevated("apt-get").args(["update", "--quiet"]))?;
    let mut install = elevated("env");
    install.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet"]);
    run_quietly(&format!("installing {names}"), install.arg("--no-install-recommends").args(missing))
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

fn install_npm_packages() -> anyhow::Result<()> {
    let wanted = fs::read(root().join("package-lock.json")).context("cannot read package-lock.json")?;
    // A copy of the lock file that the last complete installation followed.
    let stamp = root().join("node_modules/.portcullis-installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(root());
    run_quietly("installing the npm packages", &mut npm)?;
    fs::write(stamp, wanted).context("cannot write into node_modules")
}
