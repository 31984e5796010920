//! Metrics in the Prometheus text format, served by our own `/metrics` route.
//!
//! Naming follows the Prometheus conventions: one prefix, base units, `_total` for counters, timestamps instead of ages.
//! Every series with a closed set of labels exists from the start with the value 0, so that a rate is right from the
//! first event on.

use std::sync::OnceLock;

use crate::config::Risk;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use shared::session::{EndReason, Limit, ReuseClass, Tier};

/// Requests by `method`, `route` (template) and `status`.
pub const HTTP_DURATION: &str = "portcullis_http_request_duration_seconds";
/// Requests refused because too many were in flight.
pub const HTTP_SHED: &str = "portcullis_http_requests_shed_total";
/// Sessions opened, by `tier`.
pub const SESSIONS_OPENED: &str = "portcullis_sessions_opened_total";
/// Refreshes by `outcome`.
pub const REFRESHES: &str = "portcullis_refreshes_total";
/// Refresh tokens that were used again, by `class`.
pub const REUSES: &str = "portcullis_refresh_reuses_total";
/// Sessions ended one by one, by `reason`.
pub const SESSIONS_ENDED: &str = "portcullis_sessions_ended_total";
/// Sessions ended because a stricter policy asks for a new authentication, by `tier` and `limit`.
pub const REAUTHENTICATIONS_FORCED: &str = "portcullis_reauthentications_forced_total";
/// Sessions over the limit on concurrent ones, by `outcome`.
pub const LIMIT_EXCEEDED: &str = "portcullis_sessions_limit_exceeded_total";
/// Commands that ended or changed something, by `scope`.
pub const REVOCATIONS: &str = "portcullis_revocations_total";
/// Introspections by `active`.
pub const INTROSPECTIONS: &str = "portcullis_introspections_total";
/// Questions to the caches of records, by `cache` and `outcome`.
pub const CACHE_LOOKUPS: &str = "portcullis_cache_lookups_total";
/// Records in a cache, by `cache`.
pub const CACHE_ENTRIES: &str = "portcullis_cache_entries";
/// Ways in which the store may lose what it acknowledges, by `risk`: 1 if it may and that is not accepted.
pub const STORE_RISKS: &str = "portcullis_store_risks";
/// Checks of the store's durability that are bad.
pub const STORE_CHECKS_BAD: &str = "portcullis_store_checks_bad";
/// Compare-and-swaps lost to another writer.
pub const COMMIT_CONFLICTS: &str = "portcullis_commit_conflicts_total";
/// Commands that failed in the store, by `outcome`.
pub const STORE_FAILURES: &str = "portcullis_store_failures_total";
/// Acts that are missing in the audit trail, since it could not be written.
pub const AUDIT_FAILURES: &str = "portcullis_audit_failures_total";
/// Requests refused by a rate limit, by `policy`.
pub const RATE_LIMITED: &str = "portcullis_rate_limited_total";
/// Floors appended to the log by this process.
pub const FLOORS_APPENDED: &str = "portcullis_floors_appended_total";
/// Floors appended again because the store had lost them.
pub const FLOORS_REJOINED: &str = "portcullis_floors_rejoined_total";
/// Floors held in memory.
pub const FLOORS: &str = "portcullis_floors";
/// Position in the log up to which this process follows.
pub const FEED_CURSOR: &str = "portcullis_feed_cursor";
/// Store time at which this process was last known to hold every floor.
pub const FEED_AS_OF: &str = "portcullis_feed_as_of_timestamp_seconds";
/// Pushes by `hub` and `outcome`.
pub const PUSHES: &str = "portcullis_feed_pushes_total";
/// Time from handing a frame to the hub's connection to its acknowledgement, by `hub`.
pub const PUSH_DURATION: &str = "portcullis_feed_push_duration_seconds";
/// Time of a hub's last acknowledgement, by `hub`.
pub const PUSH_LAST_ACK: &str = "portcullis_feed_push_last_ack_timestamp_seconds";
/// A hub's position in the log at its last acknowledgement, by `hub`.
pub const PUSH_CURSOR: &str = "portcullis_feed_push_cursor";
/// Constant 1, with the `version` of this build.
pub const BUILD_INFO: &str = "portcullis_build_info";

/// Values of the label `outcome` of [`REFRESHES`].
pub const REFRESH_OUTCOMES: [&str; 5] = ["rotated", "repeated", "healed", "reused", "refused"];
/// Values of the label `cache` of [`CACHE_LOOKUPS`]; everyone's record is one.
pub const CACHES: [&str; 3] = ["subject", "tenant", "everyone"];
/// Values of the label `outcome` of [`CACHE_LOOKUPS`]; a copy under its floor is stale, and read again.
pub const CACHE_OUTCOMES: [&str; 3] = ["hit", "miss", "stale"];
/// Values of the label `scope` of [`REVOCATIONS`].
pub const REVOCATION_SCOPES: [&str; 4] = ["session", "subject", "tenant", "everyone"];
/// Values of the label `outcome` of [`LIMIT_EXCEEDED`].
pub const LIMIT_OUTCOMES: [&str; 2] = ["evicted", "refused"];
/// Values of the label `outcome` of [`STORE_FAILURES`].
pub const STORE_OUTCOMES: [&str; 2] = ["not_written", "unknown"];
/// Values of the label `policy` of [`RATE_LIMITED`].
pub const RATE_POLICIES: [&str; 4] = ["client", "address", "failures", "idempotency"];
/// Values of the label `outcome` of [`PUSHES`].
pub const PUSH_OUTCOMES: [&str; 3] = ["acknowledged", "gap", "failed"];

/// Bounds from a tenth of a millisecond to ten seconds: a memory hit up to a store that times out.
const SECONDS: [f64; 16] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Renders the metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Installs the recorder of the process at the first call; later calls share it.
    pub fn install() -> Self {
        static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
        let handle = HANDLE.get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &SECONDS)
                // Only an empty list of buckets is refused.
                .unwrap_or_else(|_| PrometheusBuilder::new())
                .build_recorder();
            let handle = recorder.handle();
            if ::metrics::set_global_recorder(recorder).is_ok() {
                describe();
                start_at_zero();
            }
            handle
        });
        Self(handle.clone())
    }

    /// The text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds observations into the buckets; call it every few seconds so that memory stays bounded between scrapes.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Makes the series of the named hubs exist from the start.
pub fn start_hubs_at_zero<'a>(hubs: impl IntoIterator<Item = &'a str>) {
    for hub in hubs {
        for outcome in PUSH_OUTCOMES {
            counter!(PUSHES, "hub" => hub.to_owned(), "outcome" => outcome).absolute(0);
        }
        gauge!(PUSH_LAST_ACK, "hub" => hub.to_owned()).set(0.0);
        gauge!(PUSH_CURSOR, "hub" => hub.to_owned()).set(0.0);
    }
}

fn start_at_zero() {
    counter!(AUDIT_FAILURES).absolute(0);
    for name in [HTTP_SHED, COMMIT_CONFLICTS, FLOORS_APPENDED, FLOORS_REJOINED] {
        counter!(name).absolute(0);
    }
    for outcome in REFRESH_OUTCOMES {
        counter!(REFRESHES, "outcome" => outcome).absolute(0);
    }
    for tier in Tier::ALL.map(Tier::name) {
        counter!(SESSIONS_OPENED, "tier" => tier).absolute(0);
        for limit in [Limit::Idle, Limit::Absolute].map(Limit::name) {
            counter!(REAUTHENTICATIONS_FORCED, "tier" => tier, "limit" => limit).absolute(0);
        }
    }
    for class in ReuseClass::ALL.map(ReuseClass::name) {
        counter!(REUSES, "class" => class).absolute(0);
    }
    for reason in EndReason::ALL.map(EndReason::name) {
        counter!(SESSIONS_ENDED, "reason" => reason).absolute(0);
    }
    for cache in CACHES {
        for outcome in CACHE_OUTCOMES {
            counter!(CACHE_LOOKUPS, "cache" => cache, "outcome" => outcome).absolute(0);
        }
        gauge!(CACHE_ENTRIES, "cache" => cache).set(0.0);
    }
    for risk in Risk::ALL.map(Risk::name) {
        gauge!(STORE_RISKS, "risk" => risk).set(0.0);
    }
    gauge!(STORE_CHECKS_BAD).set(0.0);
    for outcome in LIMIT_OUTCOMES {
        counter!(LIMIT_EXCEEDED, "outcome" => outcome).absolute(0);
    }
    for scope in REVOCATION_SCOPES {
        counter!(REVOCATIONS, "scope" => scope).absolute(0);
    }
    for active in ["true", "false"] {
        counter!(INTROSPECTIONS, "active" => active).absolute(0);
    }
    for outcome in STORE_OUTCOMES {
        counter!(STORE_FAILURES, "outcome" => outcome).absolute(0);
    }
    for policy in RATE_POLICIES {
        counter!(RATE_LIMITED, "policy" => policy).absolute(0);
    }
    for name in [FLOORS, FEED_CURSOR, FEED_AS_OF] {
        gauge!(name).set(0.0);
    }
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

fn describe() {
    describe_histogram!(HTTP_DURATION, "Requests by method, route and status.");
    describe_counter!(HTTP_SHED, "Requests refused because too many were in flight.");
    describe_counter!(SESSIONS_OPENED, "Sessions opened, by tier; not those that took another's place.");
    describe_counter!(REUSES, "Refresh tokens that were used again, by class.");
    describe_counter!(SESSIONS_ENDED, "Sessions ended one by one, by reason.");
    describe_counter!(REAUTHENTICATIONS_FORCED, "Sessions ended by a policy stricter than at their opening.");
    describe_counter!(LIMIT_EXCEEDED, "Sessions over the limit on concurrent ones, by outcome.");
    describe_counter!(REFRESHES, "Refreshes by outcome.");
    describe_counter!(REVOCATIONS, "Commands that ended or changed something, by scope.");
    describe_counter!(INTROSPECTIONS, "Introspections by answer.");
    describe_counter!(CACHE_LOOKUPS, "Questions to the caches of records, by outcome.");
    describe_gauge!(CACHE_ENTRIES, "Records in a cache.");
    describe_gauge!(STORE_RISKS, "1 if the store may lose what it acknowledges in this way, and that is not accepted.");
    describe_gauge!(STORE_CHECKS_BAD, "Checks of the store's durability that are bad.");
    describe_counter!(COMMIT_CONFLICTS, "Compare-and-swaps lost to another writer and tried again.");
    describe_counter!(STORE_FAILURES, "Commands that failed in the store, by whether they may have been written.");
    describe_counter!(FLOORS_APPENDED, "Floors appended to the log by this process.");
    describe_counter!(FLOORS_REJOINED, "Floors appended again because the store had lost them.");
    describe_counter!(AUDIT_FAILURES, "Acts that are missing in the audit trail.");
    describe_counter!(RATE_LIMITED, "Requests refused by a rate limit.");
    describe_gauge!(FLOORS, "Floors held in memory.");
    describe_gauge!(FEED_CURSOR, "Position in the log up to which this process follows.");
    describe_gauge!(FEED_AS_OF, "Store time at which this process was last known to hold every floor.");
    describe_counter!(PUSHES, "Pushes by hub and outcome.");
    describe_histogram!(PUSH_DURATION, "Time from sending frames to a hub to its acknowledgement.");
    describe_gauge!(PUSH_LAST_ACK, "Time of the last acknowledgement of a hub.");
    describe_gauge!(PUSH_CURSOR, "Position in the log that a hub last acknowledged.");
    describe_gauge!(BUILD_INFO, "Constant 1; the version is a label.");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MET-01, MET-03: one prefix, conventional suffixes, series that exist before the first event.
    #[test]
    fn series_start_at_zero_and_are_well_named() {
        let metrics = Metrics::install();
        let text = metrics.render();
        for outcome in REFRESH_OUTCOMES {
            assert!(text.contains(&format!("{REFRESHES}{{outcome=\"{outcome}\"}}")), "{outcome}");
        }
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        assert!(samples.clone().all(|line| line.starts_with("portcullis_")), "{text}");
        assert!(samples.count() > 15);
    }
}
