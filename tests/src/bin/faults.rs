//! Runs the store's part of the fault matrix and prints what came of each case; fails if anything was lost, admitted late or
//! refused for nothing.

//!
//! With `serve` as its first argument it is an origin, as `portcullis serve`: some cases start it so.

use std::{env, process::ExitCode};

use clap::Parser;
use portcullis_tests::faults::{CASES, Outcome};

/// Lets things happen to the store under load.
#[derive(Parser)]
#[command(name = "portcullis-faults", version)]
struct Arguments {
    /// Only cases with this in their name.
    name: Option<String>,
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
    let wanted = Arguments::parse().name.unwrap_or_default();
    let mut bad = 0;
    for case in CASES.iter().filter(|case| case.name.contains(&wanted)) {
        let outcome = case.run(&own).await;
        bad += usize::from(!matches!(&outcome, Ok(Outcome::Ran(counts)) if counts.is_good()));
        match outcome {
            Ok(outcome) => {
                bad -= usize::from(matches!(outcome, Outcome::Skipped(_)));
                println!("{}: {outcome}", case.name);
            }
            Err(error) => println!("{}: failed: {error:#}", case.name),
        }
    }
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
