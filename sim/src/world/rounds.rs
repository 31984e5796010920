//! Faults, and what must hold during and after them.

use super::{ADMIT_MS, AGREE_MS, Event, ROUNDS, TICK_MS, World, millis, past};
use crate::check::holds_what_it_claims;
use crate::faults::{Fault, Node};
use crate::origin::Origin;
use shared::hub::PAUSE;
use shared::replica::Freshness;

impl World {
    pub(super) fn begin(&mut self) {
        (self.healthy_since, self.acting) = (None, true);
        self.faults = crate::faults::some(&mut self.rng, self.sizes);
        if self.wrong_clock.is_some() {
            // A gate that begins with a wrong clock, and with old frames only, cannot see that it is wrong.
            self.faults.retain(|fault| !matches!(fault, Fault::Reset(_) | Fault::HeldData(_)));
        }
        let mut lasts = self.rng.u64(3_000..9_000);
        if self.rounds == ROUNDS - 1 {
            lasts = self.begin_mass().unwrap_or(lasts);
        }
        let faults = self.faults.clone();
        self.tell(|| format!("faults: {faults:?}"));
        for fault in faults {
            match fault {
                Fault::Down(Node::Origin(origin)) => self.origins[origin].up = false,
                Fault::Down(Node::Hub(hub)) => self.hubs[hub].up = false,
                Fault::Reset(gate) => self.gates[gate].restart(self.now),
                _ => {}
            }
        }
        self.after(lasts, Event::Heal);
    }

    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.check_mass()?;
        self.tell(|| "healed".to_owned());
        for fault in core::mem::take(&mut self.faults) {
            match fault {
                Fault::Down(Node::Origin(origin)) if !self.origins[origin].up => {
                    let life = self.origins[origin].life + 1;
                    self.origins[origin] = Origin::start(&self.store, self.lengths, life, self.now);
                    self.start_origin(origin);
                }
                Fault::Down(Node::Hub(hub)) if !self.hubs[hub].up => {
                    let was_pulling = self.hubs[hub].pulling.is_some();
                    self.hubs[hub].restart();
                    if was_pulling {
                        self.after_up_to(millis(PAUSE), Event::Look(hub));
                    }
                }
                _ => {}
            }
        }
        for message in core::mem::take(&mut self.held) {
            self.after_up_to(100, Event::Deliver(message));
        }
        (self.acting, self.healthy_since) = (false, Some(self.now));
        self.after(AGREE_MS, Event::Compare);
        Ok(())
    }

    /// I9: nobody wrote since the faults were healed, and everybody knows the same.
    pub(super) fn compare(&mut self) -> Result<(), String> {
        let now = self.clock();
        let signatures = self.plan.signatures;
        let expected = self.identities.floors().digest(now);
        let origins =
            self.origins.iter().enumerate().map(|(number, node)| (Node::Origin(number), node.floors.digest(now)));
        let hubs = self.hubs.iter().enumerate();
        let hubs = hubs.map(|(number, node)| (Node::Hub(number), node.replica(signatures).floors().digest(now)));
        let gates = self.gates.iter().enumerate();
        let gates = gates.map(|(number, node)| (Node::Gate(number), node.replica.floors().digest(now)));
        if let Some((node, _)) = origins.chain(hubs).chain(gates).find(|(_, digest)| *digest != expected) {
            return Err(format!("I9: {node:?} has another digest {AGREE_MS} ms after the faults"));
        }
        self.report.agreements += 1;
        self.mix(expected);
        if let Some(gate) = self.wrong_clock.and_then(|gate| self.gates.get(gate))
            && gate.clock_offset < 0
            && !matches!(gate.replica.freshness(), Freshness::ClockBehind(_))
        {
            return Err(format!("a clock that is {} ms off is not reported", gate.clock_offset));
        }
        self.acting = true;
        // Long enough that good tokens were seen to be admitted.
        self.rounds += 1;
        if self.rounds < ROUNDS {
            self.after(ADMIT_MS - AGREE_MS + 1_000, Event::Begin);
        }
        Ok(())
    }

    /// I4 and I5 of every node.
    pub(super) fn tick(&mut self) -> Result<(), String> {
        self.after(TICK_MS, Event::Tick);
        for (number, node) in self.gates.iter().enumerate() {
            let past = past(&mut self.pasts, Node::Gate(number), node.life);
            past.compare(&node.replica).map_err(|what| format!("gate {number}: {what}"))?;
            let holds = holds_what_it_claims(node.freshness(), node.replica.floors(), &self.store);
            holds.map_err(|what| format!("gate {number}: {what}"))?;
        }
        for (number, node) in self.hubs.iter().enumerate() {
            let past = past(&mut self.pasts, Node::Hub(number), 0);
            let held = node.replica(self.plan.signatures);
            let whole = past.compare_floors(held.floors()).and_then(|()| past.compare_position(node.hub.position()));
            whole.map_err(|what| format!("hub {number}: {what}"))?;
            let holds = holds_what_it_claims(held.freshness(), held.floors(), &self.store);
            holds.map_err(|what| format!("hub {number}: {what}"))?;
        }
        for (number, node) in self.origins.iter().enumerate() {
            let past = past(&mut self.pasts, Node::Origin(number), node.life);
            past.compare_floors(&node.floors).map_err(|what| format!("origin {number}: {what}"))?;
        }
        Ok(())
    }
}
