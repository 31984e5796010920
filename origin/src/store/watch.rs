//! Looks at a store that is in use: a failover may lead to a server that is set up otherwise than the one of before.
//!
//! Nothing is refused for it, since revocations are better kept there than nowhere; it is told to the log and to metrics.

use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;

use super::{
    AnyStore,
    doctor::{Finding, Report, Status},
};
use crate::{
    config::Risk,
    telemetry::metrics::{STORE_CHECKS_BAD, STORE_RISKS},
};

/// How often: a handful of short questions to each primary.
const EVERY: Duration = Duration::from_secs(10);

/// Looks again and again, until it is stopped.
pub(crate) async fn run(store: AnyStore, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(EVERY);
    let mut known = Vec::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        // A store that does not answer is told of elsewhere.
        if let Ok(report) = store.durability().await {
            known = tell(report, &known);
        }
    }
}

/// Tells of what is bad and was not before, and of what no longer is; what is bad.
fn tell(report: Report, known: &[Finding]) -> Vec<Finding> {
    let bad: Vec<Finding> = report.findings.into_iter().filter(|finding| finding.status == Status::Bad).collect();
    for risk in Risk::ALL {
        let is_there = bad.iter().any(|finding| finding.risk == Some(risk));
        gauge!(STORE_RISKS, "risk" => risk.name()).set(f64::from(u8::from(is_there)));
    }
    gauge!(STORE_CHECKS_BAD).set(bad.len() as f64);
    for finding in bad.iter().filter(|finding| !known.contains(finding)) {
        let Finding { check, found, wanted, .. } = finding;
        let (node, risk) = (finding.node.as_deref().unwrap_or_default(), finding.risk.map_or("", Risk::name));
        tracing::warn!(event = "store_became_unsafe", check, node, risk, found, wanted);
    }
    for finding in known.iter().filter(|finding| !bad.iter().any(|bad| is_same(bad, finding))) {
        let node = finding.node.as_deref().unwrap_or_default();
        tracing::info!(event = "store_is_safe_again", check = finding.check, node);
    }
    bad
}

fn is_same(a: &Finding, b: &Finding) -> bool {
    (a.check, &a.node) == (b.check, &b.node)
}
