//! Schemathesis, which tests the API by its document: Python packages in an environment of their own.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Context as _;

use super::cache;
use crate::command::{root, run_quietly};

/// What is installed, every package with its version.
const REQUIREMENTS: &str = "tests/schemathesis/requirements.txt";

/// Installs it; where, if it had to be installed.
///
/// # Errors
///
/// Python or its package index is out of reach.
pub(super) fn install() -> anyhow::Result<Option<PathBuf>> {
    let requirements = root().join(REQUIREMENTS);
    let wanted = fs::read_to_string(&requirements).with_context(|| format!("cannot read {REQUIREMENTS}"))?;
    let package = wanted.lines().find(|line| line.starts_with("schemathesis=="));
    let package = package.with_context(|| format!("{REQUIREMENTS} names no version of schemathesis"))?;
    // The tests look for it there too.
    let directory = cache()?.join(package.replace("==", "-"));
    // A copy of the requirements that the last complete installation followed.
    let stamp = directory.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(None);
    }
    let mut venv = Command::new("python3");
    run_quietly("making a Python environment", venv.args(["-m", "venv", "--clear"]).arg(&directory))?;
    let mut pip = Command::new(directory.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]).arg(requirements);
    run_quietly("installing Schemathesis", &mut pip)?;
    fs::write(stamp, wanted).context("cannot write into the Python environment")?;
    Ok(Some(directory))
}
