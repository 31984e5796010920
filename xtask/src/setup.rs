//! Installs the tools that are missing: the Wasm target, npm packages, Redis, Chromium, libfaketime, nginx and Schemathesis,
//! the builders of the edge.
//!
//! Invariant: what is there already is not touched, so a second run does nothing and takes no time.

mod schemathesis;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::command::{is_installed, root, run_quietly, search_path};

const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// A program that is started by tasks or tests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Keeps sessions.
    Redis,
    /// Opens the demonstration page.
    Chromium,
    /// Moves the clock of another program.
    Faketime,
    /// Stands before gates.
    Nginx,
    /// Runs Schemathesis, which is installed with it.
    Python,
}

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

/// Installs what is missing to build the edge, and to start these programs; says what that was.
///
/// # Errors
///
/// Something cannot be installed.
pub(crate) fn run(programs: &[Program]) -> anyhow::Result<()> {
    let mut installed = Vec::new();
    installed.extend(add_wasm_target()?.then(|| format!("the Wasm target {WASM_TARGET}")));
    installed.extend(install_debian_packages(programs)?);
    installed.extend(install_npm_packages(&root())?.then(|| "the npm packages, in node_modules".to_owned()));
    for tool in [WASM_BINDGEN, WORKER_BUILD] {
        let path = tool.path()?;
        installed.extend(tool.install()?.then(|| format!("{} {}, {}", tool.package, tool.version, path.display())));
    }
    if programs.contains(&Program::Python) {
        let directory = schemathesis::install()?;
        installed.extend(directory.map(|directory| format!("Schemathesis, {}", directory.display())));
    }
    for what in installed {
        eprintln!("installed {what}");
    }
    Ok(())
}

/// Installs what the origin is measured beside, in a place of its own; says so if it did.
///
/// # Errors
///
/// It cannot be installed.
pub(crate) fn run_for_peers() -> anyhow::Result<()> {
    if install_npm_packages(&root().join("tests/peers/origin"))? {
        eprintln!("installed the npm packages that the origin is measured beside, in tests/peers/origin/node_modules");
    }
    Ok(())
}

/// Why a program is neither here nor can be installed by a task; none if it is or can.
pub(crate) fn unavailable(program: Program) -> Option<&'static str> {
    if program.is_there() {
        None
    } else if !is_installed("apt-get") {
        Some("there is no apt-get here")
    } else if !is_root() && !is_installed("sudo") {
        Some("that needs root, and there is no sudo here")
    } else {
        None
    }
}

impl Program {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Redis, Self::Chromium, Self::Faketime, Self::Nginx, Self::Python];

    /// The Debian package that holds it.
    const fn package(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Chromium => "chromium",
            Self::Faketime => "faketime",
            Self::Nginx => "nginx",
            Self::Python => "python3-venv",
        }
    }

    fn is_there(self) -> bool {
        match self {
            Self::Redis | Self::Chromium | Self::Faketime => is_installed(self.package()),
            // Debian keeps it where only the search path of root may lead.
            Self::Nginx => is_installed(self.package()) || Path::new("/usr/sbin/nginx").is_file(),
            // Debian has the module that puts pip into an environment in a package of its own.
            Self::Python => {
                Command::new("python3").args(["-c", "import ensurepip"]).output().is_ok_and(|it| it.status.success())
            }
        }
    }
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
        Ok(cache()?.join(format!("{}-{}", self.folder, self.version)))
    }

    /// Whether it had to be installed.
    fn install(&self) -> anyhow::Result<bool> {
        if self.path()?.is_file() {
            return Ok(false);
        }
        let mut cargo = Command::new("cargo");
        cargo.args(["install", self.package, "--version", &format!("={}", self.version), "--root"]).arg(self.root()?);
        if self.locked {
            cargo.arg("--locked");
        }
        run_quietly(&format!("installing {} {}, some minutes", self.package, self.version), &mut cargo)?;
        Ok(true)
    }
}

/// Where tools are kept, outside of the repository.
fn cache() -> anyhow::Result<PathBuf> {
    let cache = match env::var_os("XDG_CACHE_HOME") {
        Some(cache) if !cache.is_empty() => PathBuf::from(cache),
        _ => env::home_dir().context("there is no home directory to keep tools in")?.join(".cache"),
    };
    Ok(cache.join("portcullis"))
}

fn add_wasm_target() -> anyhow::Result<bool> {
    let list = Command::new("rustup").args(["target", "list", "--installed"]).output();
    let list = list.with_context(|| format!("cannot start rustup, which adds the target {WASM_TARGET}"))?;
    if String::from_utf8_lossy(&list.stdout).lines().any(|target| target == WASM_TARGET) {
        return Ok(false);
    }
    run_quietly("adding the Wasm target", Command::new("rustup").args(["target", "add", WASM_TARGET]))?;
    Ok(true)
}

/// The packages that had to be installed.
fn install_debian_packages(programs: &[Program]) -> anyhow::Result<Vec<String>> {
    for program in programs {
        if let Some(reason) = unavailable(*program) {
            bail!("{} must be installed by hand: {reason}", program.package());
        }
    }
    let missing = programs.iter().filter(|program| !program.is_there());
    let packages: Vec<_> = missing.map(|program| program.package()).collect();
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    run_quietly("asking Debian for its packages", elevated("apt-get").args(["update", "--quiet"]))?;
    let mut install = elevated("env");
    install.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet"]);
    let doing = format!("installing {}", packages.join(", "));
    run_quietly(&doing, install.arg("--no-install-recommends").args(&packages))?;
    Ok(packages.into_iter().map(|package| format!("the Debian package {package}")).collect())
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// `program` as root: as it is if we are root, else through sudo.
fn elevated(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// Whether those that are locked in `directory` had to be installed.
fn install_npm_packages(directory: &Path) -> anyhow::Result<bool> {
    let wanted = fs::read(directory.join("package-lock.json")).context("cannot read package-lock.json")?;
    // A copy of the lock file that the last complete installation followed.
    let stamp = directory.join("node_modules/.portcullis-installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(false);
    }
    if !is_installed("npm") {
        bail!("there is no npm here; install Node 20 or later");
    }
    let mut npm = Command::new("npm");
    // Run by the pinned Node, once there is one: packages say which they are made for.
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(directory).env("PATH", search_path()?);
    run_quietly("installing the npm packages", &mut npm)?;
    fs::write(stamp, wanted).context("cannot write into node_modules")?;
    Ok(true)
}
