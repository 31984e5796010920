//! A million floors: memory, look-ups and merges, natively and inside Wasm.

mod gate;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench_wasm::Many;
use hyper::StatusCode;

use crate::{
    client::{Connection, get},
    process::thread_cpu,
    report::{Report, Table, figure},
    stats::median,
    workerd::{self, Worker, Workerd},
};

const FLOORS: u32 = 1_000_000;
const DELTA: u32 = 10_000;
const LOOK_UPS: u32 = 1_000_000;

/// The first number of floors that are never there.
const ABSENT: u32 = 1 << 31;

/// What the design allows for a million floors.
const MEMORY_MIB_MAX: f64 = 32.0;

/// What a gate may need of linear memory with a million floors and a full cache of tokens.
const GATE_MIB_MAX: f64 = 96.0;

/// Floors of a gate that starts, and how soon it has to be ready.
const FLOORS_AT_START: u32 = 200_000;
const READY_MS_MAX: f64 = 150.0;

/// How the floors are measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds, each native, then in Wasm. The set has room for four deltas more than a million floors.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(7..=99))]
    rounds: u32,
}

/// What one round took: nanoseconds per look-up that finds and that does not, milliseconds per merge of new and of known.
type Sample = [f64; 4];

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let mut report = Report::new("floors");
    report.version(workerd::version());
    report.method(format!("medians of {} rounds, native and Wasm in turn", arguments.rounds));
    report.method("processor time: of the one thread that works (native), of workerd (Wasm)");
    report.method(format!("a round is {LOOK_UPS} look-ups of each kind, and a delta of {DELTA} merged twice"));

    let workerd = Worker::with_wasm("floors.mjs")?.start()?;
    let mut connection = Connection::open(workerd.address("main")?).await?;
    let (mut native, mut inside) = (Vec::new(), Vec::new());
    let (mut native_bytes, mut inside_bytes) = (0, 0);
    // The first round warms up.
    for round in 0..=arguments.rounds {
        // Anew each time, since a delta is new only once.
        let mut many = Many::new(FLOORS);
        ask(&mut connection, &format!("fill/{FLOORS}")).await?;
        native_bytes = many.memory_bytes();
        inside_bytes = ask(&mut connection, "bytes").await?.parse()?;
        let samples = (natively(&mut many)?, in_wasm(&workerd, &mut connection).await?);
        if round > 0 {
            native.push(samples.0);
            inside.push(samples.1);
        }
    }

    let columns = ["", "MiB", "found, ns", "not found, ns", "merge of 10,000 new, ms", "of 10,000 known, ms"];
    let mut table = Table::new("1,000,000 floors", columns);
    for (name, bytes, samples) in [("native", native_bytes, &native), ("Wasm in workerd", inside_bytes, &inside)] {
        let medians =
            (0..4).map(|column| median(&samples.iter().map(|sample: &Sample| sample[column]).collect::<Vec<_>>()));
        table.row([name.to_owned(), figure(mib(bytes))].into_iter().chain(medians.map(figure)));
    }
    report.table(table);
    gates(&mut report, arguments.rounds).await?;
    report.target("memory of 1,000,000 floors", mib(native_bytes.max(inside_bytes)), MEMORY_MIB_MAX, "MiB");
    Ok(report)
}

/// What a whole gate needs.
async fn gates(report: &mut Report, rounds: u32) -> anyhow::Result<()> {
    let memory = mib_of(gate::Gate::start(FLOORS).await?.memory(FLOORS).await?);
    let mut gate = gate::Gate::start(FLOORS_AT_START).await?;
    let mut starts = Vec::new();
    for _ in 0..rounds {
        let (restarted, took) = gate.restart().await?;
        gate = restarted;
        starts.push(took.as_secs_f64() * 1e3);
    }
    let ready = median(&starts);
    let mut table = Table::new("A gate under workerd", ["", ""]);
    table.row(["linear memory with 1,000,000 floors and 8,192 verified tokens, MiB".to_owned(), figure(memory)]);
    table.row([
        format!("ready after the start of the process with 200,000 floors, ms ({rounds} starts)"),
        figure(ready),
    ]);
    report.table(table);
    report.target("linear memory of a gate at its fullest", memory, GATE_MIB_MAX, "MiB");
    report.target("gate ready with 200,000 floors", ready, READY_MS_MAX, "ms");
    Ok(())
}

fn natively(many: &mut Many) -> anyhow::Result<Sample> {
    let mut took = |work: &dyn Fn(&mut Many) -> u32, found: u32| {
        let before = thread_cpu()?;
        let answer = work(many);
        let took = thread_cpu()?.saturating_sub(before);
        ensure!(answer == found, "{answer} floors found instead of {found}");
        Ok(took)
    };
    let merge = |many: &mut Many| {
        many.merge(FLOORS, DELTA);
        0
    };
    Ok(sample([
        took(&|many| many.look_up(0, LOOK_UPS), LOOK_UPS)?,
        took(&|many| many.look_up(ABSENT, LOOK_UPS), 0)?,
        took(&merge, 0)?,
        took(&merge, 0)?,
    ]))
}

async fn in_wasm(workerd: &Workerd, connection: &mut Connection) -> anyhow::Result<Sample> {
    let mut took = [Duration::ZERO; 4];
    let merge = format!("merge/{FLOORS}/{DELTA}");
    let paths = [
        (format!("look_up/0/{LOOK_UPS}"), LOOK_UPS.to_string()),
        (format!("look_up/{ABSENT}/{LOOK_UPS}"), "0".to_owned()),
        (merge.clone(), String::new()),
        (merge, String::new()),
    ];
    for (took, (path, found)) in took.iter_mut().zip(paths) {
        let before = workerd.process.cpu()?;
        let answer = ask(connection, &path).await?;
        *took = workerd.process.cpu()?.saturating_sub(before);
        ensure!(answer == found, "{answer} instead of {found}");
    }
    Ok(sample(took))
}

fn sample([found, not_found, new, known]: [Duration; 4]) -> Sample {
    let look_up = |took: Duration| took.as_secs_f64() * 1e9 / f64::from(LOOK_UPS);
    [look_up(found), look_up(not_found), new.as_secs_f64() * 1e3, known.as_secs_f64() * 1e3]
}

async fn ask(connection: &mut Connection, path: &str) -> anyhow::Result<String> {
    let answer = connection.send(get(&format!("/{path}"), "none")?).await?;
    ensure!(answer.status() == StatusCode::OK, "/{path} was answered {}", answer.status());
    String::from_utf8(answer.into_body().into()).context("the answer is not UTF-8")
}

fn mib(bytes: usize) -> f64 {
    mib_of(bytes as f64)
}

fn mib_of(bytes: f64) -> f64 {
    bytes / f64::from(1 << 20)
}
