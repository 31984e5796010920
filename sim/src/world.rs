//! Nodes, messages between them, and the order in which all of it happens.

mod mass;
mod messages;
mod nodes;
mod requests;
mod rounds;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use fastrand::Rng;
use shared::{
    decision::{Inquiry, Source},
    hub::{Pull, Stored},
    policy::{Assurance, OnStale, Route},
    replica::Position,
    time::Timestamp,
};

use self::mass::Mass;
use crate::{
    Broken, Plan, Report,
    check::Past,
    faults::{Fault, Node, Sizes},
    gate::{Gate, SKEW_MAX, route},
    hub::HubNode,
    identity::{Held, Identities},
    origin::{Lengths, Origin},
    pieces::{Piece, Pieces},
    store::Store,
};

/// When the simulation begins, Unix milliseconds.
const START: u64 = 1_800_000_000_000;

const ROUNDS: u32 = 3;
const HEARTBEAT_MS: u64 = 1_000;
const TAIL_MS: u64 = HEARTBEAT_MS / 4;
const PUSH_TIMEOUT_MS: u64 = 2_000;
/// Pushes in a row that fail before another origin gets the lease of the hub.
const FAILURES_MAX: u32 = 3;
const PAUSE_MS_MIN: u64 = 50;
const PAUSE_MS_MAX: u64 = 2_000;
const TICK_MS: u64 = 500;

/// How long after a fault all digests agree (I9).
const AGREE_MS: u64 = 2_000;

/// How long after a fault a good token is admitted again: the digests agree and somebody asked since.
const ADMIT_MS: u64 = 3_000;

/// How old the routes let a gate be.
const BOUND_MS: u64 = 4_000;

/// Tokens among which most requests choose.
const RECENT_TOKENS: usize = 8;

/// Lines of the trace that are kept.
const TRACE_MAX: usize = 150;

enum Event {
    Tail { origin: usize, life: u64 },
    Read { origin: usize, life: u64, head: u64, as_of: u64 },
    Push { origin: usize, hub: usize, turn: u64 },
    Deliver(Message),
    TimedOut(u64),
    Look(usize),
    Request(usize),
    Waited { request: u64, turn: u64 },
    Act,
    EndMany,
    EndTenant,
    Overtaken,
    Begin,
    Heal,
    Compare,
    Tick,
}

#[derive(Clone)]
struct Message {
    call: u64,
    from: Node,
    to: Node,
    body: Body,
}

#[derive(Clone)]
enum Body {
    Push(Vec<u8>),
    PushAnswer(Stored, Position),
    Pull(Pull),
    /// As a pull of what is lacking, answered after the log was read once more.
    PullCurrent(Position),
    Frames(Vec<u8>),
}

/// Somebody waits for an answer.
enum Call {
    Push { origin: usize, life: u64, hub: usize, piece: Piece, begun_at: u64 },
    HubPull { hub: usize },
    GatePull { gate: usize, life: u64, source: Source, begun_at: u64 },
}

/// What an origin knows of a hub.
#[derive(Clone, Default)]
struct Pushing {
    position: Option<Position>,
    gaps: u32,
    failures: u32,
    pieces: Pieces,
    under_way: bool,
    /// Counts what was planned, so that only the last plan is followed.
    turn: u64,
}

struct Pending {
    gate: usize,
    life: u64,
    token: usize,
    route: usize,
    came_at: u64,
    is_idle: bool,
    inquiry: Inquiry,
    waits: Option<Waits>,
    /// Counts the waits, so that the end of an earlier one is nothing to a later one.
    turn: u64,
}

/// What a request waits for.
#[derive(Clone, Copy)]
struct Waits {
    source: Source,
    /// How many pulls of the source had begun when it was to be asked.
    came: u64,
    call: u64,
    counts: bool,
}

/// Runs a plan.
///
/// # Errors
///
/// The first thing that does not hold.
pub fn run(plan: Plan) -> Result<Report, Box<Broken>> {
    let mut world = World::new(plan);
    let outcome = world.run();
    outcome.map_err(|what| {
        let trace = core::mem::take(&mut world.trace);
        Box::new(Broken { seed: plan.seed, at_ms: world.now - START, what, trace })
    })?;
    world.report.clocks_reported = world.gates.iter().filter(|gate| gate.reported).count() as u64;
    Ok(world.report)
}

struct World {
    plan: Plan,
    rng: Rng,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    count: u64,
    sizes: Sizes,
    store: Store,
    identities: Identities,
    origins: Vec<Origin>,
    pushes: Vec<Vec<Pushing>>,
    /// The origin that pushes to each hub; empty in runs where all of them do, which is harder on hubs.
    leases: Vec<usize>,
    lengths: Lengths,
    mass: Option<Mass>,
    hubs: Vec<HubNode>,
    gates: Vec<Gate>,
    /// The gate whose clock is further off than declared, if there is one.
    wrong_clock: Option<usize>,
    routes: [Route; 5],
    tokens: Vec<Held>,
    calls: BTreeMap<u64, Call>,
    pending: BTreeMap<u64, Pending>,
    faults: Vec<Fault>,
    held: Vec<Message>,
    acting: bool,
    healthy_since: Option<u64>,
    rounds: u32,
    pasts: BTreeMap<Node, (u64, Past)>,
    report: Report,
    trace: Vec<String>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let sizes = Sizes { origins: rng.usize(1..=3), hubs: rng.usize(1..=3), gates: rng.usize(3..=7) };
        let store = Store::default();
        let skew = i64::try_from(SKEW_MAX.as_millis()).unwrap_or(0);
        let mut gates: Vec<Gate> = (0..sizes.gates)
            .map(|number| Gate::new(sizes.hub_of(number), rng.i64(-skew..=skew), plan.mutant))
            .collect();
        let wrong_clock = (rng.u32(..4) == 0).then_some(0);
        if let (Some(_), Some(gate)) = (wrong_clock, gates.first_mut()) {
            // A gate that is behind by less than its frames are old cannot see it, and is off by no more than that.
            let off = skew + rng.i64(2_500..8_000);
            // One that is ahead takes what it knows for older than it is, which closes it once that is older than the bound.
            let ahead = off.max(i64::try_from(BOUND_MS).unwrap_or(off));
            gate.clock_offset = if rng.u32(..3) == 0 { ahead } else { -off };
        }
        let routes = [
            (Assurance::Bounded, OnStale::Deny),
            (Assurance::Bounded, OnStale::Ask),
            (Assurance::Bounded, OnStale::Allow),
            (Assurance::Regional, OnStale::Deny),
            (Assurance::Authoritative, OnStale::Deny),
        ];
        let mass = Mass::some(&mut rng, sizes);
        let lengths = mass.as_ref().map_or(Lengths::SMALL, |mass| mass.lengths);
        // Two snapshots that go in pieces, of two origins, would never end.
        let is_leased = mass.is_some() || rng.bool();
        Self {
            plan,
            now: START,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            count: 0,
            sizes,
            origins: (0..sizes.origins).map(|_| Origin::start(&store, lengths, 0, START)).collect(),
            pushes: vec![vec![Pushing::default(); sizes.hubs]; sizes.origins],
            leases: if is_leased { vec![0; sizes.hubs] } else { Vec::new() },
            lengths,
            mass,
            hubs: (0..sizes.hubs).map(|_| HubNode::new(rng.i64(-skew..=skew))).collect(),
            store,
            identities: Identities::new(plan.signatures),
            gates,
            wrong_clock,
            routes: routes.map(|(assurance, on_stale)| route(assurance, on_stale, BOUND_MS)),
            tokens: Vec::new(),
            calls: BTreeMap::new(),
            pending: BTreeMap::new(),
            faults: Vec::new(),
            held: Vec::new(),
            acting: true,
            healthy_since: Some(START),
            rounds: 0,
            pasts: BTreeMap::new(),
            report: Report::default(),
            trace: Vec::new(),
            rng,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..8 {
            let now = self.clock();
            let opened = self.identities.open(&mut self.rng, now);
            self.tokens.extend(opened.map(|token| Held { token, dead_since: None }));
        }
        for origin in 0..self.sizes.origins {
            self.start_origin(origin);
        }
        for hub in 0..self.sizes.hubs {
            self.after_up_to(500, Event::Look(hub));
        }
        for gate in 0..self.sizes.gates {
            self.after_up_to(100, Event::Request(gate));
        }
        self.after(0, Event::Act);
        self.after(TICK_MS, Event::Tick);
        self.after(ADMIT_MS, Event::Begin);
        while let Some(Reverse((at, number))) = self.queue.pop() {
            self.now = at;
            if let Some(event) = self.events.remove(&number) {
                self.happen(event)?;
            }
            if self.rounds == ROUNDS {
                return Ok(());
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Tail { origin, life } => self.tail(origin, life),
            Event::Read { origin, life, head, as_of } => self.read(origin, life, head, as_of)?,
            Event::Push { origin, hub, turn } => self.push(origin, hub, turn),
            Event::Deliver(message) => self.deliver(message)?,
            Event::TimedOut(call) => self.answered(call, None)?,
            Event::Look(hub) => self.look(hub),
            Event::Request(gate) => self.request(gate)?,
            Event::Waited { request, turn } => self.waited(request, turn)?,
            Event::Act => self.act(),
            Event::EndMany => self.end_many(),
            Event::EndTenant => self.end_tenant(),
            Event::Overtaken => self.overtaken()?,
            Event::Begin => self.begin(),
            Event::Heal => self.heal()?,
            Event::Compare => self.compare()?,
            Event::Tick => self.tick()?,
        }
        Ok(())
    }

    fn clock(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn after(&mut self, millis: u64, event: Event) {
        let number = self.number();
        self.events.insert(number, event);
        self.queue.push(Reverse((self.now + millis, number)));
    }

    fn after_up_to(&mut self, millis: u64, event: Event) {
        let wait = self.rng.u64(1..=millis);
        self.after(wait, event);
    }

    fn number(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn mix(&mut self, what: u64) {
        let mixed = self.report.fingerprint ^ what ^ self.now.rotate_left(20);
        self.report.fingerprint = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.plan.traced {
            self.trace.push(format!("{:>7} {}", self.now - START, what()));
            let over = self.trace.len().saturating_sub(TRACE_MAX);
            self.trace.drain(..over);
        }
    }
}

fn past(pasts: &mut BTreeMap<Node, (u64, Past)>, node: Node, life: u64) -> &mut Past {
    let (of, past) = pasts.entry(node).or_default();
    if *of != life {
        (*of, *past) = (life, Past::default());
    }
    past
}

fn millis(duration: core::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
