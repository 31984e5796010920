//! Benchmarks: what a request, a revocation, a session and a million floors cost, beside what they may cost.
//!
//! Contestants take turns within one run (A B C A B C …); a figure is the median of the rounds, and what matters is its
//! ratio to the others of the same run. A target that is missed is printed as missed.

mod client;
mod edge;
mod embedded;
mod floors;
mod gate;
mod machine;
mod origin;
mod origin_process;
mod process;
mod propagation;
mod redis;
mod report;
mod stats;
mod tokens;
mod upstream;
mod workerd;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use self::report::Report;

/// Measures Portcullis on this machine.
#[derive(Parser)]
#[command(name = "portcullis-bench", version)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
    /// Write everything as JSON as well.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a target is missed.
    #[arg(long, global = true)]
    check: bool,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Processor time of a request at the gate, beside an empty Worker and JavaScript with jose.
    Gate(gate::Arguments),
    /// Time from an acknowledged revocation to the refusal at every gate.
    Propagation(propagation::Arguments),
    /// Sessions at the origin: bytes, round trips, processor time, requests a second.
    Origin(origin::Arguments),
    /// The embedded store: refreshes that share a flush to disk, and opening after a kill.
    Embedded(embedded::Arguments),
    /// A million floors: memory, look-up, merge.
    Floors(floors::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(report) if arguments.check && !report.is_met() => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let report = match &arguments.benchmark {
        Benchmark::Gate(arguments) => gate::run(arguments).await?,
        Benchmark::Propagation(arguments) => propagation::run(arguments).await?,
        Benchmark::Origin(arguments) => origin::run(arguments).await?,
        Benchmark::Embedded(arguments) => embedded::run(arguments).await?,
        Benchmark::Floors(arguments) => floors::run(arguments).await?,
    };
    report.publish(arguments.json.as_deref())?;
    Ok(report)
}
