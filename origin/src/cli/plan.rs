//! `portcullis plan`: what an installation needs, by arithmetic, on an ordinary day and on a bad one, and what breaks first.
//!
//! Sizes are those of a record as it is encoded, with names of the given lengths; what a key costs in the store and what the
//! store does per second are figures measured with Redis 7.0 on one core. The cost of making a token is measured here.

mod arithmetic;
mod figures;
mod limits;
mod measure;

use std::{fmt::Write as _, time::Instant};

use anyhow::Context as _;
use bytesize::ByteSize;
use serde::Serialize;

use self::{
    arithmetic::{Costs, Plan, plan},
    figures::Figures,
    limits::{Limit, limits},
    measure::{Measured, Operation, measure},
};
use crate::{
    config::{Config, SigningAlgorithm},
    keys::{KeyPolicy, KeyRing},
    shell,
};

/// Everything of a session's record besides the names in it, in bytes: ids, versions, times, seed, context.
pub(crate) const RECORD_FIXED_BYTES: u64 = 75;

/// Tokens that are made to find out what one costs.
const SAMPLES: u32 = 500;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    figures: Figures,
    /// Take what a session and an operation cost from the store that the configuration names. Writes 2,000 marked samples with
    /// random ids, which are removed again; best while the store is quiet.
    #[arg(long)]
    measure: bool,
    #[command(flatten)]
    file: super::ConfigFile,
    /// Print JSON: the plan, `limits` with the tightest first, and `measured`.
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    plan: Plan,
    limits: Vec<Limit>,
    /// None if the costs are the usual ones.
    measured: Option<Measured>,
}

/// Prints the plan.
///
/// # Errors
///
/// The cryptography library fails, the store cannot be measured, or standard output cannot be written.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let token_micros = token_micros().context("cannot measure what a token costs")?;
    let (figures, usual) = (&arguments.figures, Costs::usual(&arguments.figures, token_micros));
    let report = if arguments.measure {
        let config = arguments.file.load()?;
        let measured = super::runtime()?.block_on(measure(&config.store, arithmetic::record_bytes(figures)))?;
        Report { measured: Some(measured.clone()), ..report(figures, &usual.measured(&measured)) }
    } else {
        report(figures, &usual)
    };
    if arguments.json {
        return super::print(&format!("{}\n", serde_json::to_string_pretty(&report)?));
    }
    super::print(&table(&report))
}

fn report(figures: &Figures, costs: &Costs) -> Report {
    let plan = plan(figures, costs);
    Report { limits: limits(figures, costs, &plan), plan, measured: None }
}

/// The median would need every sample; the mean of many is near enough for a plan.
fn token_micros() -> anyhow::Result<f64> {
    let now = shell::now();
    let ring = KeyRing::generate(&KeyPolicy::new(&Config::default()), now)?;
    let signing = ring.signing(SigningAlgorithm::Ed25519, now, |_| false);
    let signing = signing.context("a key that was just made is missing")?;
    let (claims, started) = (vec![b'x'; 400], Instant::now());
    for _ in 0..SAMPLES {
        signing.key.sign(&claims)?;
    }
    Ok((started.elapsed() / SAMPLES).as_secs_f64() * 1e6)
}

fn table(report: &Report) -> String {
    let (plan, mut text) = (&report.plan, String::new());
    for (name, value) in usual_day(plan).into_iter().chain(bad_day(plan)) {
        let _ = writeln!(text, "{name:<30}{value}");
    }
    if let Some(measured) = &report.measured {
        let _ = writeln!(text, "\nmeasured at {}, with {} sessions", measured.store, measured.sessions_written);
        let told = measured.session_bytes.map_or_else(|| "not told".to_owned(), |bytes| format!("{bytes} bytes"));
        let _ = writeln!(text, "{:<30}{told}", "per session");
        for (name, operation) in [("read", &measured.read), ("compare-and-swap", &measured.swap)] {
            let Operation { latency_micros, cpu_micros } = operation;
            let cpu = cpu_micros.map_or_else(|| "not told".to_owned(), |micros| format!("{micros:.1} µs"));
            let _ = writeln!(text, "{name:<30}{latency_micros:.0} µs, CPU of the store {cpu}");
        }
    }
    let _ = writeln!(text, "\nwhat breaks first (head-room below 1 does not hold)");
    for limit in &report.limits {
        let Limit { what, day, unit, .. } = limit;
        let (need, capacity) = (amount(limit.need, unit), amount(limit.capacity, unit));
        let _ = writeln!(text, "{:>9.1} x  {what}, {day}: {need} of {capacity}", limit.head_room);
    }
    text
}

fn usual_day(plan: &Plan) -> Vec<(&'static str, String)> {
    let (per_request, saved) = (plan.store_calls_per_s_without_gates, plan.store_calls_saved);
    let (share, shards) = (plan.store_core_share * 100.0, plan.store_shards);
    let (floors, replica) = (plan.floors_live, mebibytes(plan.floor_bytes_per_replica));
    vec![
        ("record of a session", format!("{} bytes", plan.record_bytes)),
        ("in the store, per session", format!("{} bytes", plan.store_bytes_per_session)),
        ("memory of the store", mebibytes(plan.store_bytes)),
        ("  with its replicas", mebibytes(plan.store_bytes_with_replicas)),
        ("refreshes", format!("{:.0} /s", plan.refreshes_per_s)),
        ("calls to the store", format!("{:.0} /s", plan.store_calls_per_s)),
        ("  if every request asked it", format!("{per_request:.0} /s, {saved:.1} times as many")),
        ("store CPU", format!("{share:.1} % of a core; {shards} shard(s)")),
        ("origin CPU", format!("{:.2} cores, {:.1} µs of them per token signed", plan.origin_cores, plan.token_micros)),
        ("live floors", format!("{floors}, {replica} per replica")),
        ("feed to all hubs", format!("{} bytes/s", plan.feed_bytes_per_s)),
    ]
}

fn bad_day(plan: &Plan) -> Vec<(&'static str, String)> {
    let bad = &plan.bad_day;
    let even = match bad.stampede_rounds {
        Some(rounds) => format!("even after {rounds} rounds"),
        None => "again at every round".to_owned(),
    };
    let (waiting, backlog_s) = (bad.refreshes_after_outage, bad.outage_backlog_s);
    let (peak, without) = (bad.stampede_refreshes_per_s, bad.stampede_refreshes_per_s_without_spread);
    let (floors, bytes) = (bad.mass_logout_floors, mebibytes(bad.mass_logout_bytes));
    let opens = bad.mass_logout_opens_per_s;
    vec![
        ("bad day: store away", format!("{waiting} refreshes wait, {backlog_s:.1} s to catch up")),
        ("bad day: cold edge", mebibytes(bad.cold_edge_bytes)),
        ("bad day: all sessions ended", format!("1 floor for everyone, then {opens:.0} sign-ins/s")),
        ("  one by one instead", format!("{floors} floors, {bytes} to the hubs")),
        ("bad day: refresh stampede", format!("{peak:.0} refreshes/s, {even}")),
        ("  without spread", format!("{without:.0} refreshes/s, again at every round")),
    ]
}

/// A need in its unit.
fn amount(value: f64, unit: &str) -> String {
    match unit {
        "bytes" | "bytes/s" => format!("{}{}", ByteSize::b(value as u64), unit.trim_start_matches("bytes")),
        "cores" => format!("{value:.2} cores"),
        _ => format!("{value:.0} {unit}"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests;
