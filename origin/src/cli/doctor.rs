//! `portcullis doctor`: how the store is.

use comfy_table::{Table, presets};
use serde_json::json;

use super::{ConfigFile, print, runtime};
use crate::store::{
    AnyStore,
    doctor::{Finding, Status},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 healthy, 10 warn, 11 bad, 1 the configuration is wrong.")]
pub(super) struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Print JSON: `{"status", "store", "findings": [{"check", "node", "status", "found", "wanted", "risk"}]}`.
    #[arg(long)]
    json: bool,
}

/// The store works, but not as it should.
#[derive(Debug, thiserror::Error)]
#[error("the store is not healthy: {}", .0.name())]
pub(super) struct NotHealthy(Status);

impl NotHealthy {
    /// For scripts.
    pub(super) fn exit_code(&self) -> u8 {
        if self.0 == Status::Bad { 11 } else { 10 }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = arguments.file.load()?;
    let report = runtime()?.block_on(AnyStore::examine(&config.store, config.feed.clock_skew_max()));
    let store = config.store.url.to_string();
    if arguments.json {
        let shown = json!({ "status": report.status, "store": store, "findings": report.findings });
        print(&format!("{shown}\n"))?;
    } else {
        print(&format!("{store}\n{}\n", table(&report.findings)))?;
    }
    if report.status == Status::Healthy { Ok(()) } else { Err(NotHealthy(report.status).into()) }
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for finding in findings {
        let wanted = match (finding.wanted, finding.risk) {
            ("", _) => String::new(),
            (wanted, None) => format!("should be {wanted}"),
            (wanted, Some(risk)) => format!("should be {wanted} ({})", risk.name()),
        };
        let node = finding.node.as_deref().unwrap_or_default();
        table.add_row([finding.status.name(), finding.check, node, &finding.found, &wanted]);
    }
    table
}
