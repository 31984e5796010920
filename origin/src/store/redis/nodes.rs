//! Connections to the nodes of a cluster one by one, for writes that replicas must confirm: `WAIT` speaks for what its own
//! connection wrote, and a connection to a cluster is many.
//!
//! Which node serves a slot is learned from the nodes themselves, by their redirections (`MOVED`), and forgotten when a node
//! fails. A slot that is on its way from one node to another answers with an error until it has arrived.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{Client, ConnectionAddr, ConnectionInfo, TlsCertificates};

use super::{StoreError, address::Source, link::Link};

/// Nodes of one cluster (its specification).
const NODES_MAX: usize = 1_000;

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// Host and port.
type Address = (String, u16);

/// A node, and the connection to it.
#[derive(Clone)]
pub(super) struct Node {
    address: Address,
    pub(super) link: Arc<Link>,
}

/// The nodes that are known, and what they serve.
pub(super) struct Nodes {
    seeds: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
    timeout: Duration,
    turn: AtomicUsize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// At most [`NODES_MAX`].
    links: BTreeMap<Address, Arc<Link>>,
    /// At most [`SLOTS`].
    slots: BTreeMap<u16, Address>,
}

impl Nodes {
    /// Nothing is connected yet.
    pub(super) fn new(seeds: Vec<ConnectionInfo>, certificates: Option<TlsCertificates>, timeout: Duration) -> Self {
        Self { seeds, certificates, timeout, turn: AtomicUsize::new(0), known: Mutex::default() }
    }

    /// The node that serves a slot as far as that is known; one node after the other otherwise.
    pub(super) fn of(&self, slot: u16) -> Result<Node, StoreError> {
        let mut known = self.known();
        let address = known.slots.get(&slot).cloned().or_else(|| self.any(&known));
        let address = address.ok_or_else(|| StoreError::Unavailable("no node is known".to_owned()))?;
        let link = match known.links.get(&address) {
            Some(link) => Arc::clone(link),
            None => known.add(&address, self.link(&address)?),
        };
        Ok(Node { address, link })
    }

    /// A node has said who serves a slot, `HOST:PORT`; without a host it is its own.
    pub(super) fn moved(&self, by: &Node, slot: u16, to: &str) {
        let Some((host, port)) = to.rsplit_once(':') else { return };
        let Ok(port) = port.parse() else { return };
        let host = if host.is_empty() { &by.address.0 } else { host };
        if slot < SLOTS {
            self.known().slots.insert(slot, (host.to_owned(), port));
        }
    }

    /// A node does not answer: others are asked what it served.
    pub(super) fn failed(&self, node: &Node) {
        self.known().slots.retain(|_, address| *address != node.address);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the nodes that the configuration names or others have named.
    fn any(&self, known: &Known) -> Option<Address> {
        let seeds = self.seeds.iter().filter_map(|seed| address_of(seed.addr()));
        let mut addresses: Vec<Address> = seeds.chain(known.links.keys().cloned()).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(addresses.len())?;
        Some(addresses.swap_remove(turn))
    }

    /// A connection like those to the nodes that the configuration names.
    fn link(&self, (host, port): &Address) -> Result<Link, StoreError> {
        let seed = self.seeds.first().cloned();
        let seed = seed.ok_or_else(|| StoreError::Unavailable("no node is known".to_owned()))?;
        let address = match seed.addr().clone() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let info = seed.set_addr(address);
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        };
        let client = client.map_err(|_| StoreError::Unavailable("the address of a node is malformed".to_owned()))?;
        Ok(Link::new(Source::Single(Box::new(client)), self.timeout))
    }
}

impl Known {
    fn add(&mut self, address: &Address, link: Link) -> Arc<Link> {
        if self.links.len() >= NODES_MAX {
            *self = Self::default();
        }
        Arc::clone(self.links.entry(address.clone()).or_insert_with(|| Arc::new(link)))
    }
}

fn address_of(address: &ConnectionAddr) -> Option<Address> {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Some((host.clone(), *port)),
        _ => None,
    }
}

/// The slot of a key: of the part between the first braces, if there is one.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16::State::<crc16::XMODEM>::calculate(hashed.as_bytes()) % SLOTS
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo as _;

    use super::*;

    /// The values are those of `CLUSTER KEYSLOT`.
    #[test]
    fn a_key_has_the_slot_that_the_cluster_gives_it() {
        for (key, expected) in [
            ("123456789", 12_739),
            ("a{foo}b", 12_182),
            ("foo", 12_182),
            ("a{}b", slot("a{}b")),
            ("{foo", slot("{foo")),
        ] {
            assert_eq!(slot(key), expected, "{key}");
        }
        assert_ne!(slot("a{}b"), slot(""));
    }

    #[test]
    fn a_slot_is_asked_for_where_it_was_said_to_be_until_that_node_fails() {
        let seeds = ["redis://:p@a:1", "redis://:p@b:2"].map(|url| url.into_connection_info().unwrap());
        let nodes = Nodes::new(seeds.into(), None, Duration::from_secs(1));
        let first = nodes.of(7).unwrap();
        assert_ne!(nodes.of(7).unwrap().address, first.address, "others are asked too");
        nodes.moved(&first, 7, "c:3");
        nodes.moved(&first, 8, ":4");
        let moved = nodes.of(7).unwrap();
        assert_eq!(moved.address, ("c".to_owned(), 3));
        assert_eq!(nodes.of(8).unwrap().address, (first.address.0.clone(), 4));
        assert!(Arc::ptr_eq(&moved.link, &nodes.of(7).unwrap().link), "one connection for all its slots");
        nodes.failed(&moved);
        let asked: Vec<Address> = (0..8).map(|_| nodes.of(7).unwrap().address).collect();
        assert!(asked.iter().any(|address| *address != moved.address), "{asked:?}");
    }
}
