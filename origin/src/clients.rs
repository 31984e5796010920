//! The OAuth clients of the configuration: who they are, how they prove it, what they may be given.
//!
//! A secret is kept as its SHA-256 and compared in constant time. A slow hash protects what people make up; a client
//! secret is drawn at random, so guessing it from the hash is hopeless at any speed, and a slow hash would be paid at
//! every refresh, by us.
//!
//! Out of scope: where in a request a credential stands (`http/oauth/client.rs`), and that an assertion is used once (the
//! service).

mod assertion;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::{constant_time, digest};
use shared::{id::ClientId, keys::KeySet};

pub use self::assertion::{Assertion, AssertionError, LIFETIME_MAX};
use crate::config::{self, ClientKind, Config, Introspects, Unregistered};

/// A client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its `client_id`.
    pub id: ClientId,
    credential: Credential,
    scopes: Option<Vec<String>>,
    access_ttl: Option<Duration>,
    introspects: Introspects,
}

#[derive(Debug, Clone)]
enum Credential {
    /// A public client: anyone may name it.
    Nothing,
    Proof {
        secret_sha256: Option<[u8; 32]>,
        keys: KeySet,
    },
}

/// Why clients cannot be read, although the configuration was checked.
#[derive(Debug, thiserror::Error)]
#[error("client {id}: {reason}")]
pub struct ClientRefused {
    id: String,
    reason: String,
}

/// The clients of the configuration.
#[derive(Debug)]
pub struct Clients {
    known: BTreeMap<ClientId, Arc<Client>>,
    unregistered: Unregistered,
    access_ttl_max: Duration,
}

impl Clients {
    /// Reads the clients of a configuration, with their key files.
    ///
    /// # Errors
    ///
    /// A client that [`Config::load`] would have refused.
    pub fn new(config: &Config) -> Result<Self, ClientRefused> {
        let mut known = BTreeMap::new();
        for client in &config.clients {
            let client = Client::read(client).map_err(|reason| ClientRefused { id: client.id.clone(), reason })?;
            known.insert(client.id.clone(), Arc::new(client));
        }
        let of_clients = known.values().filter_map(|client| client.access_ttl).max().unwrap_or_default();
        let access_ttl_max = of_clients.max(config.tokens.access_ttl());
        Ok(Self { known, unregistered: config.tokens.unregistered_clients, access_ttl_max })
    }

    /// The client of an id, as the configuration has it; none if it means nothing.
    pub fn get(&self, id: &ClientId) -> Option<Arc<Client>> {
        match (self.known.get(id), self.unregistered) {
            (Some(client), _) => Some(Arc::clone(client)),
            (None, Unregistered::Public) => Some(Arc::new(Client::unlimited(id.clone()))),
            (None, Unregistered::Refuse) => None,
        }
    }

    /// The longest lifetime of an access token of any client.
    pub fn access_ttl_max(&self) -> Duration {
        self.access_ttl_max
    }
}

impl Client {
    /// Whether it authenticates at every call.
    pub fn is_confidential(&self) -> bool {
        matches!(self.credential, Credential::Proof { .. })
    }

    /// Whether `secret` is its secret, in constant time; no for a client without one.
    pub fn has_secret(&self, secret: &[u8]) -> bool {
        let Credential::Proof { secret_sha256: Some(expected), .. } = &self.credential else { return false };
        let presented = digest::digest(&digest::SHA256, secret);
        constant_time::verify_slices_are_equal(presented.as_ref(), expected).is_ok()
    }

    /// Lifetime of its access tokens, if it has one of its own.
    pub fn access_ttl(&self) -> Option<Duration> {
        self.access_ttl
    }

    /// Whether it may introspect tokens of `owner`.
    pub fn introspects(&self, owner: &ClientId) -> bool {
        self.is_confidential() && (self.introspects == Introspects::Any || self.id == *owner)
    }

    /// Whether it may be given all of a space-separated scope.
    pub fn may_have(&self, scope: &str) -> bool {
        scope.split(' ').all(|token| self.allows(token))
    }

    /// The part of a space-separated scope that it may be given; none if nothing is left.
    pub fn limit(&self, scope: &str) -> Option<String> {
        let left: Vec<&str> = scope.split(' ').filter(|token| self.allows(token)).collect();
        (!left.is_empty()).then(|| left.join(" "))
    }

    fn allows(&self, token: &str) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| scope == token))
    }

    fn keys(&self) -> Option<&KeySet> {
        match &self.credential {
            Credential::Proof { keys, .. } => Some(keys),
            Credential::Nothing => None,
        }
    }

    fn unlimited(id: ClientId) -> Self {
        Self { id, credential: Credential::Nothing, scopes: None, access_ttl: None, introspects: Introspects::Own }
    }

    fn read(client: &config::Client) -> Result<Self, String> {
        let id = client.id.parse().map_err(|_| "its id is malformed".to_owned())?;
        let credential = match client.kind {
            ClientKind::Public => Credential::Nothing,
            ClientKind::Confidential => {
                Credential::Proof { secret_sha256: client.secret_digest()?, keys: client.keys()?.unwrap_or_default() }
            }
        };
        Ok(Self {
            id,
            credential,
            scopes: client.scopes.clone(),
            access_ttl: client.access_ttl_s.map(Duration::from_secs),
            introspects: client.introspects,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn clients(list: Vec<config::Client>) -> Clients {
        Clients::new(&Config { clients: list, ..Config::default() }).unwrap()
    }

    /// SHA-256 of `test` (FIPS 180-4, checked with coreutils).
    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn an_unregistered_client_is_nobody_unless_the_configuration_says_otherwise() {
        let id: ClientId = "stranger".parse().unwrap();
        assert!(clients(vec![]).get(&id).is_none());
        let mut config = Config::default();
        config.tokens.unregistered_clients = Unregistered::Public;
        let client = Clients::new(&config).unwrap().get(&id).unwrap();
        assert!(!client.is_confidential() && client.may_have("anything at all"));
    }

    #[test]
    fn a_secret_matches_itself_only() {
        let known = clients(vec![config::Client::confidential("backend", Some(DIGEST.to_owned()), None)]);
        let backend = known.get(&"backend".parse().unwrap()).unwrap();
        assert!(backend.has_secret(b"test"));
        assert!(!backend.has_secret(b"Test") && !backend.has_secret(b"") && !backend.has_secret(DIGEST.as_bytes()));
        let web = Client::unlimited("web".parse().unwrap());
        assert!(!web.has_secret(b"") && !web.has_secret(b"test"));
    }

    /// REF-06: what a client may have bounds what it is given.
    #[test]
    fn a_scope_is_limited_to_that_of_the_client() {
        let scopes = Some(vec!["read".to_owned(), "write".to_owned()]);
        let known = clients(vec![config::Client { scopes, ..config::Client::public("web") }]);
        let web = known.get(&"web".parse().unwrap()).unwrap();
        assert!(web.may_have("read write") && !web.may_have("read admin") && !web.may_have(""));
        assert_eq!(web.limit("admin read").as_deref(), Some("read"));
        assert_eq!(web.limit("admin"), None);
    }

    #[test]
    fn a_client_introspects_its_own_tokens_or_any_if_told_so() {
        let own = config::Client::confidential("own", Some(DIGEST.to_owned()), None);
        let any = config::Client { introspects: Introspects::Any, ..own.clone() };
        let known = clients(vec![own, config::Client { id: "any".to_owned(), ..any }, config::Client::public("web")]);
        let get = |id: &str| known.get(&id.parse().unwrap()).unwrap();
        let (own, web) = ("own".parse().unwrap(), "web".parse().unwrap());
        assert!(get("own").introspects(&own) && !get("own").introspects(&web));
        assert!(get("any").introspects(&web) && get("any").introspects(&own));
        assert!(!get("web").introspects(&web));
    }

    #[test]
    fn the_longest_lifetime_is_that_of_all_clients() {
        let client = |ttl| config::Client { access_ttl_s: Some(ttl), ..config::Client::public("web") };
        assert_eq!(clients(vec![client(600)]).access_ttl_max(), Duration::from_secs(600));
        assert_eq!(clients(vec![client(60)]).access_ttl_max(), Duration::from_secs(300));
    }
}
