//! The sections of the configuration with their defaults. Limits and descriptions stand in `settings`.

use std::{net::SocketAddr, num::NonZeroU8, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use shared::{
    cookie::{ACCESS_COOKIE, REFRESH_COOKIE},
    roster::{Limit, OnLimit},
    session::{Lifetimes, Policy, Tier},
};

use super::clients::Unregistered;

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The address under which clients reach this service, without a trailing slash.
    pub public_url: String,
    /// After a stop signal, requests in flight have this long to finish.
    pub drain_ms: u64,
    /// Header in which a proxy names the client's address; empty for the address of the connection.
    pub client_address_header: String,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8780)),
            public_url: "http://127.0.0.1:8780".to_owned(),
            drain_ms: 10_000,
            client_address_header: String::new(),
        }
    }
}

/// Access and refresh tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// `iss` of every token; `server.public_url` if empty.
    pub issuer: String,
    /// `aud` of every token.
    pub audience: String,
    /// The algorithm that new access tokens are signed with.
    pub algorithm: SigningAlgorithm,
    /// Lifetime of an access token.
    pub access_ttl_s: u64,
    /// By how much of that an access token may expire earlier.
    pub access_ttl_spread_percent: u64,
    /// How long a signing key is published before tokens are signed with it.
    pub key_lead_s: u64,
    /// How long a signing key is used; 0 for as long as nobody rotates it.
    pub key_rotation_s: u64,
    /// For how long the last rotated refresh token still gets the same successor.
    pub retry_window_s: u64,
    /// What a `client_id` means that no `[[clients]]` names.
    pub unregistered_clients: Unregistered,
    /// Name of the cookie that holds an access token.
    pub access_cookie: String,
    /// Name of the cookie that holds a refresh token.
    pub refresh_cookie: String,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: "portcullis".to_owned(),
            algorithm: SigningAlgorithm::Ed25519,
            access_ttl_s: 300,
            access_ttl_spread_percent: 10,
            key_lead_s: 300,
            key_rotation_s: 2_592_000,
            retry_window_s: 30,
            unregistered_clients: Unregistered::Refuse,
            access_cookie: ACCESS_COOKIE.to_owned(),
            refresh_cookie: REFRESH_COOKIE.to_owned(),
        }
    }
}

/// Signature algorithms for access tokens, by their JOSE names (RFC 9864, RFC 7518).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// EdDSA over edwards25519.
    Ed25519,
    /// ECDSA over P-256 with SHA-256, for verifiers without Ed25519.
    #[serde(rename = "ES256")]
    Es256,
}

/// Lifetimes of sessions, by tier, and how many one subject may have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// The tier of a session that is opened without one.
    pub tier: Tier,
    /// A session of the tier browse that was not refreshed for this long is over.
    pub browse_idle_s: u64,
    /// A session of the tier browse is over this long after the authentication.
    pub browse_absolute_s: u64,
    /// As `browse_idle_s`, for the tier standard.
    pub standard_idle_s: u64,
    /// As `browse_absolute_s`, for the tier standard.
    pub standard_absolute_s: u64,
    /// As `browse_idle_s`, for the tier privileged.
    pub privileged_idle_s: u64,
    /// As `browse_absolute_s`, for the tier privileged.
    pub privileged_absolute_s: u64,
    /// The most sessions that a subject may have at the same time; 0 for no limit.
    pub concurrent_max: u64,
    /// What happens to a session over that.
    pub on_limit: OnLimit,
    /// A user ends another device only if the authentication is at most this old.
    pub recent_auth_s: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            tier: Tier::Standard,
            browse_idle_s: 2_592_000,
            browse_absolute_s: 2_592_000,
            standard_idle_s: 3_600,
            standard_absolute_s: 86_400,
            privileged_idle_s: 900,
            privileged_absolute_s: 43_200,
            concurrent_max: 0,
            on_limit: OnLimit::EvictOldest,
            recent_auth_s: 300,
        }
    }
}

/// The feed of floors to the hubs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Feed {
    /// A hub hears from the origin at least this often.
    pub heartbeat_ms: u64,
    /// How far apart the clocks of store, origin and gates may be; floors are kept that much longer.
    pub clock_skew_ms_max: u64,
    /// Deadline of one push to one hub.
    pub push_timeout_ms: u64,
    /// Floors are kept for at least this long.
    pub remember_s: u64,
}

impl Default for Feed {
    fn default() -> Self {
        Self { heartbeat_ms: 1_000, clock_skew_ms_max: 2_000, push_timeout_ms: 2_000, remember_s: 5_400 }
    }
}

/// A hub that floors are pushed to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// Name of the hub, used in metrics and logs.
    pub name: String,
    /// Where frames are posted.
    pub url: String,
}

/// Bounds on what one process takes in and holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest request body.
    pub body_bytes: u64,
    /// Requests worked on at the same time; more are answered 503 at once.
    pub requests_concurrent: u64,
    /// Deadline of one request.
    pub request_timeout_ms: u64,
    /// Floors held in memory.
    pub floors: u64,
    /// Subject records held in memory, and as many tenant records.
    pub subjects_cached: u64,
    /// Age at which a cached subject record is read again.
    pub subjects_cached_s: u64,
    /// Management calls of one client in a minute.
    pub client_requests_per_minute: u64,
    /// Requests of one address in a minute, where no key is asked for.
    pub address_requests_per_minute: u64,
    /// Requests of one address in a minute that present a credential which does not count.
    pub address_failures_per_minute: u64,
    /// For how long the answer to an idempotency key is kept.
    pub idempotency_s: u64,
    /// Answers that one process keeps in that time.
    pub idempotency_answers: u64,
    /// For how long the audit trail is kept.
    pub audit_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            requests_concurrent: 1_024,
            request_timeout_ms: 10_000,
            floors: 1_000_000,
            subjects_cached: 100_000,
            subjects_cached_s: 60,
            client_requests_per_minute: 600_000,
            address_requests_per_minute: 600_000,
            address_failures_per_minute: 60_000,
            idempotency_s: 86_400,
            idempotency_answers: 1_000_000,
            audit_s: 7_776_000,
        }
    }
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// How a line of the log looks.
    pub log_format: LogFormat,
    /// Which events are logged, in the notation of `tracing_subscriber::EnvFilter`.
    pub log_filter: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log_format: LogFormat::Text, log_filter: "info".to_owned() }
    }
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Files that hold the secrets, if they are not in the environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretFiles {
    /// Holds what `PORTCULLIS_MASTER_KEY` would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_key_file: Option<PathBuf>,
    /// Holds what `PORTCULLIS_MASTER_KEY_SECOND` would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_key_second_file: Option<PathBuf>,
    /// Holds what `PORTCULLIS_MANAGEMENT_KEY` would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub management_key_file: Option<PathBuf>,
}

impl Server {
    /// After a stop signal, requests in flight have this long to finish.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}

impl Tokens {
    /// Lifetime of an access token.
    pub fn access_ttl(&self) -> Duration {
        Duration::from_secs(self.access_ttl_s)
    }

    /// For how long the last rotated refresh token still gets the same successor.
    pub fn retry_window(&self) -> Duration {
        Duration::from_secs(self.retry_window_s)
    }
}

impl Sessions {
    /// How old the authentication of a user who ends another device may be.
    pub fn recent_auth(&self) -> Duration {
        Duration::from_secs(self.recent_auth_s)
    }

    /// The lifetimes of all tiers; `retry_window` is that of refresh tokens.
    pub fn policy(&self, retry_window: Duration) -> Policy {
        let lifetimes = |idle_s, absolute_s| Lifetimes {
            idle: Duration::from_secs(idle_s),
            absolute: Duration::from_secs(absolute_s),
        };
        Policy {
            browse: lifetimes(self.browse_idle_s, self.browse_absolute_s),
            standard: lifetimes(self.standard_idle_s, self.standard_absolute_s),
            privileged: lifetimes(self.privileged_idle_s, self.privileged_absolute_s),
            retry_window,
        }
    }

    /// The longest that any session lasts.
    pub fn absolute_max(&self) -> Duration {
        Duration::from_secs(self.browse_absolute_s.max(self.standard_absolute_s).max(self.privileged_absolute_s))
    }

    /// The limit on concurrent sessions, if there is one.
    pub fn limit(&self) -> Option<Limit> {
        let sessions_max = u8::try_from(self.concurrent_max).ok().and_then(NonZeroU8::new)?;
        Some(Limit { sessions_max, on_limit: self.on_limit })
    }
}

impl Feed {
    /// A hub hears from the origin at least this often.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// How far apart the clocks of store, origin and gates may be.
    pub fn clock_skew_max(&self) -> Duration {
        Duration::from_millis(self.clock_skew_ms_max)
    }

    /// Floors are kept for at least this long.
    pub fn remember(&self) -> Duration {
        Duration::from_secs(self.remember_s)
    }

    /// Deadline of one push to one hub.
    pub fn push_timeout(&self) -> Duration {
        Duration::from_millis(self.push_timeout_ms)
    }
}

impl Limits {
    /// Deadline of one request.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }
}
