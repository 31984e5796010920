//! `portcullis plan`: what an installation needs, by arithmetic, on an ordinary day and on a bad one.
//!
//! Sizes are those of a record as it is encoded, with names of the given lengths; what a key costs in the store and what the
//! store does per second are figures measured with Redis 7.0 on one core. The cost of making a token is measured here.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use shared::{codec::RECORD_BYTES_MAX, revocation::Floor};

use crate::{
    config::{Config, SigningAlgorithm},
    keys::{KeyPolicy, KeyRing},
    shell,
};

/// Everything of a session's record besides the names in it, in bytes: ids, versions, times, seed, context.
pub(crate) const RECORD_FIXED_BYTES: u64 = 75;

/// What one key with a lifetime costs in Redis beside its value (key of 41 bytes, entry, lifetime, allocator).
const KEY_BYTES: u64 = 133;

/// What the subject's record, and the session noted in it, cost per session, at two sessions per subject.
const SUBJECT_BYTES: u64 = 84;

/// Store CPU of a read and of a compare-and-swap, in microseconds.
const READ_MICROS: f64 = 3.0;
const SWAP_MICROS: f64 = 10.0;

/// Of one core of the store, so that a burst finds room.
const STORE_LOAD_MAX: f64 = 0.5;

/// What the HTTP server spends on a refresh beside the signature, in microseconds.
const REFRESH_MICROS: f64 = 35.0;

/// Tokens that are made to find out what one costs.
const SAMPLES: u32 = 500;

/// An operator's own figures.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Figures {
    /// Sessions that are open at the same time.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    sessions: u64,
    /// Requests per second at all gates.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    requests: u64,
    /// Sessions that are opened per second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    opens: u64,
    /// Sessions, subjects and tenants that are ended or changed, per second.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    revocations: u64,
    /// Lifetime of an access token in seconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(60..=3_600))]
    access_ttl_s: u64,
    /// For how many seconds floors are kept at least (`feed.remember_s`).
    #[arg(long, default_value_t = 5_400, value_parser = clap::value_parser!(u64).range(0..=604_800))]
    remember_s: u64,
    /// Bytes of names in a record: subject, tenant, client, scope, acr, amr.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u64).range(3..=900))]
    name_bytes: u64,
    /// Hubs, one per region.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=64))]
    hubs: u64,
    /// Replicas of the store.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=5))]
    replicas: u64,
    /// Seconds for which the store is away on the bad day.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    outage_s: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What comes of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Plan {
    record_bytes: u64,
    store_bytes_per_session: u64,
    store_bytes: u64,
    store_bytes_with_replicas: u64,
    refreshes_per_s: f64,
    store_calls_per_s: f64,
    store_calls_per_s_without_gates: f64,
    store_core_share: f64,
    store_shards: u64,
    token_micros: f64,
    origin_cores: f64,
    floors_live: u64,
    floor_bytes_per_replica: u64,
    feed_bytes_per_s: u64,
    bad_day: BadDay,
}

/// What happens at once when things go wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct BadDay {
    /// Refreshes that were due while the store was away.
    refreshes_after_outage: u64,
    /// Seconds until they are worked off at half of a store's core per shard.
    outage_backlog_s: f64,
    /// Bytes that all hubs and one gate behind each load when nothing is cached.
    cold_edge_bytes: u64,
    /// Floors and bytes of ending every session one by one.
    mass_logout_floors: u64,
    mass_logout_bytes: u64,
    /// The same through one floor of everyone: sign-ins that follow, if all come back within a minute.
    mass_logout_opens_per_s: f64,
}

/// Prints the plan.
///
/// # Errors
///
/// The cryptography library fails, or standard output cannot be written.
pub(super) fn run(figures: &Figures) -> anyhow::Result<()> {
    let plan = plan(figures, token_micros().context("cannot measure what a token costs")?);
    if figures.json {
        return super::print(&format!("{}\n", serde_json::to_string_pretty(&plan)?));
    }
    super::print(&table(&plan))
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

fn plan(figures: &Figures, token_micros: f64) -> Plan {
    let record_bytes = RECORD_FIXED_BYTES.saturating_add(figures.name_bytes).min(RECORD_BYTES_MAX as u64);
    let per_session = allocated(record_bytes).saturating_add(KEY_BYTES).saturating_add(SUBJECT_BYTES);
    let store_bytes = per_session.saturating_mul(figures.sessions);
    let refreshes = figures.sessions as f64 / figures.access_ttl_s as f64;
    let (opens, revocations) = (figures.opens as f64, figures.revocations as f64);
    // A refresh reads and swaps; an open writes index and record; a change reads, appends and swaps.
    let store_calls = 2.0 * refreshes + 2.0 * opens + 3.0 * revocations;
    let store_micros = refreshes * (READ_MICROS + SWAP_MICROS)
        + opens * 2.0 * SWAP_MICROS
        + revocations * (READ_MICROS + 2.0 * SWAP_MICROS);
    let share = store_micros / 1e6;
    let shards = (share / STORE_LOAD_MAX).ceil().max(1.0);
    let floor_bytes = (Floor::ENCODED_LEN as u64).saturating_add(4);
    // A floor lives as long as the tokens that it concerns, and a minute and the clock skew longer.
    let floor_lives_s = figures.access_ttl_s.saturating_add(62).max(figures.remember_s);
    let floors_live = figures.revocations.saturating_mul(floor_lives_s);
    let replica_bytes = floors_live.saturating_mul(floor_bytes);
    let heartbeats = 112_u64.saturating_mul(figures.hubs);
    let pushed = figures.revocations.saturating_mul(Floor::ENCODED_LEN as u64).saturating_mul(figures.hubs);
    let overdue = refreshes * figures.outage_s as f64;
    let refreshes_max = shards * STORE_LOAD_MAX * 1e6 / (READ_MICROS + SWAP_MICROS);
    let spare = (refreshes_max - refreshes).max(1.0);
    Plan {
        record_bytes,
        store_bytes_per_session: per_session,
        store_bytes,
        store_bytes_with_replicas: store_bytes.saturating_mul(figures.replicas.saturating_add(1)),
        refreshes_per_s: refreshes,
        store_calls_per_s: store_calls,
        store_calls_per_s_without_gates: figures.requests as f64 + store_calls,
        store_core_share: share,
        store_shards: shards as u64,
        token_micros,
        origin_cores: (refreshes + opens) * (token_micros + REFRESH_MICROS) / 1e6,
        floors_live,
        floor_bytes_per_replica: replica_bytes,
        feed_bytes_per_s: pushed.saturating_add(heartbeats),
        bad_day: BadDay {
            refreshes_after_outage: overdue as u64,
            outage_backlog_s: overdue / spare,
            cold_edge_bytes: replica_bytes.saturating_mul(figures.hubs).saturating_mul(2),
            mass_logout_floors: figures.sessions,
            mass_logout_bytes: figures.sessions.saturating_mul(Floor::ENCODED_LEN as u64).saturating_mul(figures.hubs),
            mass_logout_opens_per_s: figures.sessions as f64 / Duration::from_secs(60).as_secs_f64(),
        },
    }
}

/// Redis hands out values in steps of 32 bytes from 92 on, with 3 bytes of its own.
fn allocated(value: u64) -> u64 {
    124_u64.saturating_add(value.saturating_sub(124).div_ceil(32).saturating_mul(32))
}

fn table(plan: &Plan) -> String {
    let (bad, mut text) = (&plan.bad_day, String::new());
    let rows = [
        ("record of a session", format!("{} bytes", plan.record_bytes)),
        ("in the store, per session", format!("{} bytes", plan.store_bytes_per_session)),
        ("memory of the store", mebibytes(plan.store_bytes)),
        ("  with its replicas", mebibytes(plan.store_bytes_with_replicas)),
        ("refreshes", format!("{:.0} /s", plan.refreshes_per_s)),
        ("calls to the store", format!("{:.0} /s", plan.store_calls_per_s)),
        ("  if every request asked it", format!("{:.0} /s", plan.store_calls_per_s_without_gates)),
        ("store CPU", format!("{:.1} % of a core; {} shard(s)", plan.store_core_share * 100.0, plan.store_shards)),
        ("origin CPU", format!("{:.2} cores, {:.1} µs of them per token signed", plan.origin_cores, plan.token_micros)),
        ("live floors", format!("{}, {} per replica", plan.floors_live, mebibytes(plan.floor_bytes_per_replica))),
        ("feed to all hubs", format!("{} bytes/s", plan.feed_bytes_per_s)),
        (
            "bad day: store away",
            format!("{} refreshes wait, {:.1} s to catch up", bad.refreshes_after_outage, bad.outage_backlog_s),
        ),
        ("bad day: cold edge", mebibytes(bad.cold_edge_bytes)),
        (
            "bad day: all sessions ended",
            format!("1 floor for everyone, then {:.0} sign-ins/s for a minute", bad.mass_logout_opens_per_s),
        ),
        (
            "  one by one instead",
            format!("{} floors, {} to the hubs", bad.mass_logout_floors, mebibytes(bad.mass_logout_bytes)),
        ),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "{name:<30}{value}");
    }
    text
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        figures: Figures,
    }

    fn figures(arguments: &[&str]) -> Result<Figures, clap::Error> {
        Cli::try_parse_from([&["plan"], arguments].concat()).map(|cli| cli.figures)
    }

    /// Design, section 8: tokens that are checked at the gate leave the store with 667 refreshes per second.
    #[test]
    fn the_figures_of_the_design_come_out() {
        let plan = plan(&figures(&[]).unwrap(), 13.0);
        assert_eq!(plan.refreshes_per_s.round(), 667.0);
        assert!(plan.store_calls_per_s_without_gates > 30.0 * plan.store_calls_per_s);
        assert!((200_000 * 257..200_000 * 512).contains(&plan.store_bytes), "{plan:?}");
        assert_eq!((plan.store_shards, plan.floors_live), (1, 54_000));
        assert_eq!(plan.bad_day.refreshes_after_outage, 20_000);
        let forgetful = self::plan(&figures(&["--remember-s=0"]).unwrap(), 13.0);
        assert_eq!(forgetful.floors_live, 3_620, "as long as tokens live");
    }

    #[test]
    fn more_of_anything_never_needs_less() {
        let small = plan(&figures(&[]).unwrap(), 13.0);
        for more in ["--sessions=20000000", "--opens=100000", "--revocations=10000", "--name-bytes=900"] {
            let large = plan(&figures(&[more]).unwrap(), 13.0);
            assert!(
                large.store_bytes >= small.store_bytes && large.store_core_share >= small.store_core_share,
                "{more}"
            );
            assert!(large.store_shards >= small.store_shards && large.origin_cores >= small.origin_cores, "{more}");
        }
        assert!(plan(&figures(&["--sessions=20000000"]).unwrap(), 13.0).store_shards > 1);
    }

    #[test]
    fn figures_out_of_range_are_refused_by_name() {
        let refused = figures(&["--access-ttl-s=5"]).unwrap_err().to_string();
        assert!(refused.contains("--access-ttl-s") && refused.contains("60..=3600"), "{refused}");
        assert!(figures(&["--sessions=0"]).is_err());
        assert!(figures(&["--sessions=1"]).is_ok());
    }

    #[test]
    fn a_token_costs_something_and_the_table_has_no_gap() {
        let plan = plan(&figures(&[]).unwrap(), token_micros().unwrap());
        assert!(plan.token_micros > 0.0 && plan.origin_cores > 0.0);
        assert_eq!(table(&plan).lines().count(), 15);
    }
}
