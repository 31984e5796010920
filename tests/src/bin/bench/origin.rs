//! What sessions cost at the origin: bytes, round trips to the store, processor time and requests a second.

mod load;
mod memory;
mod records;

use std::net::SocketAddr;

use self::load::{Contestant, OPERATIONS};
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
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let Arguments { rounds, sessions, connections, in_memory } = arguments;
    let mut report = Report::new("origin");
    report.version(machine::version_of("redis-server".as_ref()));
    report.method(format!(
        "{rounds} rounds, the stores in turn; a turn opens, introspects, refreshes and revokes {sessions} sessions"
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
    let redis = Redis::start().await?;
    let mut contestants = [Contestant::start("embedded", None).await?, Contestant::start("Redis", Some(redis)).await?];
    // The first round warms up.
    for round in 0..=*rounds {
        for contestant in &mut contestants {
            contestant.turn(*sessions, usize::try_from(*connections)?, round > 0).await?;
        }
    }
    let columns = ["", "origin, µs a request", "rounds from, to", "Redis, µs", "requests a second"];
    let mut table = Table::new("Load over HTTP", columns);
    for (index, operation) in OPERATIONS.iter().enumerate() {
        for contestant in &contestants {
            let samples = &contestant.samples[index];
            let (low, high) = range(&samples.origin);
            let store = if samples.store.is_empty() { "-".to_owned() } else { figure(median(&samples.store)) };
            table.row([
                format!("{operation}, {}", contestant.name),
                figure(median(&samples.origin)),
                format!("{}, {}", figure(low), figure(high)),
                store,
                figure(median(&samples.rate)),
            ]);
        }
    }
    report.table(table);
    Ok(report)
}

/// As the origin's configuration names a Redis.
fn redis_url(address: SocketAddr) -> String {
    format!("redis://{address}")
}
