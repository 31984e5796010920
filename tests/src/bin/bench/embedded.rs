//! The embedded store: what refreshes at the same time save by sharing a flush to disk, and how soon a store is open again after
//! its process was killed.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ::origin::{
    config::{self, StoreUrl},
    service::{Service, refresh::RefreshRequest},
    store::{AnyStore, Key},
};
use anyhow::Context as _;
use hyper::StatusCode;
use tokio::task::JoinSet;

use crate::{
    client::{managed, send_all},
    origin::{ordinary_body, ordinary_session, service_over},
    origin_process::{OriginProcess, Plan},
    report::{Report, Table, figure},
    stats::{median, percentile, range, ratio},
};

/// Refreshes at the same time; the first and the third are held against each other.
const AT_ONCE: [u32; 4] = [1, 8, 64, 256];

/// What one at a time may reach of what 64 at once do: those are five times as many.
const ALONE_MAX: f64 = 0.2;

/// How soon a store must be open after a kill.
const OPEN_MS_MAX: f64 = 50.0;

/// What goes on when the process is killed.
const CONNECTIONS: usize = 32;
const SUBJECTS: usize = 200;

/// How long a load goes on before a kill, each time a little longer.
const BEFORE_KILL: Duration = Duration::from_millis(40);
const LONGER: Duration = Duration::from_millis(7);

/// How the embedded store is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds, in each of which every number at once has its turn.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(5..=99))]
    rounds: u32,
    /// Refreshes per turn, and at least ten times the number at once.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    refreshes: u32,
    /// Sessions in the store whose process is killed.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    sessions: u32,
    /// How often it is killed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(5..=999))]
    kills: u32,
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let mut report = Report::new("embedded");
    refreshes(&mut report, arguments).await?;
    kills(&mut report, arguments).await?;
    Ok(report)
}

async fn refreshes(report: &mut Report, Arguments { rounds, refreshes, .. }: &Arguments) -> anyhow::Result<()> {
    report.method(format!(
        "{rounds} rounds of at least {refreshes} refreshes in one process, so many at once in turn; each is flushed to disk \
         before it is answered; medians, wall-clock"
    ));
    let directory = tempfile::tempdir()?;
    let (service, _) = service_over(url(directory.path())).await?;
    let service = Arc::new(service);
    let mut tokens = Vec::new();
    for _ in 0..AT_ONCE.into_iter().max().unwrap_or_default() {
        let opened = service.open(ordinary_session()?).await.ok().context("no session is opened")?;
        tokens.push(opened.tokens.refresh_token);
    }
    let mut rates: [Vec<f64>; AT_ONCE.len()] = Default::default();
    // The first round warms up.
    for round in 0..=*rounds {
        for (at_once, rates) in AT_ONCE.into_iter().zip(&mut rates) {
            let rate = turn(&service, &mut tokens, at_once, *refreshes).await?;
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let mut table = Table::new("Durable refreshes a second", ["at once", "refreshes", "rounds from, to", "of one"]);
    for (at_once, own) in AT_ONCE.into_iter().zip(&rates) {
        let (low, high) = range(own);
        let of_one = ratio(own, &rates[0]);
        table.row([
            at_once.to_string(),
            figure(median(own)),
            format!("{}, {}", figure(low), figure(high)),
            figure(of_one),
        ]);
    }
    report.table(table);
    let [alone, _, together, _] = &rates;
    let found = ratio(alone, together);
    report.target("durable refreshes a second one at a time, of those 64 at once", found, ALONE_MAX, "times");
    Ok(())
}

/// Refreshes so many sessions side by side, each again and again; how many a second.
async fn turn(service: &Arc<Service>, tokens: &mut [String], at_once: u32, refreshes: u32) -> anyhow::Result<f64> {
    let each = (refreshes / at_once).max(10);
    let (mut running, started) = (JoinSet::new(), Instant::now());
    for (index, token) in tokens.iter().take(usize::try_from(at_once)?).cloned().enumerate() {
        let service = Arc::clone(service);
        running.spawn(async move {
            let mut token = token;
            for _ in 0..each {
                let client = "web".parse()?;
                let request = RefreshRequest { token, client, scope: None, user_agent: None };
                token = service.refresh(request).await.ok().context("a session is not refreshed")?.refresh_token;
            }
            anyhow::Ok((index, token))
        });
    }
    while let Some(done) = running.join_next().await {
        let (index, token) = done??;
        tokens[index] = token;
    }
    Ok(f64::from(each) * f64::from(at_once) / started.elapsed().as_secs_f64())
}

async fn kills(report: &mut Report, Arguments { sessions, kills, .. }: &Arguments) -> anyhow::Result<()> {
    report.method(format!(
        "an origin over {sessions} sessions is killed (SIGKILL) {kills} times while {CONNECTIONS} connections open more; timed \
         is the opening of its file in another process until the first record is read, with the file in the system's memory"
    ));
    let mut origin = Plan::new(None)?.start(&[]).await?;
    open(&origin, usize::try_from(*sessions)?).await?;
    let mut took = Vec::new();
    for kill in 0..*kills {
        let load = tokio::spawn(load(origin.address));
        tokio::time::sleep(BEFORE_KILL + LONGER * kill).await;
        let plan = origin.kill();
        // It cannot go on: nobody answers any more.
        let _ = load.await;
        took.push(opening(plan.store()).await?);
        origin = plan.start(&[]).await?;
    }
    let mut table = Table::new("Opening after a kill, ms", ["", "p50", "max"]);
    let longest = percentile(&took, 1.0);
    table.row(["embedded store".to_owned(), figure(median(&took)), figure(longest)]);
    report.table(table);
    report.target("longest opening after a kill", longest, OPEN_MS_MAX, "ms");
    Ok(())
}

async fn open(origin: &OriginProcess, sessions: usize) -> anyhow::Result<()> {
    let opens = (0..sessions).map(|number| managed("/v1/sessions", &ordinary_body(number % SUBJECTS)));
    send_all(origin.address, CONNECTIONS, opens.collect::<Result<_, _>>()?, StatusCode::CREATED).await?;
    Ok(())
}

/// More than is done before the kill.
async fn load(address: SocketAddr) -> anyhow::Result<()> {
    let opens = (0..5_000).map(|number| managed("/v1/sessions", &ordinary_body(number % SUBJECTS)));
    send_all(address, CONNECTIONS, opens.collect::<Result<_, _>>()?, StatusCode::CREATED).await?;
    Ok(())
}

/// Milliseconds until a record can be read.
async fn opening(store: &str) -> anyhow::Result<f64> {
    let config = config::Store { url: StoreUrl::from(store.to_owned()), ..config::Config::default().store };
    let started = Instant::now();
    let store = AnyStore::open(&config).await?;
    store.load(&Key::Keys).await?.context("the keys are gone")?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn url(directory: &Path) -> String {
    format!("embedded:{}", directory.join("store.db").display())
}
