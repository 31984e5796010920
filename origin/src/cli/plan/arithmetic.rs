//! What comes of the figures.

use serde::Serialize;
use shared::{codec::RECORD_BYTES_MAX, revocation::Floor};

use super::{Figures, Measured, RECORD_FIXED_BYTES};

/// What one key with a lifetime costs in Redis beside its value (key of 41 bytes, entry, lifetime, allocator).
const KEY_BYTES: u64 = 133;

/// What the subject's record, and the session noted in it, cost per session, at two sessions per subject.
const SUBJECT_BYTES: u64 = 96;

/// Of one core of the store, so that a burst finds room.
const STORE_LOAD_MAX: f64 = 0.5;

/// What the HTTP server spends on a refresh beside the signature, in microseconds.
const REFRESH_MICROS: f64 = 35.0;

/// What single things cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Costs {
    /// In the store, with everything that belongs to a session.
    pub(super) session_bytes: u64,
    /// Store CPU of a read and of a compare-and-swap.
    pub(super) read_micros: f64,
    pub(super) swap_micros: f64,
    /// CPU of the origin to sign a token.
    pub(super) token_micros: f64,
}

impl Costs {
    /// As measured with Redis 7.0 on one core.
    pub(super) fn usual(figures: &Figures, token_micros: f64) -> Self {
        let session_bytes = allocated(record_bytes(figures)).saturating_add(KEY_BYTES).saturating_add(SUBJECT_BYTES);
        Self { session_bytes, read_micros: 3.0, swap_micros: 10.0, token_micros }
    }

    /// As the store was found; what it does not tell stays.
    pub(super) fn measured(self, found: &Measured) -> Self {
        Self {
            session_bytes: found.session_bytes.unwrap_or(self.session_bytes),
            read_micros: found.read.cpu_micros.unwrap_or(self.read_micros),
            swap_micros: found.swap.cpu_micros.unwrap_or(self.swap_micros),
            ..self
        }
    }

    /// A refresh reads and swaps.
    pub(super) fn refresh_micros(&self) -> f64 {
        self.read_micros + self.swap_micros
    }

    /// CPU of the origin for a refresh or an opening.
    pub(super) fn origin_micros(&self) -> f64 {
        self.token_micros + REFRESH_MICROS
    }
}

/// The needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Plan {
    pub(super) record_bytes: u64,
    pub(super) store_bytes_per_session: u64,
    pub(super) store_bytes: u64,
    pub(super) store_bytes_with_replicas: u64,
    pub(super) refreshes_per_s: f64,
    pub(super) store_calls_per_s: f64,
    /// Of a design that asks the store for every request that carries a session, and how many times as much that is.
    pub(super) store_calls_per_s_without_gates: f64,
    pub(super) store_calls_saved: f64,
    pub(super) store_core_share: f64,
    pub(super) store_shards: u64,
    pub(super) token_micros: f64,
    pub(super) origin_cores: f64,
    pub(super) floors_live: u64,
    pub(super) floor_bytes_per_replica: u64,
    pub(super) feed_bytes_per_s: u64,
    pub(super) bad_day: BadDay,
}

/// What happens at once when things go wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BadDay {
    /// Refreshes that were due while the store was away.
    pub(super) refreshes_after_outage: u64,
    /// Seconds until they are worked off at half of a store's core per shard.
    pub(super) outage_backlog_s: f64,
    /// Bytes that all hubs and one gate behind each load when nothing is cached.
    pub(super) cold_edge_bytes: u64,
    /// Floors and bytes of ending every session one by one.
    pub(super) mass_logout_floors: u64,
    pub(super) mass_logout_bytes: u64,
    /// The same through one floor of everyone: sign-ins that follow, if all come back within the window.
    pub(super) mass_logout_opens_per_s: f64,
    /// Refreshes per second when tokens of a mass sign-in are over for the first time: without a spread of lifetimes, and
    /// with the one that was given.
    pub(super) stampede_refreshes_per_s_without_spread: f64,
    pub(super) stampede_refreshes_per_s: f64,
    /// Refreshes of each session until they come evenly; none if they never do.
    pub(super) stampede_rounds: Option<u64>,
}

/// Bytes of a session's record.
pub(super) fn record_bytes(figures: &Figures) -> u64 {
    RECORD_FIXED_BYTES.saturating_add(figures.name_bytes).min(RECORD_BYTES_MAX as u64)
}

pub(super) fn plan(figures: &Figures, costs: &Costs) -> Plan {
    let with_session = figures.requests_per_second as f64 * figures.session_share;
    // Whoever asks for nothing refreshes nothing.
    let refreshes = (figures.sessions as f64 / figures.token_ttl.as_secs_f64()).min(with_session);
    let (opens, revocations) = (figures.opens_per_second as f64, figures.revocations_per_second as f64);
    // A refresh reads and swaps; an open writes index and record; a change reads, appends and swaps.
    let store_calls = 2.0 * refreshes + 2.0 * opens + 3.0 * revocations;
    let store_micros = refreshes * costs.refresh_micros()
        + opens * 2.0 * costs.swap_micros
        + revocations * (costs.read_micros + 2.0 * costs.swap_micros);
    let share = store_micros / 1e6;
    let shards = (share / STORE_LOAD_MAX).ceil().max(1.0);
    let store_bytes = costs.session_bytes.saturating_mul(figures.sessions);
    let without_gates = with_session + 2.0 * opens + 3.0 * revocations;
    let (floors_live, replica_bytes) = floors(figures);
    let pushed = figures.revocations_per_second.saturating_mul(Floor::ENCODED_LEN as u64);
    Plan {
        record_bytes: record_bytes(figures),
        store_bytes_per_session: costs.session_bytes,
        store_bytes,
        store_bytes_with_replicas: store_bytes.saturating_mul(figures.replicas.saturating_add(1)),
        refreshes_per_s: refreshes,
        store_calls_per_s: store_calls,
        store_calls_per_s_without_gates: without_gates,
        store_calls_saved: if store_calls > 0.0 { without_gates / store_calls } else { 1.0 },
        store_core_share: share,
        store_shards: shards as u64,
        token_micros: costs.token_micros,
        origin_cores: (refreshes + opens) * costs.origin_micros() / 1e6,
        floors_live,
        floor_bytes_per_replica: replica_bytes,
        // A heartbeat of 112 bytes every second.
        feed_bytes_per_s: pushed.saturating_add(112).saturating_mul(figures.hubs),
        bad_day: bad_day(figures, costs, refreshes, shards),
    }
}

/// Live floors, and their bytes in a replica. A floor lives as long as the tokens that it concerns, and a minute and the
/// clock skew longer.
fn floors(figures: &Figures) -> (u64, u64) {
    let lives_s = figures.token_ttl.as_secs().saturating_add(62).max(figures.remember.as_secs());
    let live = figures.revocations_per_second.saturating_mul(lives_s);
    (live, live.saturating_mul((Floor::ENCODED_LEN as u64).saturating_add(4)))
}

fn bad_day(figures: &Figures, costs: &Costs, refreshes: f64, shards: f64) -> BadDay {
    let overdue = refreshes * figures.outage.as_secs_f64();
    let refreshes_max = shards * STORE_LOAD_MAX * 1e6 / costs.refresh_micros();
    let sessions = figures.sessions as f64;
    let (window_s, ttl_s) = (figures.sign_in_window.as_secs_f64(), figures.token_ttl.as_secs_f64());
    // Two even distributions, of sign-ins and of lifetimes, added up: the wider one makes the peak, as long as it does not
    // overtake itself.
    let spread_s = ttl_s * figures.token_ttl_spread as f64 / 100.0;
    let peak = |wide_s: f64| sessions / wide_s.min(ttl_s);
    BadDay {
        refreshes_after_outage: overdue as u64,
        outage_backlog_s: overdue / (refreshes_max - refreshes).max(1.0),
        cold_edge_bytes: floors(figures).1.saturating_mul(figures.hubs).saturating_mul(2),
        mass_logout_floors: figures.sessions,
        mass_logout_bytes: figures.sessions.saturating_mul(Floor::ENCODED_LEN as u64).saturating_mul(figures.hubs),
        mass_logout_opens_per_s: sessions / window_s,
        stampede_refreshes_per_s_without_spread: peak(window_s),
        stampede_refreshes_per_s: peak(window_s.max(spread_s)),
        stampede_rounds: match ttl_s - window_s {
            left if left <= 0.0 => Some(0),
            left => (spread_s > 0.0).then(|| (left / spread_s).ceil() as u64),
        },
    }
}

/// Redis hands out values in steps of 32 bytes from 92 on, with 3 bytes of its own.
fn allocated(value: u64) -> u64 {
    124_u64.saturating_add(value.saturating_sub(124).div_ceil(32).saturating_mul(32))
}
