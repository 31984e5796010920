//! What a session of everybody takes in Redis: the memory of the server before and after, divided by the sessions.

use hyper::StatusCode;

use super::{
    load::{Contestant, ordinary},
    memory::{forget, used},
    peers::{Kind, Peer},
};
use crate::{
    client::{managed, send_all},
    redis::Redis,
    report::{Report, Table, figure},
};

/// As full as the server's table of keys is with two hundred thousand: its share counts alike.
const SESSIONS: usize = 12_500;
const PER_SUBJECT: usize = 2;

/// What is there once and not per session is there after so many.
const BEFORE: usize = 64;

pub(super) async fn measure(report: &mut Report, kinds: Vec<Kind>, connections: usize) -> anyhow::Result<()> {
    let title = format!("Bytes in Redis per session, all in, of {SESSIONS} sessions, {PER_SUBJECT} per subject");
    let mut table = Table::new(title, ["", "bytes", "of ours"]);
    let [ours, with_trail] = ours(connections).await?;
    table.row(["portcullis".to_owned(), figure(ours), figure(1.0)]);
    let name = "portcullis, with the entry of its opening in the audit trail".to_owned();
    table.row([name, figure(with_trail), figure(with_trail / ours)]);
    for kind in kinds {
        let name = kind.name.to_owned();
        let peer = Peer::start(kind, BEFORE + SESSIONS).await?;
        peer.open(0..BEFORE, connections).await?;
        let before = used(&peer.redis)?;
        peer.open(subjects(), connections).await?;
        let found = per_session(before, used(&peer.redis)?);
        table.row([name, figure(found), figure(found / ours)]);
    }
    report.table(table);
    Ok(())
}

/// Without and with the audit trail, which nobody else has: a ring whose size does not grow with the sessions.
async fn ours(connections: usize) -> anyhow::Result<[f64; 2]> {
    let redis = Redis::start().await?;
    let contestant = Contestant::start("Redis", Some(redis)).await?;
    let open = async |subjects: Vec<usize>| {
        let opens = subjects.into_iter().map(|subject| managed("/v1/sessions", &ordinary(subject)));
        let opens = opens.collect::<Result<_, _>>()?;
        send_all(contestant.origin.address, connections, opens, StatusCode::CREATED).await
    };
    let memory = || contestant.redis.as_ref().map_or(Ok(0.0), used);
    open((0..BEFORE).collect()).await?;
    let before = memory()?;
    open(subjects().collect()).await?;
    let with_trail = per_session(before, memory()?);
    if let Some(redis) = &contestant.redis {
        forget(redis, "portcullis:audit:*")?;
    }
    Ok([per_session(before, memory()?), with_trail])
}

fn subjects() -> impl Iterator<Item = usize> {
    (0..SESSIONS).map(|number| BEFORE + number / PER_SUBJECT)
}

fn per_session(before: f64, after: f64) -> f64 {
    (after - before) / SESSIONS as f64
}
