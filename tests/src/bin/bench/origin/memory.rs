//! What many sessions take in Redis, all in: the memory of the server before and after, divided by the sessions.

use std::{process::Command, sync::Arc};

use ::origin::service::{Service, open::OpenSession};
use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    records::{ordinary, service},
    redis_url,
};
use crate::{
    redis::Redis,
    report::{Report, Table, figure},
};

/// What a session may take alone, and with its share of the subject's record and list, in bytes.
const SESSION_BYTES_MAX: f64 = 290.0;
const WITH_SHARE_BYTES_MAX: f64 = 390.0;

const PER_SUBJECT: u32 = 2;

/// Sessions that are opened at the same time.
pub(super) const AT_ONCE: usize = 64;

/// How uneven a sixth of all slots may be: six nodes are an ordinary cluster.
pub(super) const NODES: usize = 6;
const UNEVEN_MAX: f64 = 1.02;

const FORGET: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end return 1";

pub(super) async fn measure(report: &mut Report, sessions: u32) -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let (service, _) = service(redis_url(redis.address)).await?;
    let service = Arc::new(service);
    // What there is once and not per session, the buffers of the connection included, is there before.
    open(&service, 0).await?;
    let before = used(&redis)?;
    let opened = stream::iter(1..=sessions).map(|number| open(&service, number)).buffer_unordered(AT_ONCE);
    let ids: Vec<String> = opened.try_collect().await?;
    let with_share = (used(&redis)? - before) / f64::from(sessions);
    forget(&redis, "portcullis:{subject:*")?;
    let alone = (used(&redis)? - before) / f64::from(sessions);

    let mut table = Table::new(
        format!("Bytes in Redis per session, of {sessions} sessions, {PER_SUBJECT} per subject"),
        ["", "bytes"],
    );
    table.row(["session".to_owned(), figure(alone)]);
    table.row(["with its share of the subject's record and list".to_owned(), figure(with_share)]);
    report.table(table);
    report.target("a session in Redis, all in", alone, SESSION_BYTES_MAX, "bytes");
    report.target("a session with its share of subject and list", with_share, WITH_SHARE_BYTES_MAX, "bytes");
    report.target(format!("sessions on the fullest of {NODES} nodes, of an even share"), uneven(&ids), UNEVEN_MAX, "");
    Ok(())
}

async fn open(service: &Service, number: u32) -> anyhow::Result<String> {
    // Subject, as long as a random id in base64url.
    let subject = format!("u_{:022}", number / PER_SUBJECT).parse()?;
    let opened = service.open(OpenSession { subject, ..ordinary()? }).await;
    Ok(opened.ok().context("a session is not opened")?.session_id.to_string())
}

/// Memory that the server has allocated, in bytes.
pub(super) fn used(redis: &Redis) -> anyhow::Result<f64> {
    let info = ask(redis, &["INFO", "memory"])?;
    let found = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(found.context("Redis does not say how much memory it uses")?.trim().parse()?)
}

/// Takes away every key that a pattern stands for.
pub(super) fn forget(redis: &Redis, keys: &str) -> anyhow::Result<()> {
    ask(redis, &["EVAL", FORGET, "0", keys]).map(drop)
}

pub(super) fn ask(redis: &Redis, arguments: &[&str]) -> anyhow::Result<String> {
    let said = Command::new("redis-cli").args(["-p", &redis.address.port().to_string()]).args(arguments).output()?;
    ensure!(said.status.success(), "redis-cli failed");
    Ok(String::from_utf8_lossy(&said.stdout).into_owned())
}

/// How many sessions the fullest node has, in even shares.
pub(super) fn uneven(ids: &[String]) -> f64 {
    let mut nodes = [0_u32; NODES];
    for id in ids {
        let slot = usize::from(crc16(format!("portcullis:session:{id}").as_bytes()) % 16_384);
        nodes[slot * NODES / 16_384] += 1;
    }
    let fullest = nodes.into_iter().max().unwrap_or_default();
    f64::from(fullest) * NODES as f64 / ids.len() as f64
}

/// CRC-16/XMODEM, as the specification of Redis Cluster has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value that the specification gives.
    #[test]
    fn slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }
}
