//! Runs the store's part of the fault matrix and prints what came of each case; fails if anything was lost, admitted late or
//! refused for nothing.

use std::process::ExitCode;

use clap::Parser;
use portcullis_tests::faults::{CASES, Outcome};

/// Lets things happen to the store under load.
#[derive(Parser)]
#[command(name = "portcullis-faults", version)]
struct Arguments {
    /// Only cases with this in their name.
    name: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let wanted = Arguments::parse().name.unwrap_or_default();
    let mut bad = 0;
    for case in CASES.iter().filter(|case| case.name.contains(&wanted)) {
        let outcome = case.run().await;
        bad += usize::from(!matches!(&outcome, Ok(Outcome::Ran(counts)) if counts.is_good()));
        match outcome {
            Ok(outcome) => {
                bad -= usize::from(matches!(outcome, Outcome::Skipped(_)));
                println!("{}: {outcome}", case.name);
            }
            Err(error) => println!("{}: failed: {error:#}", case.name),
        }
    }
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
