//! Writes, and what origins and hubs do.

use super::{
    Body, Call, Event, FAILURES_MAX, HEARTBEAT_MS, PAUSE_MS_MAX, PAUSE_MS_MIN, PUSH_TIMEOUT_MS, Pushing, TAIL_MS,
    World, millis,
};
use crate::Mutant;
use crate::check::holds_what_it_claims;
use crate::faults::Node;
use crate::identity::{Done, Held};
use crate::pieces::Piece;
use core::time::Duration;
use shared::feed::{FrameKind, frames};
use shared::hub::{PULL_TIMEOUT, Stored};
use shared::replica::{Freshness, Position};
use shared::revocation::Floor;
use shared::time::Timestamp;

impl World {
    pub(super) fn act(&mut self) {
        let wait = self.rng.u64(20..300);
        self.after(wait, Event::Act);
        if !self.acting {
            return;
        }
        let now = self.clock();
        match self.identities.act(&mut self.rng, now) {
            Done::Nothing => {}
            Done::Token(token) => self.tokens.push(Held { token: *token, dead_since: None }),
            Done::Raised(floor) => {
                self.tell(|| format!("floor {floor:?}"));
                self.raised(&[floor]);
            }
        }
    }

    /// Floors rose: they are in the log, and acknowledged soon; when, comes back.
    pub(super) fn raised(&mut self, floors: &[Floor]) -> u64 {
        for floor in floors {
            self.store.append(*floor, self.now);
        }
        self.report.floors += floors.len() as u64;
        let acknowledged_at = self.now + self.rng.u64(1..30);
        let floors = self.identities.floors();
        for held in self.tokens.iter_mut().filter(|held| held.dead_since.is_none()) {
            held.dead_since = held.token.revoked_by(floors).map(|_| acknowledged_at);
        }
        for origin in 0..self.sizes.origins {
            self.plan_read(origin);
        }
        acknowledged_at
    }

    pub(super) fn start_origin(&mut self, origin: usize) {
        let life = self.origins[origin].life;
        self.after_up_to(TAIL_MS, Event::Tail { origin, life });
        for hub in 0..self.sizes.hubs {
            let turn = self.pushes[origin][hub].turn + 1;
            self.pushes[origin][hub] = Pushing { turn, ..Pushing::default() };
            self.after_up_to(20, Event::Push { origin, hub, turn });
        }
    }

    pub(super) fn tail(&mut self, origin: usize, life: u64) {
        if self.origins[origin].up && self.origins[origin].life == life {
            self.plan_read(origin);
            self.after(TAIL_MS, Event::Tail { origin, life });
        }
    }

    pub(super) fn plan_read(&mut self, origin: usize) {
        let (life, head, as_of) = (self.origins[origin].life, self.store.head(), self.now);
        let wait = self.rng.u64(1..6);
        self.after(wait, Event::Read { origin, life, head, as_of });
    }

    pub(super) fn read(&mut self, origin: usize, life: u64, head: u64, as_of: u64) -> Result<(), String> {
        let node = &mut self.origins[origin];
        if !node.up || node.life != life {
            return Ok(());
        }
        // A read that was overtaken by a later one changes nothing but the clock.
        let as_of = if self.plan.mutant == Some(Mutant::ClockAfterHead) { self.now + 1 } else { as_of };
        let is_news = head > node.cursor;
        if head >= node.cursor {
            node.read(&self.store, head, as_of);
        }
        let claimed = Freshness::AsOf(Timestamp::from_millis(node.as_of));
        holds_what_it_claims(claimed, &node.floors, &self.store).map_err(|what| format!("origin {origin}: {what}"))?;
        for hub in 0..self.sizes.hubs {
            let pushing = &self.pushes[origin][hub];
            if is_news && !pushing.under_way && pushing.failures == 0 {
                self.plan_push(origin, hub, 0);
            }
        }
        Ok(())
    }

    pub(super) fn plan_push(&mut self, origin: usize, hub: usize, wait: u64) {
        let pushing = &mut self.pushes[origin][hub];
        pushing.turn += 1;
        let turn = pushing.turn;
        self.after(wait, Event::Push { origin, hub, turn });
    }

    pub(super) fn push(&mut self, origin: usize, hub: usize, turn: u64) {
        let (node, pushing) = (&self.origins[origin], &mut self.pushes[origin][hub]);
        if !node.up || pushing.turn != turn || pushing.under_way {
            return;
        }
        if !self.holds_lease(origin, hub) {
            let pushing = &mut self.pushes[origin][hub];
            // What the hub will have by the time that it is this one's turn is not known.
            (pushing.position, pushing.failures) = (None, 0);
            pushing.pieces.failed();
            self.plan_push(origin, hub, HEARTBEAT_MS);
            return;
        }
        let (node, pushing) = (&self.origins[origin], &mut self.pushes[origin][hub]);
        pushing.under_way = true;
        let (signatures, mutant) = (self.plan.signatures, self.plan.mutant);
        let mut piece = match pushing.position {
            Some(position) => pushing.pieces.next(node, position, &self.store, signatures, mutant),
            None => Piece::alone(node.heartbeat(signatures), node.position()),
        };
        let frames = core::mem::take(&mut piece.frames);
        let call = Call::Push { origin, life: node.life, hub, piece, begun_at: self.now };
        self.call(Node::Origin(origin), Node::Hub(hub), Body::Push(frames), call, PUSH_TIMEOUT_MS);
    }

    /// Whether an origin may push to a hub. Where there are leases one at a time does, and another if that one is down.
    fn holds_lease(&mut self, origin: usize, hub: usize) -> bool {
        let Some(holder) = self.leases.get_mut(hub) else { return true };
        if !self.origins[*holder].up {
            *holder = origin;
        }
        *holder == origin
    }

    pub(super) fn pushed(
        &mut self,
        origin: usize,
        hub: usize,
        piece: &Piece,
        took: Duration,
        answer: Option<(Stored, Position)>,
    ) {
        let own = self.origins[origin].position();
        let pushing = &mut self.pushes[origin][hub];
        pushing.under_way = false;
        let known = pushing.position.is_some();
        pushing.position = answer.map(|(_, position)| position);
        let wait = match answer {
            Some((stored, position)) if stored != Stored::Gap && position.has_all_of(piece.end) => {
                pushing.pieces.taken(piece, took);
                (pushing.gaps, pushing.failures) = (0, 0);
                if position.has_all_of(own) { HEARTBEAT_MS } else { 0 }
            }
            Some(_) if !(known && pushing.gaps >= 2) => {
                pushing.pieces.missed();
                pushing.gaps += 1;
                0
            }
            _ => {
                pushing.pieces.failed();
                pushing.failures += 1;
                if let Some(holder) = self.leases.get_mut(hub)
                    && pushing.failures.is_multiple_of(FAILURES_MAX)
                    && *holder == origin
                {
                    // Another origin may reach the hub.
                    *holder = (origin + 1) % self.sizes.origins;
                }
                let pause = PAUSE_MS_MIN << pushing.failures.min(10);
                self.rng.u64(PAUSE_MS_MIN..=pause.min(PAUSE_MS_MAX))
            }
        };
        self.plan_push(origin, hub, wait);
    }

    pub(super) fn look(&mut self, hub: usize) {
        let node = &mut self.hubs[hub];
        let now = Timestamp::from_millis(self.now.saturating_add_signed(node.clock_offset));
        let wanted = node.hub.wants(now).filter(|_| node.up && node.pulling.is_none());
        match wanted.filter(|_| self.plan.mutant != Some(Mutant::HubNeverPulls)) {
            None => self.look_later(hub),
            Some(pull) => {
                let origin = self.rng.usize(..self.sizes.origins);
                let (from, to) = (Node::Hub(hub), Node::Origin(origin));
                let call = self.call(from, to, Body::Pull(pull), Call::HubPull { hub }, millis(PULL_TIMEOUT));
                self.hubs[hub].pulling = Some(call);
            }
        }
    }

    pub(super) fn look_later(&mut self, hub: usize) {
        let node = &self.hubs[hub];
        let now = Timestamp::from_millis(self.now.saturating_add_signed(node.clock_offset));
        let pause = millis(node.hub.look_after(now));
        self.after(pause, Event::Look(hub));
    }

    /// Takes in frames one by one, so that it is seen what each of them does.
    pub(super) fn take(&mut self, hub: usize, bytes: &[u8]) -> Result<Stored, String> {
        let (signatures, keys) = (self.plan.signatures, [self.plan.signatures.key()]);
        let node = &mut self.hubs[hub];
        let now = Timestamp::from_millis(self.now.saturating_add_signed(node.clock_offset));
        let mut stored = Stored::Known;
        for frame in frames(bytes, &signatures, &keys) {
            let frame = frame.map_err(|error| format!("hub {hub} was sent what is no frame: {error}"))?;
            let before = node.hub.position();
            let taken = node.hub.take(frame.as_bytes(), &signatures, &keys, now);
            stored = taken.map_err(|error| format!("hub {hub} refused a frame: {error:?}"))?;
            if frame.header().kind == FrameKind::Urgent && node.hub.position() != before {
                return Err(format!("I5: an urgent frame moved hub {hub} from {before:?}"));
            }
        }
        let position = node.hub.position();
        self.tell(|| format!("hub {hub}: {stored:?}, stands at {position:?}"));
        Ok(stored)
    }
}
