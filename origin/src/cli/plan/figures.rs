//! An operator's own figures.

use std::time::Duration;

use bytesize::ByteSize;

/// What is planned for.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Figures {
    /// Sessions that are open at the same time.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(super) sessions: u64,
    /// Requests per second at all gates.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub(super) requests_per_second: u64,
    /// The part of the requests that carries a session, from 0 to 1.
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    pub(super) session_share: f64,
    /// Sessions that are opened per second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    pub(super) opens_per_second: u64,
    /// Sessions, subjects and tenants that are ended or changed, per second.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    pub(super) revocations_per_second: u64,
    /// Lifetime of an access token (`5m`), from 1m to 1h.
    #[arg(long, default_value = "5m", value_parser = |text: &str| duration(text, 60, 3_600))]
    pub(super) token_ttl: Duration,
    /// By how many percent lifetimes are spread (`tokens.access_ttl_spread_percent`).
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=50))]
    pub(super) token_ttl_spread: u64,
    /// How long floors are kept at least (`feed.remember_s`), up to 7d.
    #[arg(long, default_value = "90m", value_parser = |text: &str| duration(text, 0, 604_800))]
    pub(super) remember: Duration,
    /// Bytes of names in a record: subject, tenant, client, scope, acr, amr.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u64).range(3..=900))]
    pub(super) name_bytes: u64,
    /// Hubs, one per region.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=64))]
    pub(super) hubs: u64,
    /// Replicas of the store.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=5))]
    pub(super) replicas: u64,
    /// How long the store is away on the bad day, up to 1d.
    #[arg(long, default_value = "30s", value_parser = |text: &str| duration(text, 0, 86_400))]
    pub(super) outage: Duration,
    /// Within what time everyone signs in on the bad day, from 1s to 1h.
    #[arg(long, default_value = "1m", value_parser = |text: &str| duration(text, 1, 3_600))]
    pub(super) sign_in_window: Duration,
    /// Memory that one server of the store has for sessions (`4GiB`).
    #[arg(long, default_value = "1GiB", value_parser = size)]
    pub(super) store_memory: ByteSize,
    /// What the origin may send to all hubs, in bytes per second (`12MB`).
    #[arg(long, default_value = "12MB", value_parser = size)]
    pub(super) edge_bandwidth: ByteSize,
    /// Cores of all origins.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=4_096))]
    pub(super) origin_cores: u64,
}

fn duration(text: &str, min_s: u64, max_s: u64) -> Result<Duration, String> {
    let allowed = |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string();
    let found =
        humantime::parse_duration(text).map_err(|error| format!("{error}: a duration is written as 30s or 5m"))?;
    if (Duration::from_secs(min_s)..=Duration::from_secs(max_s)).contains(&found) {
        return Ok(found);
    }
    Err(format!("{text} is not from {} to {}", allowed(min_s), allowed(max_s)))
}

fn share(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    found.ok_or_else(|| format!("{text} is not a number from 0 to 1"))
}

fn size(text: &str) -> Result<ByteSize, String> {
    // The library takes `Mb` for `MB`, and whoever writes it of a line means bits.
    if text.ends_with('b') {
        return Err(format!("{text} is not a size in bytes, such as 12MB or 4GiB: {text} would be bits"));
    }
    let found: ByteSize = text.parse().map_err(|_| format!("{text} is not a size, such as 12MB or 4GiB"))?;
    if found.as_u64() == 0 { Err("it must be more than 0".to_owned()) } else { Ok(found) }
}
