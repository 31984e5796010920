//! Runs a part of the fault matrix and prints what came of each case; fails if anything was lost, admitted late or refused for
//! nothing.

//!
//! With `serve` as its first argument it is an origin, as `portcullis serve`: some cases start it so.

use std::{env, path::Path, process::ExitCode};

use clap::{Parser, ValueEnum};
use portcullis_tests::faults::{CASES, EDGE_CASES, Outcome};

/// Lets things happen under load.
#[derive(Parser)]
#[command(name = "portcullis-faults", version)]
struct Arguments {
    /// To what they happen.
    #[arg(long, value_enum, default_value_t = Part::Store)]
    part: Part,
    /// Only cases with this in their name.
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The store, and the origins on it.
    Store,
    /// Gate, hub and the way to them.
    Edge,
}

fn main() -> ExitCode {
    let done = if env::args_os().nth(1).is_some_and(|argument| argument == "serve") {
        origin::cli::run(origin::cli::Arguments::parse()).map(|()| ExitCode::SUCCESS)
    } else {
        run_cases()
    };
    done.unwrap_or_else(|error| {
        eprintln!("portcullis-faults: {error:#}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn run_cases() -> anyhow::Result<ExitCode> {
    let own = env::current_exe()?;
    let Arguments { part, name } = Arguments::parse();
    let wanted = name.unwrap_or_default();
    let bad = match part {
        Part::Store => run_store(&own, &wanted).await,
        Part::Edge => run_edge(&own, &wanted).await,
    };
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_store(own: &Path, wanted: &str) -> usize {
    let mut bad = 0;
    for case in CASES.iter().filter(|case| case.name.contains(wanted)) {
        let outcome = case.run(own).await;
        bad += usize::from(!matches!(&outcome, Ok(Outcome::Ran(counts)) if counts.is_good()));
        match outcome {
            Ok(outcome) => {
                bad -= usize::from(matches!(outcome, Outcome::Skipped(_)));
                println!("{}: {outcome}", case.name);
            }
            Err(error) => println!("{}: failed: {error:#}", case.name),
        }
    }
    bad
}

async fn run_edge(own: &Path, wanted: &str) -> usize {
    let mut bad = 0;
    for case in EDGE_CASES.iter().filter(|case| case.name.contains(wanted)) {
        let counts = case.run(own).await;
        bad += usize::from(!matches!(&counts, Ok(counts) if counts.is_good()));
        match counts {
            Ok(counts) => println!("{}: {counts}", case.name),
            Err(error) => println!("{}: failed: {error:#}", case.name),
        }
    }
    bad
}
