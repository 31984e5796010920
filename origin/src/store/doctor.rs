//! What a store is asked about its health, and what the answers mean.
//!
//! Rules are pure functions of a reading: [`redis`] judges what a server says of itself, [`embedded`] what a file and its
//! file system say. The reading itself is done by the backend.
//!
//! Invariant (I2): a finding with a [`Risk`] means that acknowledged writes may be lost; the store is not used with it
//! unless the configuration accepts it by name.

pub(super) mod embedded;
pub(super) mod redis;

use serde::Serialize;

use super::StoreError;
use crate::config::Risk;

/// How something is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Healthy,
    /// It works, and somebody should look at it.
    Warn,
    /// It loses writes, fails, or is about to.
    Bad,
}

impl Status {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in one word.
    pub check: &'static str,
    /// The server, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How it is.
    pub status: Status,
    /// What was found, with its unit; no key, no credential.
    pub found: String,
    /// What would be right; empty if it is.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub wanted: &'static str,
    /// What it puts at risk, by the name under which `store.accept` accepts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
}

impl Finding {
    fn healthy(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, node: None, status: Status::Healthy, found: found.into(), wanted: "", risk: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, wanted: &'static str) -> Self {
        Self { status: Status::Warn, wanted, ..Self::healthy(check, found) }
    }

    fn bad(check: &'static str, found: impl Into<String>, wanted: &'static str) -> Self {
        Self { status: Status::Bad, ..Self::warn(check, found, wanted) }
    }

    fn risky(check: &'static str, found: impl Into<String>, wanted: &'static str, risk: Risk) -> Self {
        Self { risk: Some(risk), ..Self::bad(check, found, wanted) }
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of the findings.
    pub status: Status,
    /// In the order in which they were looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Of these findings, of which those that are accepted only warn.
    pub(super) fn new(mut findings: Vec<Finding>, accepted: &[Risk]) -> Self {
        for finding in &mut findings {
            if finding.risk.is_some_and(|risk| accepted.contains(&risk)) {
                finding.status = Status::Warn;
            }
        }
        let status = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Healthy);
        Self { status, findings }
    }

    /// Of a store that says nothing.
    pub(super) fn unreachable(error: &StoreError) -> Self {
        Self::new(vec![Finding::bad("answers", error.to_string(), "a store that answers in time")], &[])
    }
}

/// Refuses a store that may lose what it acknowledged in a way that is not accepted; says what is accepted to the log.
pub(super) fn refuse_risks(report: &Report) -> Result<(), StoreError> {
    for finding in &report.findings {
        let Some(risk) = finding.risk else { continue };
        let (found, wanted, name) = (&finding.found, finding.wanted, risk.name());
        if finding.status == Status::Bad {
            let node = finding.node.as_ref().map(|node| format!(" at {node}")).unwrap_or_default();
            return Err(StoreError::Unsuitable(format!(
                "it may lose acknowledged writes ({name}): {check} is {found}{node}, but should be {wanted}; change it, or \
                 accept this by store.accept = [\"{name}\"]",
                check = finding.check
            )));
        }
        tracing::warn!(event = "store_risk_accepted", risk = name, check = finding.check, found);
    }
    Ok(())
}

/// A share of a whole in percent.
fn percent(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or(0)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
