//! Route policy: which routes there are, who may use them, and how fresh the gate must be to say so.
//!
//! Wire format: `"PCP5"` ‖ postcard of routes and upstreams, made by the build of the edge and read by the gate.
//!
//! Invariant: a [`Policy`] exists only checked: ids are unique, upstreams are known and addresses, and no route is hidden by
//! an earlier one. The first route that matches wins.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    vec::Vec,
};
use core::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Role, TenantId},
    path::{CanonicalPath, is_host},
};

/// The most routes of a policy.
pub const ROUTES_MAX: usize = 256;

/// What the deadline of an upstream's answer may be, in milliseconds.
pub const ANSWER_MS: core::ops::RangeInclusive<u64> = 100..=300_000;

/// The deadline of a pool that names none, in milliseconds: half the life of an assertion, so that another node may be asked.
pub const ANSWER_MS_DEFAULT: u64 = 15_000;

/// What a route's freshness bound may be, in milliseconds.
pub const STALENESS_MS: core::ops::RangeInclusive<u64> = 100..=300_000;

/// The bound of a route that names none, in milliseconds.
pub const STALENESS_MS_DEFAULT: u64 = 5_000;

/// The longest address to sign in at, in bytes.
pub const SIGN_IN_BYTES_MAX: usize = 1_024;

/// How sure a gate must be before it lets somebody pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assurance {
    /// Its own replica says so, which is not older than the route allows. Calls nobody (I12).
    #[default]
    Bounded,
    /// The hub of its region was asked after the request came.
    Regional,
    /// The origin was asked after the request came, and read the log of the store for the answer.
    Authoritative,
}

/// What a gate does when it cannot be as sure as the route demands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStale {
    /// 503 with `Retry-After`.
    #[default]
    Deny,
    /// It goes on with what it knows.
    Allow,
    /// It asks the origin.
    Ask,
}

/// Which paths a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathPattern {
    /// Exactly this one.
    Exact(String),
    /// This one with a trailing slash, and everything under it; kept with its trailing slash.
    Under(String),
}

/// What a session must have for a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// At least one of these; no demand if empty.
    pub roles_any: Vec<Role>,
    /// All of these scope tokens.
    pub scope_all: Vec<String>,
    /// One of these authentication context classes (RFC 9470); no demand if empty.
    pub acr_any: Vec<String>,
    /// Authenticated at most this many seconds ago (RFC 9470).
    pub max_age_s: Option<u64>,
    /// Of this tenant.
    pub tenant: Option<TenantId>,
}

/// Who may use a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Everyone.
    Anonymous,
    /// A live session that meets the requirements.
    Session(Requirements),
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name in metrics and logs.
    pub id: String,
    /// The host it is for; any if none.
    pub host: Option<String>,
    /// The paths it is for.
    pub path: PathPattern,
    /// The methods it is for; any if none.
    pub methods: Option<BTreeSet<String>>,
    /// Who may use it.
    pub access: Access,
    /// How sure the gate must be.
    pub assurance: Assurance,
    /// How old the replica may be, in milliseconds.
    pub staleness_ms_max: u64,
    /// What becomes of a request when it is older.
    pub on_stale: OnStale,
    /// Where a browser without a live session is sent: see [`is_sign_in`]. Without it such a request is answered 401.
    pub sign_in: Option<String>,
    /// The name of the upstream.
    pub upstream: String,
}

/// Why routes are no policy. `route` counts from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No route, or more than [`ROUTES_MAX`].
    #[error("a policy must have 1 to {ROUTES_MAX} routes")]
    Count,
    /// Two routes share an id.
    #[error("routes[{route}].id: {id:?} is the id of an earlier route; ids must be unique")]
    DuplicateId {
        /// The later one.
        route: usize,
        /// The id.
        id: String,
    },
    /// The upstream is not among those of the policy.
    #[error("routes[{route}].upstream: {upstream:?} is not one of [upstreams]")]
    UnknownUpstream {
        /// Which route.
        route: usize,
        /// What it named.
        upstream: String,
    },
    /// Not an address.
    #[error(
        "upstreams.{upstream}: {found:?} is neither \"self\" nor scheme, host and port such as \"http://127.0.0.1:8790\""
    )]
    Address {
        /// The upstream.
        upstream: String,
        /// What was found.
        found: String,
    },
    /// No address, too many, or one twice.
    #[error("upstreams.{upstream}: an upstream must have 1 to {ADDRESSES_MAX} addresses, all of them different")]
    Addresses {
        /// The upstream.
        upstream: String,
    },
    /// The deadline is out of range, or that of the gate itself.
    #[error("upstreams.{upstream}.answer_ms_max: {found} is not from 100 to 300000, or the upstream is \"self\"")]
    Answer {
        /// The upstream.
        upstream: String,
        /// What was found.
        found: u64,
    },
    /// Addresses for an upstream that is not there.
    #[error("{upstream:?} is not one of [upstreams] of the policy")]
    NoUpstream {
        /// Its name.
        upstream: String,
    },
    /// The bound is out of range.
    #[error("routes[{route}].staleness_ms_max: {found} is not from 100 to 300000")]
    Staleness {
        /// Which route.
        route: usize,
        /// What was found.
        found: u64,
    },
    /// Not an address to sign in at, or one on a route that needs no session.
    #[error(
        "routes[{route}].sign_in: {found:?} must be a path such as \"/sign-in\", or an https URL (http for this machine \
         only), without fragment and parameter return_to, of at most {SIGN_IN_BYTES_MAX} bytes, on a route with \
         access = \"session\""
    )]
    SignIn {
        /// Which route.
        route: usize,
        /// What was found.
        found: String,
    },
    /// No request has such a host: see [`is_host`].
    #[error(
        "routes[{route}].host: {found:?} is not the host of a request, which has letters, digits and \".-_\" or is an IPv6 \
         address in brackets, without port and without a dot at its end"
    )]
    Host {
        /// Which route.
        route: usize,
        /// What was found.
        found: String,
    },
    /// An earlier route takes every request of this one.
    #[error("routes[{route}].path: no request can reach this route, since {by:?} takes them all; put it first")]
    Shadowed {
        /// The later one.
        route: usize,
        /// The id of the earlier one.
        by: String,
    },
}

/// Checked routes with their upstreams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    routes: Vec<Route>,
    upstreams: BTreeMap<String, Upstream>,
}

/// The most addresses of an upstream.
pub const ADDRESSES_MAX: usize = 32;

/// Which of the addresses of an upstream gets a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// That of its session, the same at every gate for as long as it answers; without a session each in turn.
    #[default]
    Session,
    /// Each in turn.
    None,
}

/// An application: one address, or a pool of nodes that do the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// [`UPSTREAM_SELF`], or where its nodes are.
    pub addresses: Vec<String>,
    /// How they are chosen from.
    pub affinity: Affinity,
    /// How long a node may take from the whole request to the head of its answer, in milliseconds. If none is said, a pool has
    /// [`ANSWER_MS_DEFAULT`], and a single address as long as it likes.
    pub answer_ms_max: Option<u64>,
}

impl Upstream {
    /// At one address.
    pub fn at(address: &str) -> Self {
        Self { addresses: Vec::from([address.to_string()]), affinity: Affinity::default(), answer_ms_max: None }
    }

    /// The only address; none of a pool, as which an address with a deadline counts.
    pub fn address(&self) -> Option<&str> {
        match (self.addresses.as_slice(), self.answer_ms_max) {
            ([address], None) => Some(address),
            _ => None,
        }
    }

    /// How long a node of the pool may take until it answers.
    pub fn answer_max(&self) -> Duration {
        Duration::from_millis(self.answer_ms_max.unwrap_or(ANSWER_MS_DEFAULT))
    }

    /// Whether it is the gate itself.
    pub fn is_self(&self) -> bool {
        self.address() == Some(UPSTREAM_SELF)
    }

    fn check(&self, name: &str) -> Result<(), PolicyError> {
        let Self { addresses, .. } = self;
        let is_pool = addresses.len() > 1;
        let wrong = addresses.iter().find(|address| !is_address(address) || (is_pool && *address == UPSTREAM_SELF));
        if let Some(found) = wrong {
            // What stands before an `@` may be a password.
            let found = found.rsplit_once('@').map_or(found.clone(), |(_, host)| format!("…@{host}"));
            return Err(PolicyError::Address { upstream: name.to_string(), found });
        }
        let different: BTreeSet<_> = addresses.iter().collect();
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX || different.len() < addresses.len() {
            return Err(PolicyError::Addresses { upstream: name.to_string() });
        }
        let is_self = addresses.iter().any(|address| address == UPSTREAM_SELF);
        match self.answer_ms_max.filter(|found| is_self || !ANSWER_MS.contains(found)) {
            Some(found) => Err(PolicyError::Answer { upstream: name.to_string(), found }),
            None => Ok(()),
        }
    }
}

/// Why bytes are no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyBytesError {
    /// Another format, cut off, or with trailing bytes.
    #[error("not a policy of this version; build the edge again")]
    Malformed,
    /// Readable, and wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// The upstream that is the gate itself: it answers 204 with what it would have told an application.
pub const UPSTREAM_SELF: &str = "self";

const MAGIC: &[u8] = b"PCP5";

/// Whether a request is of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The route is for another host.
    Host,
    /// The route is for other paths.
    Path,
    /// The route has this host and path, for other methods.
    Method,
    /// It is.
    Fits,
}

/// What a request's place comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Routed<'a> {
    /// The first route that matches, and its place among the routes.
    Route(usize, &'a Route),
    /// No route has this host and path.
    NotFound,
    /// Routes have this host and path, with these methods only.
    MethodNotAllowed(BTreeSet<&'a str>),
}

impl Policy {
    /// Checks routes; `upstreams` are by name.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, by its route.
    pub fn new(routes: Vec<Route>, upstreams: BTreeMap<String, Upstream>) -> Result<Self, PolicyError> {
        if routes.is_empty() || routes.len() > ROUTES_MAX {
            return Err(PolicyError::Count);
        }
        for (name, upstream) in &upstreams {
            upstream.check(name)?;
        }
        for (index, route) in routes.iter().enumerate() {
            let earlier = || routes.iter().take(index);
            if earlier().any(|other| other.id == route.id) {
                return Err(PolicyError::DuplicateId { route: index, id: route.id.clone() });
            }
            if !upstreams.contains_key(&route.upstream) {
                return Err(PolicyError::UnknownUpstream { route: index, upstream: route.upstream.clone() });
            }
            if !STALENESS_MS.contains(&route.staleness_ms_max) {
                return Err(PolicyError::Staleness { route: index, found: route.staleness_ms_max });
            }
            if let Some(found) = route.sign_in.as_ref().filter(|found| !is_sign_in(found) || route.is_anonymous()) {
                return Err(PolicyError::SignIn { route: index, found: found.clone() });
            }
            if let Some(found) = route.host.as_ref().filter(|found| !is_host(found)) {
                return Err(PolicyError::Host { route: index, found: found.clone() });
            }
            if let Some(other) = earlier().find(|other| other.covers(route)) {
                return Err(PolicyError::Shadowed { route: index, by: other.id.clone() });
            }
        }
        Ok(Self { routes, upstreams })
    }

    /// The bytes that [`Self::decode`] reads.
    ///
    /// # Errors
    ///
    /// A text that postcard cannot hold; no policy has one.
    pub fn encode(&self) -> Result<Vec<u8>, PolicyBytesError> {
        postcard::to_extend(&(&self.routes, &self.upstreams), MAGIC.to_vec()).map_err(|_| PolicyBytesError::Malformed)
    }

    /// The reverse of [`Self::encode`]; what is read is checked like any other policy.
    ///
    /// # Errors
    ///
    /// Other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, PolicyBytesError> {
        let bytes = bytes.strip_prefix(MAGIC).ok_or(PolicyBytesError::Malformed)?;
        let ((routes, upstreams), rest) = postcard::take_from_bytes(bytes).map_err(|_| PolicyBytesError::Malformed)?;
        if rest.is_empty() { Ok(Self::new(routes, upstreams)?) } else { Err(PolicyBytesError::Malformed) }
    }

    /// The routes, in order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// An upstream.
    pub fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.get(name)
    }

    /// The upstreams, by name.
    pub fn upstreams(&self) -> &BTreeMap<String, Upstream> {
        &self.upstreams
    }

    /// With other addresses for an upstream.
    ///
    /// # Errors
    ///
    /// There is no such upstream, or the addresses are none.
    pub fn move_upstream(&mut self, name: &str, addresses: Vec<String>) -> Result<(), PolicyError> {
        let Some(upstream) = self.upstreams.get_mut(name) else {
            return Err(PolicyError::NoUpstream { upstream: name.to_string() });
        };
        let moved = Upstream { addresses, ..upstream.clone() };
        moved.check(name)?;
        *upstream = moved;
        Ok(())
    }

    /// Finds the route of a request.
    pub fn route(&self, method: &str, host: Option<&str>, path: &CanonicalPath<'_>) -> Routed<'_> {
        let mut allowed = BTreeSet::new();
        for (index, route) in self.routes.iter().enumerate() {
            match route.fit(method, host, path) {
                Fit::Fits => return Routed::Route(index, route),
                Fit::Method => allowed.extend(route.methods.iter().flatten().map(String::as_str)),
                Fit::Host | Fit::Path => {}
            }
        }
        if allowed.is_empty() { Routed::NotFound } else { Routed::MethodNotAllowed(allowed) }
    }
}

impl Route {
    /// How old the replica may be.
    pub fn staleness_max(&self) -> Duration {
        Duration::from_millis(self.staleness_ms_max)
    }

    /// Whether it needs no session.
    pub fn is_anonymous(&self) -> bool {
        self.access == Access::Anonymous
    }

    /// Whether a request is of this route, whatever the routes before it.
    pub fn fit(&self, method: &str, host: Option<&str>, path: &CanonicalPath<'_>) -> Fit {
        let is_here = |wanted: &String| host.is_some_and(|host| wanted.eq_ignore_ascii_case(host));
        if !self.host.as_ref().is_none_or(is_here) {
            Fit::Host
        } else if !self.path.matches(path.as_str()) {
            Fit::Path
        } else if self.methods.as_ref().is_some_and(|methods| !methods.contains(method)) {
            Fit::Method
        } else {
            Fit::Fits
        }
    }

    /// Whether every request that `other` matches is matched by this route.
    fn covers(&self, other: &Self) -> bool {
        let is_other = |own: &String| other.host.as_ref().is_some_and(|other| own.eq_ignore_ascii_case(other));
        let host = self.host.as_ref().is_none_or(is_other);
        let methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(own), Some(other)) => other.is_subset(own),
            (Some(_), None) => false,
        };
        host && methods && self.path.covers(&other.path)
    }
}

impl fmt::Display for PathPattern {
    /// As [`PathPattern::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Under(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl PathPattern {
    /// Reads `/exact` or `/prefix/*`; none if it is not a canonical path of either form.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, under) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        let canonical = CanonicalPath::new(path).is_ok() && !path.contains('*') && (!under || path.ends_with('/'));
        canonical.then(|| if under { Self::Under(path.to_string()) } else { Self::Exact(path.to_string()) })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Under(prefix) => path.starts_with(prefix.as_str()),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (_, Self::Exact(path)) => self.matches(path),
            (Self::Under(prefix), Self::Under(other)) => other.starts_with(prefix.as_str()),
            (Self::Exact(_), Self::Under(_)) => false,
        }
    }
}

/// `self`, or an http(s) scheme with host and port and nothing after it: what is forwarded is the path that was judged.
fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    text == UPSTREAM_SELF
        || rest.is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte))
        })
}

/// A path of the application's own host, or a URL of https; of http only on the machine itself. A place to return to is added
/// as the parameter `return_to`.
pub fn is_sign_in(text: &str) -> bool {
    let visible =
        text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'#' | b'<' | b'>'));
    let has_host = |rest: &str| rest.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[');
    let local = ["localhost", "127.0.0.1"];
    let is_local = |rest: &str| local.iter().any(|host| rest.split(['/', ':', '?']).next() == Some(*host));
    let placed = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => has_host(rest),
        (_, Some(rest)) => is_local(rest),
        // Two slashes would name another host.
        _ => text.starts_with('/') && !text.starts_with("//"),
    };
    visible && placed && text.len() <= SIGN_IN_BYTES_MAX && !text.contains("return_to=")
}

#[cfg(test)]
mod tests;
