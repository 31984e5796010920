//! The store in the configuration. Limits and descriptions stand in `settings`.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// Where sessions are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `embedded:PATH`, `redis://…`, `redis+sentinel://…` or `redis+cluster://…`; `rediss` for TLS.
    pub url: StoreUrl,
    /// Deadline of one call to the store.
    pub timeout_ms: u64,
    /// What must have happened to a write before it is acknowledged.
    pub acknowledge: Acknowledge,
    /// Calls to Redis at the same time; more are refused at once.
    pub calls_concurrent: u64,
    /// Ways to lose acknowledged writes that are accepted. A store with another one is not used.
    pub accept: Vec<Risk>,
    /// Certificate authorities (PEM) that the server's certificate is checked against; those of the system without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca_file: Option<PathBuf>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: StoreUrl::from("embedded:portcullis.db".to_owned()),
            timeout_ms: 2_000,
            acknowledge: Acknowledge::default(),
            calls_concurrent: 4_096,
            accept: Vec::new(),
            tls_ca_file: None,
        }
    }
}

impl Store {
    /// Deadline of one call to the store.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// What must have happened to a write, by its kind, before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Acknowledge {
    /// Floors: what ends or changes a session, subject, tenant or key.
    pub floors: Level,
    /// Sessions: opened, refreshed, ended.
    pub sessions: Level,
    /// Everything else: subjects, tenants, keys, the audit trail.
    pub records: Level,
    /// How long replicas have to confirm.
    pub timeout_ms: u64,
}

impl Default for Acknowledge {
    fn default() -> Self {
        Self { floors: Level::Local, sessions: Level::Local, records: Level::Local, timeout_ms: 1_000 }
    }
}

impl Acknowledge {
    /// How long replicas have to confirm.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The levels of all kinds.
    pub fn levels(&self) -> [Level; 3] {
        [self.floors, self.sessions, self.records]
    }
}

/// Who has a write before it is acknowledged: `local` or `replicated N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Level {
    /// The server that took it.
    Local,
    /// So many replicas besides (Redis `WAIT`).
    Replicated(u8),
}

/// The most replicas that may be asked for.
const REPLICAS_MAX: u8 = 5;

/// A text that is no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be \"local\", or \"replicated N\" with N from 1 to {REPLICAS_MAX}")]
pub struct NoLevel;

impl Level {
    /// Replicas that must have it.
    pub fn replicas(self) -> u64 {
        match self {
            Self::Local => 0,
            Self::Replicated(replicas) => replicas.into(),
        }
    }
}

impl FromStr for Level {
    type Err = NoLevel;

    fn from_str(text: &str) -> Result<Self, NoLevel> {
        match text.split_once(' ') {
            None if text == "local" => Ok(Self::Local),
            Some(("replicated", number)) => {
                let replicas = number.parse().ok().filter(|replicas| (1..=REPLICAS_MAX).contains(replicas));
                replicas.map(Self::Replicated).ok_or(NoLevel)
            }
            _ => Err(NoLevel),
        }
    }
}

impl TryFrom<String> for Level {
    type Error = NoLevel;

    fn try_from(text: String) -> Result<Self, NoLevel> {
        text.parse()
    }
}

impl From<Level> for String {
    fn from(level: Level) -> Self {
        match level {
            Level::Local => "local".to_owned(),
            Level::Replicated(replicas) => format!("replicated {replicas}"),
        }
    }
}

/// A way in which a store may lose what it acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Risk {
    /// Records and floors may be evicted when memory is full.
    EvictingPolicy,
    /// A restart finds nothing, or what it was at the last snapshot.
    NoAppendOnlyFile,
    /// A crash of the machine loses about the last second.
    FsyncEverysec,
    /// A crash of the machine loses what the kernel had not written.
    NoFsync,
    /// As `NoFsync`, while the append-only file is rewritten.
    NoFsyncOnRewrite,
    /// A failover loses what the new primary had not received.
    AsynchronousReplication,
    /// The server does not say how it is set up.
    UnknownSettings,
}

impl Risk {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::EvictingPolicy,
        Self::NoAppendOnlyFile,
        Self::FsyncEverysec,
        Self::NoFsync,
        Self::NoFsyncOnRewrite,
        Self::AsynchronousReplication,
        Self::UnknownSettings,
    ];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::EvictingPolicy => "evicting-policy",
            Self::NoAppendOnlyFile => "no-append-only-file",
            Self::FsyncEverysec => "fsync-everysec",
            Self::NoFsync => "no-fsync",
            Self::NoFsyncOnRewrite => "no-fsync-on-rewrite",
            Self::AsynchronousReplication => "asynchronous-replication",
            Self::UnknownSettings => "unknown-settings",
        }
    }
}

/// The address of the store, which may hold a password: it prints without what stands before an `@`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The address as it was given, password included.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for StoreUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A password may hold commas, and that of sentinels stands in the query.
        let (shown, query) = self.0.split_once('?').map_or((&*self.0, ""), |(shown, _)| (shown, "?…"));
        match (shown.split_once("://"), shown.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => write!(f, "{scheme}://…@{host}{query}")?,
            (None, Some((_, host))) => write!(f, "…@{host}{query}")?,
            (_, None) => write!(f, "{shown}{query}")?,
        }
        Ok(())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
