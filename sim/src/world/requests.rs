//! Requests at the gates, and what they come to.

use super::{ADMIT_MS, BOUND_MS, Body, Call, Event, Pending, RECENT_TOKENS, Waits, World};
use crate::faults::Node;
use crate::gate::{Consulting, PULL_MS_MAX, noted};
use shared::decision::{Decision, Denied, Inquiry, Source};
use shared::hub::Pull;
use shared::policy::{Assurance, OnStale};
use shared::replica::Freshness;
use shared::token::TokenError;

impl World {
    pub(super) fn request(&mut self, gate: usize) -> Result<(), String> {
        let wait = self.rng.u64(50..150);
        self.after(wait, Event::Request(gate));
        // Mostly those that were made lately, since most others are over.
        let reach = if self.rng.u32(..3) == 0 { self.tokens.len() } else { RECENT_TOKENS.min(self.tokens.len()) };
        let token = self.tokens.len().saturating_sub(1 + self.rng.usize(..reach.max(1)));
        let node = &self.gates[gate];
        let (life, is_idle, route) = (node.life, node.is_idle(self.now), self.rng.usize(..self.routes.len()));
        let request = self.number();
        let (inquiry, waits, turn) = (Inquiry::default(), None, 0);
        let pending = Pending { gate, life, token, route, came_at: self.now, is_idle, inquiry, waits, turn };
        self.judge(request, pending)?;
        if self.gates[gate].hub_pulls.is_due(self.now) {
            self.pull(gate, Source::Hub);
        }
        Ok(())
    }

    pub(super) fn pull(&mut self, gate: usize, source: Source) -> u64 {
        let node = &self.gates[gate];
        let (to, body) = match source {
            Source::Hub => (Node::Hub(node.hub), Body::Pull(Pull::Since(node.position()))),
            Source::Origin => (Node::Origin(self.rng.usize(..self.sizes.origins)), Body::PullCurrent(node.position())),
        };
        let call = Call::GatePull { gate, life: node.life, source, begun_at: self.now };
        let call = self.call(Node::Gate(gate), to, body, call, PULL_MS_MAX);
        self.gates[gate].pulls(source).begin(call, self.now);
        call
    }

    pub(super) fn judge(&mut self, request: u64, pending: Pending) -> Result<(), String> {
        let gate = &mut self.gates[pending.gate];
        let Some(held) = self.tokens.get(pending.token).filter(|_| gate.life == pending.life) else { return Ok(()) };
        let token = held.token.clone();
        let route = &self.routes[pending.route];
        match gate.judge(route, &token, pending.is_idle, pending.inquiry, self.now) {
            Decision::Ask(source) => {
                let came = gate.pulls(source).count;
                self.consult(request, pending, source, came)
            }
            decision => self.conclude(&pending, decision),
        }
    }

    /// Lets a request wait until a source was asked that knew of it.
    pub(super) fn consult(
        &mut self,
        request: u64,
        mut pending: Pending,
        source: Source,
        came: u64,
    ) -> Result<(), String> {
        let gate = pending.gate;
        let (call, counts) = match self.gates[gate].pulls(source).consult(came, self.now) {
            Consulting::Over(good) => {
                pending.inquiry = noted(pending.inquiry, source, good);
                return self.judge(request, pending);
            }
            Consulting::Waits { call, counts } => (call, counts),
            Consulting::Begins => (self.pull(gate, source), true),
        };
        pending.turn += 1;
        pending.waits = Some(Waits { source, came, call, counts });
        self.after(PULL_MS_MAX, Event::Waited { request, turn: pending.turn });
        self.pending.insert(request, pending);
        Ok(())
    }

    pub(super) fn waited(&mut self, request: u64, turn: u64) -> Result<(), String> {
        if self.pending.get(&request).is_some_and(|pending| pending.turn == turn) {
            self.go_on(request, false)
        } else {
            Ok(())
        }
    }

    /// The pull that a request waits for has ended, or takes too long.
    pub(super) fn go_on(&mut self, request: u64, good: bool) -> Result<(), String> {
        let Some(mut pending) = self.pending.remove(&request) else { return Ok(()) };
        let Some(waits) = pending.waits.take() else { return Ok(()) };
        if self.gates[pending.gate].life != pending.life {
            return Ok(());
        }
        if waits.counts {
            pending.inquiry = noted(pending.inquiry, waits.source, good);
            return self.judge(request, pending);
        }
        self.consult(request, pending, waits.source, waits.came)
    }

    /// I1, I7 and liveness.
    pub(super) fn conclude(&mut self, pending: &Pending, decision: Decision<'_>) -> Result<(), String> {
        let Some(held) = self.tokens.get(pending.token) else { return Ok(()) };
        let route = &self.routes[pending.route];
        let (gate, on_stale) = (pending.gate, route.on_stale);
        let is_wrong_clock = self.wrong_clock == Some(gate);
        let is_healthy = self.healthy_since.is_some_and(|since| self.now >= since + ADMIT_MS);
        match decision {
            Decision::Allow(_) => {
                self.report.admitted += 1;
                self.report.late += u64::from(held.dead_since.is_some());
                let late_ms = held.dead_since.map_or(0, |since| self.now.saturating_sub(since));
                if on_stale != OnStale::Allow && late_ms > BOUND_MS {
                    return Err(format!(
                        "I1: gate {gate} admitted a token {late_ms} ms after its end was acknowledged"
                    ));
                }
                let known = match self.gates[gate].replica.freshness() {
                    Freshness::AsOf(as_of) | Freshness::ClockBehind(as_of) => {
                        self.now.saturating_sub(as_of.as_millis())
                    }
                    Freshness::Unsynced => u64::MAX,
                };
                let before_ms = held.dead_since.map_or(0, |since| pending.came_at.saturating_sub(since));
                if route.assurance == Assurance::Authoritative && before_ms > 0 {
                    return Err(format!(
                        "I1: gate {gate} admitted a token that had ended {before_ms} ms before it came"
                    ));
                }
                if on_stale != OnStale::Allow && known > BOUND_MS {
                    return Err(format!("I1: gate {gate} admitted by what it knew {known} ms before"));
                }
                if on_stale != OnStale::Allow && is_wrong_clock && is_healthy {
                    return Err(format!("I1: gate {gate} admits although its clock is further off than declared"));
                }
            }
            Decision::Deny(Denied::Revoked(scope)) => {
                self.report.refused += 1;
                if held.token.revoked_by(self.identities.floors()).is_none() {
                    return Err(format!("gate {gate} refused a good token for its {}", scope.name()));
                }
            }
            Decision::Deny(Denied::Stale) => {
                self.report.stale += 1;
                if on_stale == OnStale::Allow {
                    return Err(format!("I7: gate {gate} refused on a route that goes on"));
                }
                if is_healthy && !is_wrong_clock {
                    let fresh = self.gates[gate].freshness();
                    return Err(format!("liveness: gate {gate} refuses although all is well; it is {fresh:?}"));
                }
            }
            Decision::Deny(Denied::InvalidToken(TokenError::NotYetValid)) if is_wrong_clock => self.report.stale += 1,
            other => return Err(format!("gate {gate} came to {other:?}")),
        }
        self.mix(u64::from(matches!(decision, Decision::Allow(_))) << 8 | gate as u64);
        Ok(())
    }
}
