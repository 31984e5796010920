//! Logs and metrics of the origin.
//!
//! Invariant: no token, cookie, key or session id in any of them (I10). A session appears as a keyed hash of its id.
//! Labels of metrics take their values from closed sets only.

pub mod metrics;

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogFormat, Telemetry};

/// Starts logging to standard error. Does nothing if a subscriber is there already, as in tests.
///
/// # Errors
///
/// The filter is not one that `tracing_subscriber` reads.
pub fn start_logging(config: &Telemetry) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(&config.log_filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = match config.log_format {
        LogFormat::Json => registry
            .with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init(),
        LogFormat::Text => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    // The only cause is a subscriber that was set before.
    let _ = started;
    Ok(())
}
