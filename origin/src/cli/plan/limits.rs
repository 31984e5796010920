//! What breaks first: every need beside what there is.

use serde::Serialize;
use shared::revocation::FLOORS_MAX;

use super::{Costs, Figures, Plan};

/// Seconds within which a mass sign-out and a cold edge are to be over.
const RUSH_S: f64 = 60.0;

/// A need, and what there is for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Limit {
    pub(super) what: &'static str,
    pub(super) day: &'static str,
    pub(super) unit: &'static str,
    pub(super) need: f64,
    pub(super) capacity: f64,
    /// How many times the need fits: below 1 it breaks.
    pub(super) head_room: f64,
}

/// The tightest first.
pub(super) fn limits(figures: &Figures, costs: &Costs, plan: &Plan) -> Vec<Limit> {
    const USUAL: &str = "usual day";
    const STAMPEDE: &str = "refresh stampede";
    const SIGN_IN: &str = "everyone signs in again";
    const ENDED: &str = "sessions ended one by one";
    let (bad, bandwidth) = (&plan.bad_day, figures.edge_bandwidth.as_u64() as f64);
    let (cores, per_core) = (figures.origin_cores as f64, 1e6 / costs.origin_micros());
    let (peak, opens) = (bad.stampede_refreshes_per_s, bad.mass_logout_opens_per_s);
    let one_by_one = plan.floors_live.saturating_add(bad.mass_logout_floors) as f64;
    let usual_calls = plan.store_calls_per_s / plan.store_core_share.max(f64::MIN_POSITIVE);
    let rows = [
        ("store operations, one core", USUAL, "/s", plan.store_calls_per_s, usual_calls),
        ("store operations, one core", STAMPEDE, "/s", 2.0 * peak, 2e6 / costs.refresh_micros()),
        ("store operations, one core", SIGN_IN, "/s", 2.0 * opens, 1e6 / costs.swap_micros),
        ("memory of the store", USUAL, "bytes", plan.store_bytes as f64, figures.store_memory.as_u64() as f64),
        ("floors of a gate", USUAL, "floors", plan.floors_live as f64, FLOORS_MAX as f64),
        ("floors of a gate", ENDED, "floors", one_by_one, FLOORS_MAX as f64),
        ("feed", USUAL, "bytes/s", plan.feed_bytes_per_s as f64, bandwidth),
        ("feed", ENDED, "bytes/s", bad.mass_logout_bytes as f64 / RUSH_S, bandwidth),
        ("feed", "cold edge", "bytes/s", bad.cold_edge_bytes as f64 / RUSH_S, bandwidth),
        ("origin CPU", USUAL, "cores", plan.origin_cores, cores),
        ("origin CPU", STAMPEDE, "cores", peak / per_core, cores),
        ("origin CPU", SIGN_IN, "cores", opens / per_core, cores),
    ];
    // What is not needed at all breaks never.
    let needed = rows.into_iter().filter(|(_, _, _, need, _)| *need > 0.0);
    let mut limits: Vec<_> = needed
        .map(|(what, day, unit, need, capacity)| Limit { what, day, unit, need, capacity, head_room: capacity / need })
        .collect();
    limits.sort_by(|a, b| a.head_room.total_cmp(&b.head_room));
    limits
}
