//! Developer tasks: set-up, builds and tests, so that nothing is done by hand.

mod bench;
mod command;
mod conformance;
mod edge_build;
mod explain;
mod setup;
mod up;

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::{Parser, Subcommand};

use crate::{edge_build::EdgeBuild, setup::Program};

/// How often `faults` kills an origin on the embedded store in the middle of writes.
const KILLS: u32 = 200;

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
    /// Install what is missing, build the edge, then run every test; says which tests cannot run here.
    Test,
    /// Run every test and print which requirement each of them covers.
    Conformance,
    /// Install what is missing, then build gate and hub as WebAssembly.
    Edge {
        /// The route policy, instead of edge/policy.toml.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Where the files go; build/edge by default.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Look into the route policy.
    #[command(subcommand)]
    Policy(PolicyTask),
    /// Install what is missing, then refresh the token of each of many sessions twenty times at once, over two origins
    /// on one Redis, while the origins are ended at random failpoints.
    Races {
        /// How many sessions.
        #[arg(long, default_value_t = 1_000)]
        sessions: u64,
        /// Repeats the run that printed it.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Install what is missing, then run a part of the fault matrix. Store: Redis is killed, cut off, emptied and so on under
    /// load, origins are killed between their writes, and 200 times in the middle of them. Edge: gate and hub are killed, an
    /// origin is stopped, frames are held.
    Faults {
        /// To what something happens.
        #[arg(long, value_parser = ["store", "edge"], default_value = "store")]
        part: String,
        /// Only cases with this in their name.
        name: Option<String>,
    },
    /// Install what is missing, then send requests of many subjects through one gate, and see that each is answered about its
    /// own subject.
    Mixed {
        /// How many requests.
        #[arg(long, default_value_t = 1_000_000)]
        requests: u64,
        /// Repeats the run that printed it.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Simulate origins, hubs and gates under faults, in simulated time.
    Sim {
        /// How many seeds.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
        /// Only this one, with a trace if it fails.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Install what is missing, then measure: gate, propagation, origin, embedded or floors; `bench help` says how.
    #[command(disable_help_flag = true)]
    Bench {
        /// The benchmark and its options.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Install what is missing, then start origin, gate and a demonstration page, until Ctrl-C.
    Up {
        /// Where sessions are kept.
        #[arg(long, value_enum, default_value_t = up::Store::Embedded)]
        store: up::Store,
        /// On how many upstreams the demonstration runs, behind one gate; any of them may be killed while another is left.
        #[arg(long, value_name = "NUMBER", default_value_t = 1,
              value_parser = clap::value_parser!(u16).range(1..=i64::from(up::UPSTREAMS_MAX)))]
        upstreams: u16,
        /// Where secrets, data and logs stay; .portcullis/STORE by default.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum PolicyTask {
    /// Say which route decides on a request, and why.
    Explain(explain::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Setup => setup::run(&Program::ALL),
        Task::Test => test(),
        Task::Conformance => conformance(),
        Task::Edge { policy, out } => edge(policy, out),
        Task::Policy(PolicyTask::Explain(arguments)) => explain::run(&arguments),
        Task::Races { sessions, seed } => races(sessions, seed),
        Task::Faults { part, name } => faults(&part, name),
        Task::Mixed { requests, seed } => mixed(requests, seed),
        Task::Sim { seeds, seed } => sim(seeds, seed),
        Task::Bench { arguments } => bench(&arguments),
        Task::Up { store, upstreams, data } => up::run(store, upstreams, data),
    }
}

fn test() -> anyhow::Result<()> {
    // Too many tests need Redis for a run without it to say much.
    let mut programs = vec![Program::Redis];
    let mut left_out = Vec::new();
    let optional = [
        (Program::Chromium, "chromium"),
        (Program::Faketime, "faketime"),
        (Program::Nginx, "nginx"),
        (Program::Python, "schemathesis"),
    ];
    for (program, name) in optional {
        match setup::unavailable(program) {
            None => programs.push(program),
            Some(reason) => {
                eprintln!("skipping the tests with {name:?} in their name: it cannot be installed, since {reason}");
                left_out.extend(["--skip", name]);
            }
        }
    }
    setup::run(&programs)?;
    edge_build::build_if_changed()?;
    let mut tests = Command::new("cargo");
    tests.args(["test", "--workspace", "--exclude", "portcullis-edge", "--all-features", "--"]);
    command::run(tests.args(left_out).current_dir(command::root()))
}

fn conformance() -> anyhow::Result<()> {
    setup::run(&Program::ALL)?;
    edge_build::build_if_changed()?;
    conformance::run()
}

fn races(sessions: u64, seed: Option<u64>) -> anyhow::Result<()> {
    setup::run(&[Program::Redis])?;
    let mut test = Command::new("cargo");
    // The packages of `test`, so that nothing is built twice.
    test.args(["test", "--workspace", "--exclude", "portcullis-edge", "--all-features", "--test", "processes", "--"]);
    test.args(["races::", "--nocapture"]).env("PORTCULLIS_RACE_SESSIONS", sessions.to_string());
    if let Some(seed) = seed {
        test.env("PORTCULLIS_RACE_SEED", seed.to_string());
    }
    command::run(test.current_dir(command::root()))
}

fn faults(part: &str, name: Option<String>) -> anyhow::Result<()> {
    setup::run(&[Program::Redis, Program::Faketime])?;
    let mut matrix = Command::new("cargo");
    matrix.args([
        "run",
        "--quiet",
        "--package",
        "portcullis-tests",
        "--all-features",
        "--bin",
        "portcullis-faults",
        "--",
    ]);
    if part == "edge" {
        edge_build::build_if_changed()?;
    }
    let matrix = command::run(matrix.args(["--part", part]).args(&name).current_dir(command::root()));
    if part == "store" && name.is_none() {
        println!("origin on the embedded store killed {KILLS} times in the middle of writes, some minutes:");
        kill_in_mid_write()?;
    }
    matrix
}

fn kill_in_mid_write() -> anyhow::Result<()> {
    let mut kills = Command::new("cargo");
    kills.args(["test", "--package", "portcullis-origin", "--all-features", "--test", "processes", "--"]);
    kills.args(["restart::an_origin_that_is_killed_again_and_again", "--nocapture"]);
    command::run(kills.env("PORTCULLIS_KILLS", KILLS.to_string()).current_dir(command::root()))
}

fn mixed(requests: u64, seed: Option<u64>) -> anyhow::Result<()> {
    setup::run(&[])?;
    edge_build::build_if_changed()?;
    let mut test = Command::new("cargo");
    // The packages of `test`, so that nothing is built twice.
    test.args(["test", "--workspace", "--exclude", "portcullis-edge", "--all-features", "--test", "edge_faults", "--"]);
    test.args(["the_subject_of_the_answer", "--nocapture"]).env("PORTCULLIS_MIXED_REQUESTS", requests.to_string());
    if let Some(seed) = seed {
        test.env("PORTCULLIS_MIXED_SEED", seed.to_string());
    }
    command::run(test.current_dir(command::root()))
}

fn sim(seeds: u64, seed: Option<u64>) -> anyhow::Result<()> {
    let mut simulation = Command::new("cargo");
    simulation.args(["run", "--quiet", "--package", "portcullis-sim", "--", "--seeds", &seeds.to_string()]);
    if let Some(seed) = seed {
        simulation.args(["--seed", &seed.to_string()]);
    }
    command::run(simulation.current_dir(command::root()))
}

fn bench(arguments: &[OsString]) -> anyhow::Result<()> {
    setup::run(&[Program::Redis])?;
    if bench::needs_edge(arguments) {
        edge_build::build_if_changed()?;
    }
    if bench::needs_peers(arguments) {
        setup::run_for_peers()?;
        bench::build_peers()?;
    }
    bench::run_benchmark(arguments)
}

fn edge(policy: Option<PathBuf>, out: Option<PathBuf>) -> anyhow::Result<()> {
    setup::run(&[])?;
    let out_dir = out.unwrap_or_else(edge_build::default_out_dir);
    let bytes = edge_build::build(&EdgeBuild { policy, out_dir: out_dir.clone() })?;
    println!("{}: the module has {bytes} bytes gzipped", out_dir.display());
    Ok(())
}
