//! A gate: the replica and the decision of `shared`, and the pulls of the entry module.

use core::time::Duration;

use shared::{
    decision::{Asked, Credential, Decision, Denied, Inquiry, Source, View, decide},
    feed::{FrameKind, UnverifiedFrame},
    policy::{Access, Assurance, OnStale, PathPattern, Requirements, Route},
    replica::{Accepted, Freshness, Position, Replica},
    time::Timestamp,
    token::AccessToken,
};

use crate::{Mutant, sign::Signatures};

// As in the entry module, in milliseconds.
const PULL_MS_MIN: u64 = 200;
pub(crate) const PULL_MS_MAX: u64 = 1_500;
const LATELY_MS: u64 = 500;
const RETRY_MS: u64 = 1_000;

/// How far clocks may be apart.
pub(crate) const SKEW_MAX: Duration = Duration::from_millis(500);

/// How long a floor that a token taught is kept beyond the token.
const LEARN_MARGIN: Duration = Duration::from_secs(60);

/// What a gate remembers of a source of floors, as the entry module does.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pulls {
    /// How many were begun.
    pub(crate) count: u64,
    running: Option<u64>,
    begun_at: u64,
    heard_at: u64,
    failed_at: Option<u64>,
}

/// What somebody who wants a source asked does.
pub(crate) enum Consulting {
    /// Waits for a pull; `counts` if it began after the question.
    Waits { call: u64, counts: bool },
    /// Begins a pull.
    Begins,
    /// Knows how it went.
    Over(bool),
}

impl Pulls {
    /// The pull that is under way.
    fn under_way(&self, now: u64) -> Option<u64> {
        self.running.filter(|_| now.saturating_sub(self.begun_at) < PULL_MS_MAX)
    }

    /// Whether a pull in the background is due.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        now.saturating_sub(self.begun_at) >= PULL_MS_MIN && self.under_way(now).is_none()
    }

    pub(crate) fn begin(&mut self, call: u64, now: u64) {
        (self.count, self.running, self.begun_at) = (self.count + 1, Some(call), now);
    }

    pub(crate) fn end(&mut self, call: u64, good: bool, begun_at: u64, now: u64) {
        if self.running == Some(call) {
            self.running = None;
        }
        if good {
            (self.heard_at, self.failed_at) = (begun_at, None);
        } else {
            self.failed_at = Some(now);
        }
    }

    /// What comes next for a question that was put when `came` pulls had begun.
    pub(crate) fn consult(&self, came: u64, now: u64) -> Consulting {
        if self.failed_at.is_some_and(|failed_at| now.saturating_sub(failed_at) < RETRY_MS) {
            return Consulting::Over(false);
        }
        let counts = self.count > came;
        match self.under_way(now) {
            Some(call) => Consulting::Waits { call, counts },
            None if counts => Consulting::Over(self.failed_at.is_none()),
            None => Consulting::Begins,
        }
    }
}

pub(crate) struct Gate {
    pub(crate) hub: usize,
    pub(crate) clock_offset: i64,
    pub(crate) replica: Replica,
    pub(crate) hub_pulls: Pulls,
    pub(crate) origin_pulls: Pulls,
    mutant: Option<Mutant>,
    /// What a broken rule makes of freshness and position.
    claimed: Option<(Timestamp, Position)>,
    /// Whether an urgent frame moved its position or its freshness.
    pub(crate) moved_by_urgent: bool,
    /// Whether it saw that its clock is behind.
    pub(crate) reported: bool,
    pub(crate) life: u64,
}

impl Gate {
    pub(crate) fn new(hub: usize, clock_offset: i64, mutant: Option<Mutant>) -> Self {
        Self {
            hub,
            clock_offset,
            replica: Replica::new(),
            hub_pulls: Pulls::default(),
            origin_pulls: Pulls::default(),
            mutant,
            claimed: None,
            moved_by_urgent: false,
            reported: false,
            life: 0,
        }
    }

    /// Comes back with nothing.
    pub(crate) fn restart(&mut self, now: u64) {
        let life = self.life + 1;
        *self = Self { life, ..Self::new(self.hub, self.clock_offset, self.mutant) };
        if self.mutant == Some(Mutant::EmptyIsFresh) {
            self.claimed = Some((self.clock(now), self.replica.position()));
        }
    }

    pub(crate) fn clock(&self, now: u64) -> Timestamp {
        Timestamp::from_millis(now.saturating_add_signed(self.clock_offset))
    }

    pub(crate) fn freshness(&self) -> Freshness {
        let own = self.replica.freshness();
        match (self.claimed, own) {
            (_, Freshness::ClockBehind(as_of)) if self.mutant == Some(Mutant::ClockForgotten) => Freshness::AsOf(as_of),
            (Some((claimed, _)), Freshness::AsOf(as_of)) => Freshness::AsOf(claimed.max(as_of)),
            (Some((claimed, _)), _) => Freshness::AsOf(claimed),
            (None, own) => own,
        }
    }

    pub(crate) fn position(&self) -> Position {
        self.claimed.map_or(self.replica.position(), |(_, position)| position)
    }

    /// Takes in frames.
    pub(crate) fn accept(&mut self, mut bytes: &[u8], signatures: Signatures, now: u64) -> bool {
        let key = [signatures.key()];
        while !bytes.is_empty() {
            let Ok((frame, rest)) = UnverifiedFrame::split(bytes) else { return false };
            let Ok(frame) = frame.verify(&signatures, &key) else { return false };
            let before = (self.freshness(), self.position());
            let accepted = self.replica.accept(&frame);
            let header = frame.header();
            let wrongly = match self.mutant {
                Some(Mutant::FreshOverGaps) => accepted == Accepted::Gap && header.kind == FrameKind::Delta,
                Some(Mutant::HeartbeatIsData) => frame.is_heartbeat() && accepted == Accepted::Gap,
                Some(Mutant::UrgentIsData) => header.kind == FrameKind::Urgent,
                _ => false,
            };
            if wrongly && self.replica.freshness() != Freshness::Unsynced {
                let cursor = match self.mutant {
                    Some(Mutant::HeartbeatIsData | Mutant::UrgentIsData) => header.upto,
                    _ => self.replica.position().cursor,
                };
                self.claimed = Some((header.as_of, Position { cursor, ..self.replica.position() }));
            }
            let is_moved = (self.freshness(), self.position()) != before;
            self.moved_by_urgent |= header.kind == FrameKind::Urgent && is_moved;
            bytes = rest;
        }
        let clock = self.clock(now);
        self.replica.check_clock(clock, SKEW_MAX);
        self.reported |= matches!(self.replica.freshness(), Freshness::ClockBehind(_));
        let early = Duration::from_secs(if self.mutant == Some(Mutant::ForgetsEarly) { 7_200 } else { 0 });
        self.replica.prune(clock.saturating_add(early));
        true
    }

    pub(crate) fn pulls(&mut self, source: Source) -> &mut Pulls {
        match source {
            Source::Hub => &mut self.hub_pulls,
            Source::Origin => &mut self.origin_pulls,
        }
    }

    /// Whether the hub was heard of so long ago that something may have been missed.
    pub(crate) fn is_idle(&self, now: u64) -> bool {
        now.saturating_sub(self.hub_pulls.heard_at) >= LATELY_MS && self.hub_pulls.failed_at.is_none()
    }

    /// What becomes of a request.
    pub(crate) fn judge<'a>(
        &mut self,
        route: &Route,
        token: &'a AccessToken,
        is_idle: bool,
        inquiry: Inquiry,
        now: u64,
    ) -> Decision<'a> {
        let clock = self.clock(now);
        let freshness = match self.freshness() {
            Freshness::AsOf(as_of) if self.mutant == Some(Mutant::NoSkew) => {
                Freshness::AsOf(as_of.saturating_add(SKEW_MAX).min(clock))
            }
            freshness => freshness,
        };
        if self.mutant == Some(Mutant::DeniesAll) {
            return Decision::Deny(Denied::Stale);
        }
        let view = View { floors: self.replica.floors(), freshness, inquiry, skew_max: SKEW_MAX };
        match decide(route, Credential::Token(token), view, clock) {
            Decision::Allow(_) if is_idle && inquiry == Inquiry::default() => Decision::Ask(Source::Hub),
            decision => {
                if matches!(decision, Decision::Allow(_)) {
                    token.teach(&mut self.replica, LEARN_MARGIN);
                }
                decision
            }
        }
    }
}

/// Notes that a source was asked.
pub(crate) fn noted(inquiry: Inquiry, source: Source, good: bool) -> Inquiry {
    let asked = if good { Asked::Answered } else { Asked::InVain };
    match source {
        Source::Hub => Inquiry { hub: asked, ..inquiry },
        Source::Origin => Inquiry { origin: asked, ..inquiry },
    }
}

/// A route of each kind.
pub(crate) fn route(assurance: Assurance, on_stale: OnStale, staleness_ms_max: u64) -> Route {
    Route {
        id: format!("{assurance:?} {on_stale:?}"),
        sign_in: None,
        host: None,
        path: PathPattern::Under("/".to_owned()),
        methods: None,
        access: Access::Session(Requirements::default()),
        assurance,
        staleness_ms_max,
        on_stale,
        upstream: "app".to_owned(),
    }
}
