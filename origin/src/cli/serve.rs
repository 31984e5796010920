//! `portcullis serve`.

use super::{ConfigFile, runtime};
use crate::{config::secrets::Secrets, server::Server, telemetry};

/// Runs the origin until SIGTERM or SIGINT.
pub(super) fn run(file: &ConfigFile) -> anyhow::Result<()> {
    // Tests stop the process at a named point through the variable FAILPOINTS.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let config = file.load()?;
    telemetry::start_logging(&config.telemetry)?;
    let secrets = Secrets::load(&config.secrets)?;
    runtime()?.block_on(async { Server::start(config, secrets).await?.run().await })
}
