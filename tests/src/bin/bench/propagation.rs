//! From the acknowledgement of a revocation to the first refusal at every gate.

mod cost;
mod tap;
mod watch;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hyper::StatusCode;
use portcullis_tests::eventually;
use serde_json::{Value, json};

use self::{tap::Tap, watch::Watch};
use crate::{
    client::{Connection, managed},
    edge::{Edge, RunningEdge},
    origin_process::{OriginProcess, Plan},
    report::{Report, Table, figure},
    stats::percentile,
    workerd,
};

/// How propagation is measured.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many gates; each has an isolate, a replica and a socket of its own.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    gates: u16,
    /// How many gates share a hub and a workerd, whose isolates all run on one thread: a region.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=100))]
    gates_per_hub: u16,
    /// Revocations for each line of the table.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(50..=1_000))]
    revocations: u16,
    /// Requests a second that all gates together are polled with.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    polls: u32,
    /// Milliseconds that the way from the origin to the hub is made longer by, there and back together.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    round_trip_ms: u64,
}

/// The gates answer by themselves.
const POLICY: &str = r#"
[upstreams]
app = "self"

[[routes]]
id = "bounded"
path = "/bounded"
upstream = "app"

[[routes]]
id = "regional"
path = "/regional"
assurance = "regional"
upstream = "app"

[[routes]]
id = "authoritative"
path = "/authoritative"
assurance = "authoritative"
upstream = "app"
"#;

/// How late a gate may be on a regional route, beyond the way from the origin to the hub, in milliseconds.
const REGIONAL_MS: f64 = 150.0;

/// How stale a replica may be on a route that does not say.
const BOUND_MS: f64 = 5_000.0;

/// How long a gate without traffic is left alone before a revocation.
const IDLE: Duration = Duration::from_millis(700);

/// What the gates see.
struct Mode {
    name: &'static str,
    path: &'static str,
    /// Nothing comes for a while before a revocation, and the first request right after the acknowledgement. Otherwise the
    /// requests of the poll never cease.
    is_idle: bool,
    /// Which share of refusals must not be later than this many milliseconds, the way to the hub set aside.
    target: (f64, f64),
}

const MODES: [Mode; 4] = [
    Mode { name: "bounded, steady requests", path: "/bounded", is_idle: false, target: (1.0, BOUND_MS) },
    Mode { name: "bounded, idle gates", path: "/bounded", is_idle: true, target: (1.0, BOUND_MS) },
    Mode { name: "regional, steady requests", path: "/regional", is_idle: false, target: (0.99, REGIONAL_MS) },
    Mode { name: "authoritative, steady requests", path: "/authoritative", is_idle: false, target: (1.0, BOUND_MS) },
];

/// One revocation, in milliseconds.
struct Sample {
    /// Inside the origin, until records were read and written, and until the log was.
    store: f64,
    log: f64,
    /// From the acknowledgement to the arrival of the frame at each hub; below zero if it was there first.
    push: Vec<f64>,
    /// From there to the hub's answer.
    hub: Vec<f64>,
    /// From there to the first refusal, at each gate.
    gates: Vec<f64>,
    /// From the acknowledgement to the first refusal, at each gate.
    whole: Vec<f64>,
    /// Requests that a gate let pass after the acknowledgement, at each gate.
    passed: Vec<f64>,
}

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let Arguments { gates, gates_per_hub, revocations, polls, round_trip_ms } = *arguments;
    let pause = Duration::from_secs_f64(f64::from(gates) / f64::from(polls));
    let mut report = Report::new("propagation");
    report.version(workerd::version());
    report.method(format!(
        "{gates} gates, at most {gates_per_hub} of them with a hub in one workerd (one thread); each gate has its own isolate, \
         replica and socket"
    ));
    report.method(format!(
        "{revocations} revocations a line; every gate is asked every {} ms, so no figure is finer than that",
        figure(pause.as_secs_f64() * 1e3)
    ));
    report.method(
        "from the HTTP answer of the origin (release build, embedded store) to the first 401 of a gate; wall-clock",
    );
    report.method(format!(
        "push and hub are seen by a tap between origin and each hub, which itself takes part of a millisecond, and {round_trip_ms} ms on purpose"
    ));

    let world = World::start(gates, gates_per_hub, Duration::from_millis(round_trip_ms)).await?;
    let mut parts = Table::new("Milliseconds", ["", "p50", "p99", "max"]);
    for mode in &MODES {
        let mut samples = Vec::new();
        for _ in 0..revocations {
            samples.push(world.revoke(mode, pause).await?);
        }
        describe(&mut parts, mode.name, &samples);
        let whole: Vec<f64> = samples.iter().flat_map(|sample| sample.whole.iter().copied()).collect();
        let (share, at_most) = mode.target;
        let what = format!("from acknowledgement to refusal, {}, {:.0} % of them", mode.name, share * 1e2);
        report.target(what, percentile(&whole, share), at_most + round_trip_ms as f64, "ms");
    }
    report.table(parts);
    report.table(world.costs().await?);
    Ok(report)
}

fn describe(table: &mut Table, mode: &str, samples: &[Sample]) {
    let one = |part: fn(&Sample) -> f64| samples.iter().map(part).collect::<Vec<_>>();
    let all = |part: fn(&Sample) -> &Vec<f64>| samples.iter().flat_map(part).copied().collect::<Vec<_>>();
    let rows = [
        ("from acknowledgement to refusal", all(|sample| &sample.whole)),
        ("- store: records read and written, before the acknowledgement", one(|sample| sample.store)),
        ("- log: the floor appended, before the acknowledgement", one(|sample| sample.log)),
        ("- push: from the acknowledgement to the hub", all(|sample| &sample.push)),
        ("- hub: kept and answered", all(|sample| &sample.hub)),
        ("- gate: from there to its refusal", all(|sample| &sample.gates)),
        ("requests that passed after the acknowledgement, at each gate", all(|sample| &sample.passed)),
    ];
    for (name, values) in rows {
        let shares = [0.5, 0.99, 1.0].map(|share| figure(percentile(&values, share)));
        table.row(std::iter::once(format!("{mode}: {name}")).chain(shares));
    }
}

/// An origin and what it pushes to.
struct World {
    origin: OriginProcess,
    regions: Vec<Region>,
}

/// Gates, their hub, and the tap before it.
struct Region {
    tap: Tap,
    gates: Vec<SocketAddr>,
    edge: RunningEdge,
}

impl World {
    async fn start(gates: u16, gates_per_hub: u16, round_trip: Duration) -> anyhow::Result<Self> {
        let plan = Plan::new(None)?;
        let (mut regions, mut rest) = (Vec::new(), usize::from(gates));
        while rest > 0 {
            let gates = rest.min(gates_per_hub.into());
            regions.push(Region::start(gates, &plan, round_trip).await?);
            rest -= gates;
        }
        let names: Vec<_> = (0..regions.len()).map(|region| format!("region-{region}")).collect();
        let hubs: Vec<_> = names.iter().zip(&regions).map(|(name, region)| (name.as_str(), region.tap.url())).collect();
        let origin = plan.start(&hubs).await?;
        let world = Self { origin, regions };
        let (_, token) = world.open().await?;
        for gate in world.regions.iter().flat_map(|region| &region.gates) {
            eventually("a gate", async || ask(*gate, &token).await.is_ok_and(|status| status == 204).then_some(()))
                .await?;
        }
        Ok(world)
    }

    /// Id and access token of a new session.
    async fn open(&self) -> anyhow::Result<(String, String)> {
        let opened = self.manage("/v1/sessions", &json!({ "subject": "alice", "client_id": "web" })).await?;
        let text = |name: &str| Ok::<_, anyhow::Error>(opened[name].as_str().context("a field is missing")?.to_owned());
        Ok((text("session_id")?, text("access_token")?))
    }

    async fn manage(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = Connection::open(self.origin.address).await?.send(managed(path, body)?).await?;
        Ok(serde_json::from_slice(answer.body())?)
    }

    async fn revoke(&self, mode: &Mode, pause: Duration) -> anyhow::Result<Sample> {
        let (session, token) = self.open().await?;
        let mut watches = Vec::new();
        let all = self.regions.iter().map(|region| region.gates.len()).sum::<usize>();
        let gates = self.regions.iter().flat_map(|region| region.gates.iter().map(move |gate| (region, *gate)));
        for ((region, gate), index) in gates.zip(0_u32..) {
            // Spread over the pause, so that the gates do not all ask at once.
            let offset = pause.mul_f64(f64::from(index) / all as f64);
            watches.push((region, Watch::prepare(gate, mode.path, token.clone(), pause, offset).await?));
        }
        // The connection is there before the clock starts.
        let mut connection = Connection::open(self.origin.address).await?;
        if mode.is_idle {
            tokio::time::sleep(IDLE).await;
        } else {
            watches.iter_mut().for_each(|(_, watch)| watch.start());
            tokio::time::sleep(IDLE).await;
        }
        let request = managed(&format!("/v1/sessions/{session}/revoke"), &json!({}))?;
        let answer = connection.send(request).await?;
        let acknowledged = Instant::now();
        anyhow::ensure!(answer.status() == StatusCode::OK, "the revocation was answered {}", answer.status());
        if mode.is_idle {
            watches.iter_mut().for_each(|(_, watch)| watch.start());
        }
        let changed: Value = serde_json::from_slice(answer.body())?;
        let cursor = changed["cursor"].as_u64().context("the answer has no cursor")?;
        let (mut push, mut hub) = (Vec::new(), Vec::new());
        for region in &self.regions {
            let (arrived, answered) = region.tap.of(cursor).await?;
            push.push(since(acknowledged, arrived));
            hub.push(since(arrived, answered));
        }
        let (mut gates, mut whole, mut passed) = (Vec::new(), Vec::new(), Vec::new());
        for (region, watch) in watches {
            let seen = watch.refused(acknowledged).await?;
            let (_, answered) = region.tap.of(cursor).await?;
            gates.push(since(answered, seen.refused_at));
            whole.push(since(acknowledged, seen.refused_at));
            passed.push(f64::from(seen.passed));
        }
        let micros = |name: &str| changed["timings_us"][name].as_f64().unwrap_or(0.0) / 1e3;
        Ok(Sample { store: micros("load") + micros("record"), log: micros("log"), push, hub, gates, whole, passed })
    }
}

impl Region {
    async fn start(gates: usize, plan: &Plan, round_trip: Duration) -> anyhow::Result<Self> {
        let edge = Edge {
            gates,
            policy: POLICY,
            origin: plan.address,
            feed_key: plan.feed_key()?,
            trusted: None,
            upstream: "self".to_owned(),
            assertion_key: None,
        };
        let running = edge.start()?;
        let tap = Tap::start(running.push_url(), &edge.feed_key, round_trip).await?;
        let addresses = (0..gates).map(|gate| running.workerd.address(&format!("gate{gate}")));
        Ok(Self { tap, gates: addresses.collect::<anyhow::Result<_>>()?, edge: running })
    }
}

async fn ask(gate: SocketAddr, token: &str) -> anyhow::Result<u16> {
    Ok(Connection::open(gate).await?.ask("/bounded", token).await?.as_u16())
}

/// Milliseconds; below zero if `to` came first.
fn since(from: Instant, to: Instant) -> f64 {
    let forward = to.saturating_duration_since(from).as_secs_f64();
    (forward - from.saturating_duration_since(to).as_secs_f64()) * 1e3
}
