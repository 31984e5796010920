//! Judges a Redis (or Valkey) server by its `INFO`, its `CONFIG GET`, its clock and its answers in time.

use std::{collections::BTreeMap, time::Duration};

use super::{Finding, mebibytes, percent};
use crate::config::Risk;

/// Lag in the log of replication at which a replica is looked at, and at which it does not follow.
const LAG_WARN: Duration = Duration::from_secs(2);
const LAG_BAD: Duration = Duration::from_secs(10);

/// Shares of memory at which somebody should look, and at which writes are about to be refused.
const MEMORY_WARN_PERCENT: u64 = 75;
const MEMORY_BAD_PERCENT: u64 = 95;

/// The part of `store.timeout_ms` that one call in a hundred may take.
const LATENCY_WARN_PART: u32 = 10;
const LATENCY_BAD_PART: u32 = 2;

/// What a server says, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Of the text of `INFO`.
    pub(crate) fn of_info(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect())
    }

    /// Of the names and values of `CONFIG GET`.
    pub(crate) fn of_pairs(pairs: BTreeMap<String, String>) -> Self {
        Self(pairs)
    }

    /// Of the one thread that works on calls; of versions that do not tell it apart, of all threads.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        let seconds = |name: &str| Duration::try_from_secs_f64(self.text(name)?.parse().ok()?).ok();
        let sum = |system, user| Some(seconds(system)?.saturating_add(seconds(user)?));
        sum("used_cpu_sys_main_thread", "used_cpu_user_main_thread").or_else(|| sum("used_cpu_sys", "used_cpu_user"))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// They stand under `slave0`, `slave1` and so on.
    fn replicas(&self) -> impl Iterator<Item = Replica> {
        let is_one = |name: &str| name.strip_prefix("slave").is_some_and(|number| number.parse::<u32>().is_ok());
        self.0.iter().filter(move |(name, _)| is_one(name)).map(|(_, text)| Replica::parse(text))
    }
}

/// One replica as its primary sees it.
struct Replica {
    is_online: bool,
    address: String,
    offset: u64,
    lag: Duration,
}

impl Replica {
    fn parse(text: &str) -> Self {
        let field = |name: &str| text.split(',').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name));
        let value = |name: &str| field(name).map_or("", |(_, value)| value);
        Self {
            is_online: value("state") == "online",
            address: format!("{}:{}", value("ip"), value("port")),
            offset: value("offset").parse().unwrap_or(0),
            lag: Duration::from_secs(value("lag").parse().unwrap_or(0)),
        }
    }
}

/// What is known of one server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// Its address, if there are several.
    pub(crate) node: Option<String>,
    /// What `INFO` says; none if it may not be asked.
    pub(crate) info: Option<Fields>,
    /// What `CONFIG GET` says; none if it may not be asked.
    pub(crate) config: Option<Fields>,
    /// Whether it lets us call `WAIT`.
    pub(crate) can_wait: bool,
    /// How far its clock is ahead of ours, in milliseconds.
    pub(crate) ahead_ms: Option<i64>,
    /// What calls took.
    pub(crate) latencies: Vec<Duration>,
}

/// What the configuration asks of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Replicas that confirm each write that matters least.
    pub(crate) replicas_min: u64,
    /// Replicas that confirm each write that matters most.
    pub(crate) replicas_max: u64,
    /// Whether another server takes over by itself.
    pub(crate) fails_over: bool,
    /// How far clocks may be apart.
    pub(crate) skew_max: Duration,
    /// Deadline of one call.
    pub(crate) timeout: Duration,
}

impl Reading {
    /// What decides whether acknowledged writes are kept.
    pub(crate) fn durability(&self, wanted: &Wanted) -> Vec<Finding> {
        let mut findings = vec![self.eviction(), self.append_only_file(), self.fsync(), self.replication(wanted)];
        findings.extend(self.fsync_on_rewrite());
        if wanted.replicas_max > 0 && !self.can_wait {
            findings.push(Finding::bad(
                "wait",
                "refused",
                "allowed to this user, as store.acknowledge asks for replicas",
            ));
        }
        self.at_node(findings)
    }

    /// Everything else.
    pub(crate) fn health(&self, wanted: &Wanted) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(info) = &self.info {
            findings.extend([version(info), memory(info), persistence(info)]);
            findings.extend(info.replicas().map(|replica| lag(info, &replica)));
        }
        findings.extend(self.ahead_ms.map(|ahead_ms| clock(ahead_ms, wanted.skew_max)));
        findings.extend(latency(&self.latencies, wanted.timeout));
        self.at_node(findings)
    }

    fn at_node(&self, findings: Vec<Finding>) -> Vec<Finding> {
        findings.into_iter().map(|finding| Finding { node: self.node.clone(), ..finding }).collect()
    }

    /// `CONFIG GET` first: `INFO` of an old server does not tell.
    fn setting(&self, config: &str, info: &str) -> Option<&str> {
        let configured = self.config.as_ref().and_then(|fields| fields.text(config));
        configured.or_else(|| self.info.as_ref().and_then(|fields| fields.text(info)))
    }

    fn eviction(&self) -> Finding {
        let check = "maxmemory-policy";
        match self.setting("maxmemory-policy", "maxmemory_policy") {
            Some("noeviction") => Finding::healthy(check, "noeviction"),
            Some(policy) => Finding::risky(check, policy, "noeviction", Risk::EvictingPolicy),
            None => unknown(check, "noeviction"),
        }
    }

    fn append_only_file(&self) -> Finding {
        let check = "appendonly";
        match self.setting("appendonly", "aof_enabled") {
            Some("yes" | "1") => Finding::healthy(check, "yes"),
            Some(_) => Finding::risky(check, "no", "yes", Risk::NoAppendOnlyFile),
            None => unknown(check, "yes"),
        }
    }

    fn fsync(&self) -> Finding {
        let check = "appendfsync";
        match self.config.as_ref().and_then(|config| config.text("appendfsync")) {
            Some("always") => Finding::healthy(check, "always"),
            Some("no") => Finding::risky(check, "no", "always", Risk::NoFsync),
            Some(often) => Finding::risky(check, often, "always", Risk::FsyncEverysec),
            None => unknown(check, "always"),
        }
    }

    /// With it on, nothing is flushed while the file is rewritten, whatever `appendfsync` says.
    fn fsync_on_rewrite(&self) -> Option<Finding> {
        let check = "no-appendfsync-on-rewrite";
        match self.config.as_ref()?.text(check)? {
            "yes" => Some(Finding::risky(check, "yes", "no", Risk::NoFsyncOnRewrite)),
            _ => None,
        }
    }

    fn replication(&self, wanted: &Wanted) -> Finding {
        let check = "replicas";
        let Some(info) = &self.info else {
            return unknown(check, "known, to see whether a failover loses writes");
        };
        if info.text("role").is_some_and(|role| role != "master") {
            return Finding::bad(check, "a replica itself", "a primary");
        }
        let online = info.replicas().filter(|replica| replica.is_online).count() as u64;
        let found = format!("{online} online");
        if online < wanted.replicas_max {
            return Finding::bad(check, found, "at least as many as store.acknowledge asks for");
        }
        let takes_over = wanted.fails_over || info.number("connected_slaves").is_some_and(|connected| connected > 0);
        match (wanted.replicas_min, takes_over) {
            (0, true) => {
                let wanted = "asked to confirm each kind of write, by store.acknowledge";
                Finding::risky(
                    check,
                    format!("{found}, not asked about each write"),
                    wanted,
                    Risk::AsynchronousReplication,
                )
            }
            (0, false) => Finding::warn(check, "none", "at least one, or its disk is all there is"),
            (asked, _) => Finding::healthy(check, format!("{found}, {asked} confirm each write")),
        }
    }
}

fn unknown(check: &'static str, wanted: &'static str) -> Finding {
    Finding::risky(check, "unknown: the server does not let us ask", wanted, Risk::UnknownSettings)
}

/// `WAITAOF` came with 7.2, in Redis and in Valkey, which tells the Redis version that it is compatible with.
fn version(info: &Fields) -> Finding {
    let version = info.text("redis_version").unwrap_or("unknown");
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let has = if number >= (7, 2) { "WAIT and WAITAOF" } else { "WAIT, no WAITAOF" };
    match number {
        (0..=5, _) => Finding::bad("version", version, "at least 6.2"),
        (6, 0 | 1) => Finding::warn("version", version, "at least 6.2"),
        _ => Finding::healthy("version", format!("{version}, {has}")),
    }
}

fn memory(info: &Fields) -> Finding {
    let (limit, used) = match info.number("maxmemory") {
        Some(limit) if limit > 0 => (limit, info.number("used_memory")),
        _ => (info.number("total_system_memory").unwrap_or(0), info.number("used_memory_rss")),
    };
    let used = used.unwrap_or(0);
    let share = percent(used, limit);
    let found = format!("{} of {}, {share} %", mebibytes(used), mebibytes(limit));
    match share {
        MEMORY_BAD_PERCENT.. => Finding::bad("memory", found, "under 75 %; when it is full, writes are refused"),
        MEMORY_WARN_PERCENT.. => Finding::warn("memory", found, "under 75 %; when it is full, writes are refused"),
        _ => Finding::healthy("memory", found),
    }
}

fn persistence(info: &Fields) -> Finding {
    let check = "persistence";
    let failed = |name: &str| info.text(name).is_some_and(|status| status != "ok");
    if info.number("loading").is_some_and(|loading| loading > 0) {
        return Finding::warn(check, "loading", "loaded");
    }
    for name in ["aof_last_write_status", "aof_last_bgrewrite_status"] {
        if failed(name) {
            return Finding::bad(check, format!("{name} is err"), "ok; see the log of the server and its disk");
        }
    }
    if failed("rdb_last_bgsave_status") {
        let found = "rdb_last_bgsave_status is err";
        return Finding::warn(check, found, "ok; see the log of the server and its disk");
    }
    Finding::healthy(check, "no error")
}

fn lag(info: &Fields, replica: &Replica) -> Finding {
    let bytes = info.number("master_repl_offset").unwrap_or(0).saturating_sub(replica.offset);
    let found = format!("{} is {bytes} bytes behind, heard of {} s ago", replica.address, replica.lag.as_secs());
    let check = "lag";
    if !replica.is_online || replica.lag >= LAG_BAD {
        return Finding::bad(check, found, "online, and heard of within 2 s");
    }
    if replica.lag >= LAG_WARN {
        return Finding::warn(check, found, "heard of within 2 s");
    }
    Finding::healthy(check, found)
}

fn clock(ahead_ms: i64, skew_max: Duration) -> Finding {
    let found = format!("{ahead_ms} ms ahead of this machine");
    let (apart, max) = (u128::from(ahead_ms.unsigned_abs()), skew_max.as_millis());
    if apart > max {
        return Finding::bad("clock", found, "within feed.clock_skew_ms_max");
    }
    if apart > max / 2 {
        return Finding::warn("clock", found, "within half of feed.clock_skew_ms_max");
    }
    Finding::healthy("clock", found)
}

fn latency(latencies: &[Duration], timeout: Duration) -> Option<Finding> {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| sorted.get((sorted.len().saturating_sub(1)).saturating_mul(percent) / 100).copied();
    let (half, most, all) = (at(50)?, at(99)?, at(100)?);
    let micros = |time: Duration| time.as_micros();
    let found = format!("p50 {} µs, p99 {} µs, max {} µs", micros(half), micros(most), micros(all));
    Some(if most > timeout / LATENCY_BAD_PART {
        Finding::bad("latency", found, "p99 within a tenth of store.timeout_ms")
    } else if most > timeout / LATENCY_WARN_PART {
        Finding::warn("latency", found, "p99 within a tenth of store.timeout_ms")
    } else {
        Finding::healthy("latency", found)
    })
}

#[cfg(test)]
mod tests;
