//! The store in the configuration. Limits and descriptions stand in `settings`.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Where sessions are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `embedded:PATH`, `redis://…`, `redis+sentinel://…` or `redis+cluster://…`; `rediss` for TLS.
    pub url: StoreUrl,
    /// Deadline of one call to the store.
    pub timeout_ms: u64,
    /// Replicas that must confirm a write before it is acknowledged (Redis `WAIT`).
    pub replicas: u64,
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
            replicas: 0,
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
