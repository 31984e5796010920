//! What happens to messages and nodes for a while.

use fastrand::Rng;
use shared::feed::{HEADER_LEN, SIGNATURE_LEN, UnverifiedFrame};

/// A heartbeat has so many bytes; whatever is longer brings something, but for the snapshot of an empty log.
pub(crate) const HEARTBEAT_BYTES: usize = HEADER_LEN + SIGNATURE_LEN;

/// A node, by its number among those of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Origin(usize),
    Hub(usize),
    Gate(usize),
}

/// Something that goes wrong until all is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing gets from one node to another.
    Cut(Node, Node),
    /// Nothing gets to a node, or from it.
    CutOff(Node),
    /// One message in so many is lost.
    Loss(u32),
    /// One message in so many comes twice, the second some time later.
    Duplication(u32),
    /// Messages take up to so many milliseconds, and overtake each other.
    Reordering(u64),
    /// What origins push to a hub is kept back unless it is a heartbeat, and delivered after the fault.
    HeldData(usize),
    /// What a hub hands to a gate loses everything on the way but heartbeats.
    Stripped(usize),
    /// A node stops and comes back when all is healed.
    Down(Node),
    /// A gate is replaced by an empty one at once.
    Reset(usize),
    /// What origins send to a hub, or to one of its gates, takes a millisecond for so many bytes.
    Slow(usize, u64),
}

/// How many nodes there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) origins: usize,
    pub(crate) hubs: usize,
    pub(crate) gates: usize,
}

impl Sizes {
    /// The hub of a gate.
    pub(crate) fn hub_of(self, gate: usize) -> usize {
        gate % self.hubs
    }

    /// Whether a node is a hub, or one of its gates.
    fn is_of(self, node: Node, hub: usize) -> bool {
        match node {
            Node::Origin(_) => false,
            Node::Hub(number) => number == hub,
            Node::Gate(gate) => self.hub_of(gate) == hub,
        }
    }
}

/// One to three faults.
pub(crate) fn some(rng: &mut Rng, sizes: Sizes) -> Vec<Fault> {
    (0..rng.usize(1..=3)).map(|_| one(rng, sizes)).collect()
}

fn one(rng: &mut Rng, sizes: Sizes) -> Fault {
    let (origin, hub, gate) = (rng.usize(..sizes.origins), rng.usize(..sizes.hubs), rng.usize(..sizes.gates));
    match rng.u32(..14) {
        0 => Fault::Cut(Node::Origin(origin), Node::Hub(hub)),
        1 => Fault::Cut(Node::Hub(hub), Node::Origin(origin)),
        2 => Fault::CutOff(Node::Hub(hub)),
        3 => Fault::CutOff(Node::Origin(origin)),
        4 => Fault::CutOff(Node::Gate(gate)),
        5 => Fault::Loss(rng.u32(2..10)),
        6 => Fault::Duplication(rng.u32(1..5)),
        7 => Fault::Reordering(rng.u64(50..700)),
        8 => Fault::HeldData(hub),
        9 => Fault::Down(Node::Hub(hub)),
        10 => Fault::Down(Node::Origin(origin)),
        11 => Fault::Reset(gate),
        12 => Fault::Stripped(gate),
        _ => Fault::Cut(Node::Hub(hub), Node::Gate(gate)),
    }
}

/// What becomes of one message.
pub(crate) enum Fate {
    Lost,
    /// It arrives after so many milliseconds, each time.
    Arrives(Vec<u64>),
    /// It arrives when all is healed.
    Held,
}

/// The fate of a message of `bytes` that is sent now. `is_data` says whether an origin pushes more than a heartbeat.
pub(crate) fn fate(
    rng: &mut Rng,
    faults: &[Fault],
    sizes: Sizes,
    (from, to): (Node, Node),
    bytes: usize,
    is_data: bool,
) -> Fate {
    let (mut delay, mut copies) = (rng.u64(1..15), 1);
    for fault in faults {
        match *fault {
            Fault::Cut(..) | Fault::CutOff(_) if is_cut(faults, from, to) => return Fate::Lost,
            Fault::HeldData(hub) if is_data && to == Node::Hub(hub) => return Fate::Held,
            Fault::Loss(one_in) if rng.u32(..one_in) == 0 => return Fate::Lost,
            Fault::Duplication(one_in) if rng.u32(..one_in) == 0 => copies = 2,
            Fault::Slow(hub, bytes_per_ms) if matches!(from, Node::Origin(_)) && sizes.is_of(to, hub) => {
                delay += bytes as u64 / bytes_per_ms.max(1);
            }
            Fault::Reordering(up_to) => delay += rng.u64(..up_to),
            _ => {}
        }
    }
    let again = |copy: u64| delay + copy * 37;
    Fate::Arrives((0..copies).map(again).collect())
}

/// The heartbeats among frames.
pub(crate) fn heartbeats(frames: &[u8]) -> Vec<u8> {
    let (mut kept, mut rest) = (Vec::new(), frames);
    while let Ok((_, after)) = UnverifiedFrame::split(rest) {
        let frame = rest.get(..rest.len() - after.len()).unwrap_or_default();
        if frame.len() == HEARTBEAT_BYTES {
            kept.extend_from_slice(frame);
        }
        rest = after;
    }
    kept
}

/// Whether nothing gets from one node to another.
pub(crate) fn is_cut(faults: &[Fault], from: Node, to: Node) -> bool {
    faults.iter().any(|fault| match *fault {
        Fault::Cut(a, b) => (a, b) == (from, to),
        Fault::CutOff(node) => node == from || node == to,
        _ => false,
    })
}
