//! Asks servers what they say of themselves; `doctor` judges it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use redis::{
    Cmd, FromRedisValue, RedisError, Value,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo},
    from_redis_value,
};

use super::{
    RedisStore, StoreError,
    call::{failed, is_lost},
    link::{Connection, Io},
};
use crate::{
    shell,
    store::doctor::{
        Report,
        redis::{Fields, Reading, Wanted},
    },
};

/// Calls that are timed at each server.
const SAMPLES: usize = 100;

/// Deadlines of one call that a whole examination may take.
const PATIENCE: u32 = 10;

impl RedisStore {
    /// Whether servers may lose what they acknowledged.
    pub(super) async fn examine_durability(&self) -> Result<Report, StoreError> {
        let wanted = self.wanted(Duration::MAX);
        let readings = self.readings(async |_, _| Ok(())).await?;
        let findings = readings.iter().flat_map(|reading| reading.durability(&wanted)).collect();
        Ok(Report::new(findings, &self.accept))
    }

    /// Everything that can be found out from here.
    pub(super) async fn examine(&self, skew_max: Duration) -> Result<Report, StoreError> {
        let wanted = self.wanted(skew_max);
        let readings = self.readings(async |node, reading| node.measure(reading).await).await?;
        let findings = readings.iter().flat_map(|reading| {
            let mut findings = reading.durability(&wanted);
            findings.extend(reading.health(&wanted));
            findings
        });
        Ok(Report::new(findings.collect(), &self.accept))
    }

    /// What all primaries spent on calls since they were started; none if one does not tell.
    pub(super) async fn processor_time(&self) -> Result<Option<Duration>, StoreError> {
        let readings = self.readings(async |_, _| Ok(())).await?;
        Ok(readings.iter().map(|reading| reading.info.as_ref()?.processor_time()).sum())
    }

    fn wanted(&self, skew_max: Duration) -> Wanted {
        let levels = self.acknowledge.levels();
        Wanted {
            replicas_min: levels.iter().map(|level| level.replicas()).min().unwrap_or(0),
            replicas_max: levels.iter().map(|level| level.replicas()).max().unwrap_or(0),
            fails_over: self.fails_over,
            skew_max,
            timeout: self.timeout,
        }
    }

    /// What every primary says, and what `more` finds out there.
    async fn readings(
        &self,
        more: impl AsyncFn(&mut Node, &mut Reading) -> Result<(), RedisError>,
    ) -> Result<Vec<Reading>, StoreError> {
        let connection = self.links.here().connection().await?;
        let asked = async {
            let mut readings = Vec::new();
            for mut node in primaries(connection).await? {
                let mut reading = node.read().await?;
                more(&mut node, &mut reading).await?;
                readings.push(reading);
            }
            Ok(readings)
        };
        match tokio::time::timeout(self.timeout.saturating_mul(PATIENCE), asked).await {
            Ok(done) => done.map_err(|error| failed(&error, false)),
            Err(_) => Err(StoreError::Unavailable("the deadline passed".to_owned())),
        }
    }
}

/// A server, by its address if there are several.
struct Node {
    connection: Connection,
    address: Option<(String, u16)>,
}

async fn primaries(mut connection: Connection) -> Result<Vec<Node>, RedisError> {
    let Io::Cluster(cluster) = &mut connection.io else {
        return Ok(vec![Node { connection, address: None }]);
    };
    let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
    let answers: BTreeMap<String, Value> = from_redis_value(cluster.route_command(redis::cmd("TIME"), all).await?)?;
    let addresses = answers.into_keys().filter_map(|address| {
        let (host, port) = address.rsplit_once(':')?;
        Some((host.to_owned(), port.parse().ok()?))
    });
    Ok(addresses.map(|address| Node { connection: connection.clone(), address: Some(address) }).collect())
}

impl Node {
    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        match (&mut self.connection.io, &self.address) {
            (Io::Cluster(cluster), Some((host, port))) => {
                let one = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                let answer = cluster.route_command(command.clone(), RoutingInfo::SingleNode(one)).await?;
                Ok(from_redis_value(answer)?)
            }
            _ => command.query_async(&mut self.connection).await,
        }
    }

    /// None if it answers that it does not tell.
    async fn ask_if_allowed<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<Option<T>, RedisError> {
        match self.ask(command).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_lost(&error) => Err(error),
            Err(_) => Ok(None),
        }
    }

    async fn read(&mut self) -> Result<Reading, RedisError> {
        let info: Option<String> = self.ask_if_allowed(&redis::cmd("INFO")).await?;
        let mut config = BTreeMap::new();
        for pattern in ["maxmemory-policy", "*append*"] {
            let command = redis::cmd("CONFIG").arg("GET").arg(pattern).to_owned();
            let found: Option<BTreeMap<String, String>> = self.ask_if_allowed(&command).await?;
            config.extend(found.into_iter().flatten());
        }
        // For no replica it returns at once.
        let waited: Option<u64> = self.ask_if_allowed(redis::cmd("WAIT").arg(0).arg(0)).await?;
        Ok(Reading {
            can_wait: waited.is_some(),
            node: self.address.as_ref().map(|(host, port)| format!("{host}:{port}")),
            info: info.as_deref().map(Fields::of_info),
            config: (!config.is_empty()).then(|| Fields::of_pairs(config)),
            ..Reading::default()
        })
    }

    /// Times calls, and compares the clocks at the quickest of them.
    async fn measure(&mut self, reading: &mut Reading) -> Result<(), RedisError> {
        let mut quickest = Duration::MAX;
        for _ in 0..SAMPLES {
            let (before, started) = (shell::now(), Instant::now());
            let (seconds, micros): (u64, u64) = self.ask(&redis::cmd("TIME")).await?;
            let took = started.elapsed();
            reading.latencies.push(took);
            if took < quickest {
                quickest = took;
                let ours = before.saturating_add(took / 2).as_millis();
                let theirs = seconds.saturating_mul(1_000).saturating_add(micros / 1_000);
                reading.ahead_ms = theirs.checked_signed_diff(ours);
            }
        }
        Ok(())
    }
}
