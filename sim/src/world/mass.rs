//! Sessions end by the thousand while the link to a region is slow, then a tenant: its floor does not wait for theirs.

use super::{Event, World};
use crate::faults::{Fault, Sizes};
use crate::identity::{Held, TENANTS};
use crate::origin::Lengths;
use fastrand::Rng;
use shared::decision::{Decision, Denied, Inquiry};
use shared::revocation::Floor;

/// One run in so many.
const ONE_IN: u32 = 5;

/// How long it is after an acknowledged end of a tenant until every gate behind a link of at least [`BYTES_PER_MS_MIN`] refuses
/// its tokens: the piece that is under way, the one after it, which begins with the floor, and a pull of the gate.
const OVERTAKES_MS: u64 = 2_500;

/// 128 kbit/s, at which the first piece takes 0.9 s.
const BYTES_PER_MS_MIN: u64 = 16;
const BYTES_PER_MS_MAX: u64 = 24;

/// How long the link would take for the floors of the sessions alone; longer than until the tenant's must be there.
const CARRIES_MS_MIN: u64 = 4_500;
const CARRIES_MS_MAX: u64 = 6_000;

/// The pauses before the sessions end, and from then until the tenant does.
const PAUSE_MS: u64 = 300;
const TENANT_MS_MAX: u64 = 800;

/// What else may pass until the hub has everything: the round trips of the pieces, and frames around the floors.
const SLACK_MS: u64 = 3_500;

/// A hub that lacks so many floors is far from the head.
const FAR: u64 = 256;

pub(super) struct Mass {
    hub: usize,
    bytes_per_ms: u64,
    count: u64,
    tenant: usize,
    /// Whether nothing else goes wrong, so that it can be said how long things take.
    is_alone: bool,
    pub(super) lengths: Lengths,
    /// Where the log ended with the floors of the sessions.
    upto: u64,
    /// A token of the tenant.
    token: Option<usize>,
    /// The end of the tenant.
    floor: Option<Floor>,
}

impl Mass {
    /// In some runs.
    pub(super) fn some(rng: &mut Rng, sizes: Sizes) -> Option<Self> {
        if rng.u32(..ONE_IN) != 0 {
            return None;
        }
        let bytes_per_ms = rng.u64(BYTES_PER_MS_MIN..=BYTES_PER_MS_MAX);
        let bytes = bytes_per_ms * rng.u64(CARRIES_MS_MIN..=CARRIES_MS_MAX);
        // In one case deltas do, in the other the hub needs a snapshot, after which deltas must do.
        let recent_max = if rng.bool() { u64::MAX } else { 64 };
        Some(Self {
            hub: rng.usize(..sizes.hubs),
            bytes_per_ms,
            count: bytes / Floor::ENCODED_LEN as u64,
            tenant: rng.usize(..TENANTS),
            is_alone: rng.u32(..3) != 0,
            lengths: Lengths { recent_max, part_floors: 64 },
            upto: 0,
            token: None,
            floor: None,
        })
    }
}

impl World {
    /// Makes the link slow, and plans what happens meanwhile; how long the round lasts.
    pub(super) fn begin_mass(&mut self) -> Option<u64> {
        let mass = self.mass.as_ref()?;
        if mass.is_alone {
            self.faults.clear();
        }
        self.faults.push(Fault::Slow(mass.hub, mass.bytes_per_ms));
        let carries_ms = mass.count * Floor::ENCODED_LEN as u64 / mass.bytes_per_ms;
        self.after(PAUSE_MS, Event::EndMany);
        Some(PAUSE_MS + carries_ms + carries_ms / 5 + SLACK_MS)
    }

    pub(super) fn end_many(&mut self) {
        let now = self.clock();
        let Some(mass) = &mut self.mass else { return };
        if let Some(token) = self.identities.open_in(mass.tenant, &mut self.rng, now) {
            mass.token = Some(self.tokens.len());
            self.tokens.push(Held { token, dead_since: None });
        }
        let floors = self.identities.end_many(mass.count, &mut self.rng, now);
        mass.upto = self.store.head() + mass.count;
        self.tell(|| format!("{} sessions end", floors.len()));
        self.raised(&floors);
        self.after_up_to(TENANT_MS_MAX, Event::EndTenant);
    }

    pub(super) fn end_tenant(&mut self) {
        let now = self.clock();
        let Some(mass) = &mut self.mass else { return };
        mass.floor = self.identities.end_tenant(mass.tenant, now);
        let Some(floor) = mass.floor else { return };
        self.tell(|| format!("a tenant ends: {floor:?}"));
        let acknowledged_at = self.raised(&[floor]);
        self.after(acknowledged_at - self.now + OVERTAKES_MS, Event::Overtaken);
    }

    /// I1: who has a slow hub knows the end of a tenant in time, and refuses for it however old all else is that it knows.
    pub(super) fn overtaken(&mut self) -> Result<(), String> {
        let Some(mass) = self.mass.as_ref().filter(|mass| mass.is_alone) else { return Ok(()) };
        let (Some(floor), Some(held)) = (mass.floor, mass.token.and_then(|token| self.tokens.get(token))) else {
            return Ok(());
        };
        let lacks = self.store.head().saturating_sub(self.hubs[mass.hub].hub.position().cursor.0);
        for (number, gate) in self.gates.iter_mut().enumerate() {
            // By a clock that is wrong a good token may be one of the future.
            if gate.hub != mass.hub || self.wrong_clock == Some(number) {
                continue;
            }
            if gate.replica.floors().lowest(&floor.key) < floor.lowest {
                return Err(format!(
                    "I1: gate {number} behind a slow link does not know of the end of a tenant {OVERTAKES_MS} ms after it"
                ));
            }
            for route in &self.routes {
                let decision = gate.judge(route, &held.token, false, Inquiry::default(), self.now);
                if !matches!(decision, Decision::Deny(Denied::Revoked(_))) {
                    return Err(format!(
                        "I1: gate {number} knows of the end of a tenant and came to {decision:?} on {}",
                        route.id
                    ));
                }
            }
            self.report.overtook += u64::from(lacks > FAR);
        }
        Ok(())
    }

    /// Liveness: a slow link has carried everything by the end of the round.
    pub(super) fn check_mass(&self) -> Result<(), String> {
        let Some(mass) = self.mass.as_ref().filter(|mass| mass.is_alone) else { return Ok(()) };
        let (hub, stands_at) = (mass.hub, self.hubs[mass.hub].hub.position().cursor.0);
        if stands_at < mass.upto {
            return Err(format!("liveness: hub {hub} behind a slow link stands at {stands_at} of {}", mass.upto));
        }
        Ok(())
    }
}
