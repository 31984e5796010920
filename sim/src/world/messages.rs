//! Calls from node to node.

use super::{Body, Call, Event, Message, Pending, World};
use crate::check::holds_what_it_claims;
use crate::faults::{Fate, Fault, HEARTBEAT_BYTES, Node, fate, heartbeats, is_cut};
use core::time::Duration;
use shared::hub::Pull;

impl World {
    pub(super) fn call(&mut self, from: Node, to: Node, body: Body, call: Call, timeout_ms: u64) -> u64 {
        let number = self.number();
        self.calls.insert(number, call);
        self.after(timeout_ms, Event::TimedOut(number));
        self.send(Message { call: number, from, to, body });
        number
    }

    pub(super) fn send(&mut self, message: Message) {
        self.report.messages += 1;
        let is_data = matches!(&message.body, Body::Push(frames) if frames.len() > HEARTBEAT_BYTES);
        let bytes = match &message.body {
            Body::Push(frames) | Body::Frames(frames) => frames.len(),
            Body::PushAnswer(..) | Body::Pull(_) | Body::PullCurrent(_) => 0,
        };
        let way = (message.from, message.to);
        match fate(&mut self.rng, &self.faults, self.sizes, way, bytes, is_data) {
            Fate::Lost => self.report.lost += 1,
            Fate::Held => {
                self.report.lost += 1;
                self.held.push(message);
            }
            Fate::Arrives(delays) => {
                for delay in delays {
                    self.after(delay, Event::Deliver(message.clone()));
                }
            }
        }
    }

    pub(super) fn deliver(&mut self, message: Message) -> Result<(), String> {
        let Message { call, from, to, body } = message;
        if is_cut(&self.faults, from, to) {
            self.report.lost += 1;
            return Ok(());
        }
        if !self.is_up(to) {
            // The connection is refused.
            self.after(1, Event::TimedOut(call));
            return Ok(());
        }
        let signatures = self.plan.signatures;
        let body = match (from, to, body) {
            (Node::Hub(_), Node::Gate(gate), Body::Frames(frames)) if self.faults.contains(&Fault::Stripped(gate)) => {
                Body::Frames(heartbeats(&frames))
            }
            (_, _, body) => body,
        };
        let answer = match (to, body) {
            (Node::Hub(hub), Body::Push(frames)) => {
                let stored = self.take(hub, &frames)?;
                Body::PushAnswer(stored, self.hubs[hub].hub.position())
            }
            (Node::Hub(hub), Body::Pull(Pull::Since(position))) => {
                let Ok(frames) = self.hubs[hub].hub.since(position);
                Body::Frames(frames)
            }
            (Node::Origin(origin), Body::Pull(pull)) => Body::Frames(match pull {
                Pull::Snapshot => self.origins[origin].everything(&self.store, signatures),
                Pull::Since(position) => self.origins[origin].frames_since(position, &self.store, signatures),
            }),
            (Node::Origin(origin), Body::PullCurrent(position)) => {
                let (head, as_of) = (self.store.head(), self.now);
                let node = &mut self.origins[origin];
                node.read(&self.store, head, as_of);
                Body::Frames(node.frames_since(position, &self.store, signatures))
            }
            (_, body) => return self.answered(call, Some(body)),
        };
        self.send(Message { call, from: to, to: from, body: answer });
        Ok(())
    }

    /// A call came to its end; without an answer it failed.
    pub(super) fn answered(&mut self, number: u64, answer: Option<Body>) -> Result<(), String> {
        let Some(call) = self.calls.remove(&number) else { return Ok(()) };
        let frames = match &answer {
            Some(Body::Frames(frames)) => Some(frames.as_slice()),
            _ => None,
        };
        match call {
            Call::Push { origin, life, hub, piece, begun_at } if self.origins[origin].life == life => {
                let answer = match answer {
                    Some(Body::PushAnswer(stored, position)) => Some((stored, position)),
                    _ => None,
                };
                self.pushed(origin, hub, &piece, Duration::from_millis(self.now - begun_at), answer);
            }
            Call::Push { .. } => {}
            Call::HubPull { hub } => {
                if self.hubs[hub].pulling == Some(number) {
                    self.hubs[hub].pulling = None;
                    if let Some(frames) = frames {
                        self.take(hub, frames)?;
                    }
                    self.look_later(hub);
                }
            }
            Call::GatePull { gate, life, source, begun_at } if self.gates[gate].life == life => {
                let signatures = self.plan.signatures;
                let good = frames.is_some_and(|frames| self.gates[gate].accept(frames, signatures, self.now));
                self.gates[gate].pulls(source).end(number, good, begun_at, self.now);
                self.accepted(gate)?;
                let waits = |pending: &Pending| pending.waits.is_some_and(|waits| waits.call == number);
                let waiting = self.pending.iter().filter(|(_, pending)| waits(pending));
                for request in waiting.map(|(request, _)| *request).collect::<Vec<_>>() {
                    self.go_on(request, good)?;
                }
            }
            Call::GatePull { .. } => {}
        }
        Ok(())
    }

    pub(super) fn accepted(&mut self, gate: usize) -> Result<(), String> {
        let (freshness, position) = (self.gates[gate].freshness(), self.gates[gate].position());
        self.tell(|| format!("gate {gate}: {freshness:?}, stands at {position:?}"));
        self.mix(position.cursor.0);
        if self.gates[gate].moved_by_urgent {
            return Err(format!("I5: gate {gate} is {freshness:?} at {position:?} by an urgent frame"));
        }
        let holds = holds_what_it_claims(freshness, self.gates[gate].replica.floors(), &self.store);
        holds.map_err(|what| format!("gate {gate}: {what}"))
    }

    pub(super) fn is_up(&self, node: Node) -> bool {
        match node {
            Node::Origin(origin) => self.origins[origin].up,
            Node::Hub(hub) => self.hubs[hub].up,
            Node::Gate(_) => true,
        }
    }
}
