//! A tenant of many subjects and a subject of many sessions, beside small ones: what ending them takes, what opening another
//! session takes, and how the sessions lie in a cluster.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::origin::{
    service::{
        Service,
        open::{OpenSession, Opened},
        subjects::Command,
    },
    store::AnyStore,
};
use anyhow::{Context as _, anyhow};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use shared::id::{SubjectId, TenantId};

use super::{
    memory::{AT_ONCE, NODES, ask, uneven},
    records::{ordinary, service},
    redis_url,
};
use crate::{
    redis::Redis,
    report::{Report, Table, figure},
    stats::{median, ratio},
};

/// A subject has this part of the sessions that the tenant has.
const OF_ONE_SUBJECT: u32 = 10;

/// Rounds, in each of which the large and the small ones have their turn.
const ROUNDS: u32 = 101;

/// Sessions that are opened in one turn.
const OPENS: u32 = 20;

/// How much longer the large one may take: nothing in it grows, and the clock sees other work of the machine.
const RATIO_MAX: f64 = 1.25;

/// A service over a server of its own.
struct World {
    redis: Redis,
    service: Arc<Service>,
    store: Arc<AnyStore>,
}

/// What ending or opening one takes, a figure for each round.
#[derive(Default)]
struct Samples {
    /// Microseconds from call to answer.
    took: Vec<f64>,
    /// Microseconds of the server of the store.
    redis: Vec<f64>,
}

/// What ending one asks for.
struct Asked {
    floors: u64,
    round_trips: u64,
    commands: u64,
}

/// What can be ended.
#[derive(Clone)]
enum Whole {
    Tenant(TenantId),
    Subject(SubjectId),
}

pub(super) async fn measure(report: &mut Report, subjects: u32) -> anyhow::Result<()> {
    let world = World::start().await?;
    let sessions = subjects / OF_ONE_SUBJECT;
    let of_tenant = world.open_many((0..subjects).map(|number| in_tenant("large", number))).await?;
    let of_subject = world.open_many((0..sessions).map(|_| of("busy"))).await?;
    world.open_many([in_tenant("small", 0), of("idle")]).await?;
    world.open_many((0..(ROUNDS + 1) * OPENS).map(other)).await?;

    opening(report, &world, sessions).await?;
    ending(report, &world, (subjects, sessions)).await?;
    let mut table = Table::new(format!("Sessions on the fullest of {NODES} nodes, of an even share"), ["", ""]);
    table.row([format!("tenant of {subjects} subjects"), figure(uneven(&of_tenant))]);
    table.row([format!("subject of {sessions} sessions"), figure(uneven(&of_subject))]);
    report.table(table);
    Ok(())
}

/// Another session of a subject that has many, beside the second one of subjects that have one.
async fn opening(report: &mut Report, world: &World, sessions: u32) -> anyhow::Result<()> {
    let (mut busy, mut others) = (Samples::default(), Samples::default());
    for round in 0..=ROUNDS {
        // The first round warms up.
        let counts = round > 0;
        world.sample(&mut busy, counts, OPENS, async || open_each(world, |_| of("busy")).await).await?;
        let next = |number| other(round * OPENS + number);
        world.sample(&mut others, counts, OPENS, async || open_each(world, next).await).await?;
    }
    let columns = ["", "µs", "Redis, µs", "of the small one"];
    let mut table = Table::new("Opening one more session, in one process with the store beside it", columns);
    table.row(row("subject of 1 session".to_owned(), &others, &others));
    table.row(row(format!("subject of {sessions} sessions"), &busy, &others));
    report.table(table);
    let what = format!("a session of a subject that has {sessions}, beside one that has one");
    report.target(what, ratio(&busy.took, &others.took), RATIO_MAX, "times");
    Ok(())
}

async fn ending(report: &mut Report, world: &World, (subjects, sessions): (u32, u32)) -> anyhow::Result<()> {
    let tenants = ["small", "large"].map(|name| name.parse().map(Whole::Tenant));
    let lone = ["idle", "busy"].map(|name| name.parse().map(Whole::Subject));
    let columns = ["", "floors", "round trips", "commands in Redis", "µs", "Redis, µs", "of the small one"];
    let mut table = Table::new("Ending every session, in one process with the store beside it", columns);
    let names = [
        ["tenant of 1 subject".to_owned(), format!("tenant of {subjects} subjects")],
        ["subject of 1 session".to_owned(), format!("subject of {sessions} sessions")],
    ];
    for (names, [small, large]) in names.into_iter().zip([tenants, lone]) {
        let wholes = [small?, large?];
        // The first time the scripts are loaded.
        world.end(&wholes[0]).await?;
        let asked = [world.asked(&wholes[0]).await?, world.asked(&wholes[1]).await?];
        let mut samples = [Samples::default(), Samples::default()];
        for round in 0..=ROUNDS {
            for (samples, whole) in samples.iter_mut().zip(&wholes) {
                world.sample(samples, round > 0, 1, async || world.end(whole).await).await?;
            }
        }
        for ((name, asked), own) in names.iter().zip(&asked).zip(&samples) {
            let [name, took, redis, of] = row(name.clone(), own, &samples[0]);
            let counts = [asked.floors, asked.round_trips, asked.commands].map(|count| count.to_string());
            table.row([name].into_iter().chain(counts).chain([took, redis, of]));
        }
        let [small, large] = asked;
        report.target(format!("floors that end a {}", names[1]), large.floors as f64, 1.0, "");
        let commands = large.commands as f64 / small.commands as f64;
        report.target(format!("commands that end a {}, of the small one", names[1]), commands, 1.0, "times");
        let took = ratio(&samples[1].took, &samples[0].took);
        report.target(format!("time that it takes to end a {}, of the small one", names[1]), took, RATIO_MAX, "times");
    }
    report.table(table);
    Ok(())
}

/// Name, medians, and the time beside another one's in the same rounds.
fn row(name: String, own: &Samples, other: &Samples) -> [String; 4] {
    [name, figure(median(&own.took)), figure(median(&own.redis)), figure(ratio(&own.took, &other.took))]
}

async fn open_each(world: &World, session: impl Fn(u32) -> anyhow::Result<OpenSession>) -> anyhow::Result<()> {
    for number in 0..OPENS {
        world.open(session(number)?).await?;
    }
    Ok(())
}

fn in_tenant(tenant: &str, number: u32) -> anyhow::Result<OpenSession> {
    Ok(OpenSession { subject: format!("{tenant}_{number:018}").parse()?, tenant: Some(tenant.parse()?), ..ordinary()? })
}

/// One of the subjects that have a session each.
fn other(number: u32) -> anyhow::Result<OpenSession> {
    of(&format!("other-{number}"))
}

fn of(subject: &str) -> anyhow::Result<OpenSession> {
    Ok(OpenSession { subject: subject.parse()?, ..ordinary()? })
}

impl World {
    async fn start() -> anyhow::Result<Self> {
        let redis = Redis::start().await?;
        let (service, store) = service(redis_url(redis.address)).await?;
        Ok(Self { redis, service: Arc::new(service), store })
    }

    async fn open(&self, session: OpenSession) -> anyhow::Result<Opened> {
        self.service.open(session).await.map_err(|error| anyhow!("a session is not opened: {error}"))
    }

    /// Opens sessions side by side; their ids.
    async fn open_many(
        &self,
        sessions: impl IntoIterator<Item = anyhow::Result<OpenSession>>,
    ) -> anyhow::Result<Vec<String>> {
        let open = stream::iter(sessions).map(async |session| self.open(session?).await);
        open.buffer_unordered(AT_ONCE).map_ok(|opened| opened.session_id.to_string()).try_collect().await
    }

    async fn end(&self, whole: &Whole) -> anyhow::Result<()> {
        let ended = match whole {
            Whole::Tenant(tenant) => self.service.revoke_tenant(tenant.clone()).await,
            Whole::Subject(subject) => self.service.change_subject(subject.clone(), Command::RevokeSessions).await,
        };
        ended.map(drop).map_err(|error| anyhow!("the sessions are not ended: {error}"))
    }

    async fn asked(&self, whole: &Whole) -> anyhow::Result<Asked> {
        let head = async || anyhow::Ok(self.store.snapshot().await?.head.0);
        let floors = head().await?;
        ask(&self.redis, &["CONFIG", "RESETSTAT"])?;
        let before = self.store.round_trips();
        self.end(whole).await?;
        let round_trips = self.store.round_trips() - before;
        let commands = commands(&ask(&self.redis, &["INFO", "commandstats"])?)?;
        Ok(Asked { floors: head().await? - floors, round_trips, commands })
    }

    /// Notes what each of `count` takes that `run` does one after the other.
    async fn sample(
        &self,
        samples: &mut Samples,
        counts: bool,
        count: u32,
        run: impl AsyncFnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (redis, started) = (self.redis.process.cpu()?, Instant::now());
        run().await?;
        let (took, redis) = (started.elapsed(), self.redis.process.cpu()?.saturating_sub(redis));
        if counts {
            let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(count);
            samples.took.push(micros(took));
            samples.redis.push(micros(redis));
        }
        Ok(())
    }
}

/// How many commands were called, those inside of scripts included, since the statistics were reset.
fn commands(statistics: &str) -> anyhow::Result<u64> {
    let own = ["cmdstat_config", "cmdstat_info"];
    let called = statistics.lines().filter(|line| line.starts_with("cmdstat_"));
    let counts = called.filter(|line| !own.iter().any(|own| line.starts_with(own))).map(|line| {
        let count = line.split_once("calls=").and_then(|(_, rest)| rest.split(',').next());
        Ok(count.context("Redis does not say how often it was asked")?.parse::<u64>()?)
    });
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_without_the_question_itself() {
        let told = "# Commandstats\r\ncmdstat_config|resetstat:calls=1,usec=9\r\ncmdstat_get:calls=3,usec=7,failed_calls=0\r\n\
                    cmdstat_evalsha:calls=2,usec=80\r\ncmdstat_info:calls=1,usec=5\r\n";
        assert_eq!(commands(told).unwrap(), 5);
    }
}
