//! What sessions cost at the origin: bytes, round trips to the store, processor time and requests a second.

mod bare;
mod crowd;
mod load;
mod memory;
mod meter;
mod occupied;
mod peers;
mod records;
mod verdict;

pub(crate) use self::{
    load::ordinary as ordinary_body,
    records::{ordinary as ordinary_session, service as service_over},
};

use std::net::SocketAddr;

use self::{
    bare::Bare,
    load::{Contestant, OPERATIONS, SUBJECTS},
    peers::{KINDS, Peer},
};
use crate::{
    machine,
    redis::Redis,
    report::{Report, Table, figure},
    stats::{median, range},
};

/// How the origin is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds, in each of which every store has its turn.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(7..=99))]
    rounds: u32,
    /// Sessions per turn: each is opened, introspected, refreshed and revoked.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    sessions: u32,
    /// Connections that are kept, with one request at a time on each.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// Sessions that are opened to see what they take in Redis; 0 leaves that out.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(0..=2_000_000))]
    in_memory: u32,
    /// The origin alone, without what others keep sessions with.
    #[arg(long)]
    alone: bool,
    /// Subjects of the large tenant, which has ten times the sessions of the large subject; 0 leaves both out.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    crowd: u32,
}

/// What the origin is measured beside.
struct Others {
    bare: Bare,
    peers: Vec<Peer>,
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let Arguments { rounds, sessions, connections, in_memory, alone, crowd } = arguments;
    let at_once = usize::try_from(*connections)?;
    let mut report = Report::new("origin");
    report.version(machine::version_of("redis-server".as_ref()));
    report.method(format!(
        "{rounds} rounds, the stores in turn; a turn opens, introspects twice, refreshes and revokes {sessions} sessions"
    ));
    report.method(format!(
        "over {connections} kept connections; medians of the rounds; release build with its default configuration"
    ));
    report.method("embedded: flushed to disk before the answer; Redis: append-only file, flushed every second");
    report.method("requests a second are wall-clock with the load on the same cores: lower bounds");

    records::measure(&mut report).await?;
    if *in_memory > 0 {
        memory::measure(&mut report, *in_memory).await?;
    }
    if *crowd > 0 {
        crowd::measure(&mut report, *crowd).await?;
    }
    let redis = Redis::start().await?;
    let mut contestants = [Contestant::start("embedded", None).await?, Contestant::start("Redis", Some(redis)).await?];
    let mut others = if *alone { None } else { Some(Others::start(&mut report, *sessions).await?) };
    // The first round warms up.
    for round in 0..=*rounds {
        for contestant in &mut contestants {
            contestant.turn(*sessions, at_once, round > 0).await?;
        }
        if let Some(others) = &mut others {
            others.turn(*sessions, at_once, round > 0).await?;
        }
    }
    let columns = ["", "origin, µs a request", "rounds from, to", "Redis, µs", "requests a second"];
    let mut table = Table::new("Load over HTTP", columns);
    for (index, operation) in OPERATIONS.iter().enumerate() {
        for contestant in &contestants {
            let samples = &contestant.samples[index];
            let (low, high) = range(&samples.program);
            let store = if samples.store.is_empty() { "-".to_owned() } else { figure(median(&samples.store)) };
            table.row([
                format!("{operation}, {}", contestant.name),
                figure(median(&samples.program)),
                format!("{}, {}", figure(low), figure(high)),
                store,
                figure(median(&samples.rate)),
            ]);
        }
    }
    report.table(table);
    if let Some(Others { bare, peers }) = others {
        let [_, Contestant { samples, .. }] = &contestants;
        let [_, _, _, refresh, _] = samples;
        bare.judge(&mut report, refresh);
        verdict::judge(&mut report, samples, &peers);
        verdict::compare(&mut report, &bare, &peers);
        occupied::measure(&mut report, KINDS.into(), at_once).await?;
    }
    Ok(report)
}

impl Others {
    async fn start(report: &mut Report, sessions: u32) -> anyhow::Result<Self> {
        for line in METHOD {
            report.method(line);
        }
        let mut peers = Vec::new();
        for kind in KINDS {
            let peer = Peer::start(kind, SUBJECTS).await?;
            peer.check().await?;
            peers.push(peer);
        }
        Ok(Self { bare: Bare::start(sessions).await?, peers })
    }

    async fn turn(&mut self, sessions: u32, at_once: usize, counts: bool) -> anyhow::Result<()> {
        self.bare.turn(sessions, at_once, counts).await?;
        for peer in &mut self.peers {
            peer.turn(sessions, at_once, counts).await?;
        }
        Ok(())
    }
}

/// How the others are measured.
const METHOD: [&str; 4] = [
    "everybody in turn within a round, with the same load and a Redis of their own like ours; ratios are medians of those \
     within a round",
    "bare parts: same axum, tokio, client of Redis, signature library and allocator as the origin; so many at once as there \
     are connections",
    "tower-sessions, its Redis store with a pool of 6, the origin's allocator; express-session with connect-redis, resave, \
     saveUninitialized and touch off; better-auth with secondary storage in Redis, users in memory, no hash of passwords, no \
     rate limit, no cookie cache (a session in it cannot be revoked)",
    "renew: a new id for the session (tower-sessions, express-session), its time moved (better-auth); nobody but the origin \
     signs tokens, finds reuse, or keeps a list that ends all sessions of a subject but better-auth",
];

/// As the origin's configuration names a Redis.
fn redis_url(address: SocketAddr) -> String {
    format!("redis://{address}")
}
