//! Runs the simulation over many seeds, or one of them again with its trace.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use clap::Parser;
use portcullis_sim::{Plan, Report, Signatures, run};

/// Seeds between two lines of progress.
const PROGRESS: u64 = 100;

/// Simulates origins, hubs and gates under faults.
#[derive(Parser)]
#[command(name = "portcullis-sim", version)]
struct Arguments {
    /// How many seeds, from 0 on.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// Only this one, with a trace if it fails.
    #[arg(long)]
    seed: Option<u64>,
    /// Signs with Ed25519.
    #[arg(long)]
    real_signatures: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let signatures = if arguments.real_signatures { Signatures::Real } else { Signatures::Quick };
    let seeds = arguments.seed.map_or(0..arguments.seeds, |seed| seed..seed.saturating_add(1));
    let (started, count) = (Instant::now(), seeds.end - seeds.start);
    let (next, failed, total) = (AtomicU64::new(seeds.start), AtomicBool::new(false), Mutex::new(Report::default()));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let plan = Plan { signatures, ..Plan::new(seed) };
            match run(plan) {
                Ok(report) => total.lock().unwrap_or_else(PoisonError::into_inner).add(&report),
                Err(broken) => {
                    failed.store(true, Ordering::Relaxed);
                    // The same happens again; this time it is written down.
                    let again = run(Plan { traced: true, ..plan });
                    println!("{}", again.err().unwrap_or(broken));
                    println!("again with: cargo xtask sim --seed {seed}");
                }
            }
            let done = seed + 1 - seeds.start;
            if done % PROGRESS == 0 && done < count {
                println!("{done} of {count} seeds, {:.0} s", started.elapsed().as_secs_f64());
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if failed.into_inner() {
        return ExitCode::FAILURE;
    }
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{count} seeds in {:.1} s: nothing broken", started.elapsed().as_secs_f64());
    println!("{total:?}");
    ExitCode::SUCCESS
}
