//! Developer tasks: set-up and tests, so that nothing is done by hand.

mod setup;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};

/// Developer tasks of Portcullis.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the other tasks need; does nothing that is done already.
    Setup,
    /// Install what is missing, then run every test.
    Test,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> anyhow::Result<()> {
    match task {
        Task::Setup => setup::run(),
        Task::Test => {
            setup::run()?;
            execute(Command::new("cargo").args([
                "test",
                "--workspace",
                "--exclude",
                "portcullis-edge",
                "--all-features",
            ]))
        }
    }
}

/// Runs a command to its end with our own output.
fn execute(command: &mut Command) -> anyhow::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(())
}
