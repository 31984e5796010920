//! Other programs: where they are, and how they are run.

use std::{
    env,
    ffi::OsStr,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;

/// Where Cargo keeps the repository that this task was built from.
const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

/// Lines of a failed program's output that are shown.
const LINES_SHOWN_MAX: usize = 60;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(MANIFEST);
    own.parent().unwrap_or(own).to_owned()
}

/// The path of `program` of npm, in `node_modules`.
pub(crate) fn npm_program(program: &str) -> PathBuf {
    root().join("node_modules/.bin").join(program)
}

/// Whether `program` is in the search path.
pub(crate) fn is_installed(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}

/// The search path with the programs of `node_modules` first, so that scripts of npm find the pinned Node.
pub(crate) fn search_path() -> anyhow::Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(root().join("node_modules/.bin")).chain(env::split_paths(&path));
    env::join_paths(directories).context("PATH cannot be extended")
}

/// Runs a command to its end with our own output: for programs that show their progress themselves.
///
/// # Errors
///
/// It cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let name = name_of(command);
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}

/// Runs a command to its end behind a spinner that says `doing`; its output is shown only if it fails.
///
/// # Errors
///
/// It cannot be started, or fails.
pub(crate) fn run_quietly(doing: &str, command: &mut Command) -> anyhow::Result<()> {
    let spinner = spinner(doing);
    let name = name_of(command);
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    spinner.finish_and_clear();
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN_MAX)) {
        eprintln!("  {line}");
    }
    bail!("{doing}: {name} ended with {}", output.status)
}

/// A spinner with the time that passed; one plain line where nobody watches.
pub(crate) fn spinner(doing: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("{doing} …");
    }
    let spinner = ProgressBar::new_spinner().with_message(format!("{doing} …"));
    if let Ok(style) = indicatif::ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

fn name_of(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program.file_name().unwrap_or(OsStr::new("?")).to_string_lossy().into_owned()
}
