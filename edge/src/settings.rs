//! What the bindings of the Worker say, checked once per instance.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use shared::{
    assertion::{AssertionKey, AssertionKeyError},
    cookie::{self, ACCESS_COOKIE, NAME_BYTES_MAX, REFRESH_COOKIE},
    keys::{KeyError, KeySet, PublicKey},
    policy::{Policy, PolicyError, Upstream},
    request::CookieNames,
    resource::Resource,
};

/// Clocks of store and gate further apart than this are a fault, not a setting.
const CLOCK_SKEW_MS_MAX: u64 = 60_000;

const CLOCK_SKEW_MS_DEFAULT: u64 = 2_000;

/// The bindings as the entry module hands them over; a binding that is not there is none.
#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Bindings {
    issuer: Option<String>,
    audience: Option<String>,
    origin_url: Option<String>,
    feed_keys: Option<String>,
    trusted_jwks: Option<String>,
    clock_skew_ms_max: Option<String>,
    access_cookie: Option<String>,
    refresh_cookie: Option<String>,
    upstreams: Option<String>,
    assertion_keys: Option<String>,
}

/// Why the bindings are no settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// Not the JSON of the entry module.
    #[error("the bindings cannot be read: {0}")]
    Form(#[from] serde_json::Error),
    /// A binding that must be there is not.
    #[error("{0} is missing; it must be set to a text that is not empty")]
    Missing(&'static str),
    /// A key is none.
    #[error("{name} is wrong: {error}")]
    Key {
        /// The binding.
        name: &'static str,
        /// What is wrong with it.
        error: KeyError,
    },
    /// A number is none, or out of range.
    #[error("CLOCK_SKEW_MS_MAX must be a number from 0 to {CLOCK_SKEW_MS_MAX}; it is {0:?}")]
    Skew(String),
    /// Not a name for the cookie of a credential.
    #[error("{0} must be __Host- with letters, digits, - and _ after it, at most {NAME_BYTES_MAX} bytes in all")]
    Cookie(&'static str),
    /// One name for two cookies.
    #[error("ACCESS_COOKIE and REFRESH_COOKIE must be two names")]
    SameCookie,
    /// Not addresses by name.
    #[error(
        "UPSTREAMS must be a JSON object of addresses by the name of their upstream, such as \
         {{\"app\":\"http://127.0.0.1:8790\"}}; several of one in a list"
    )]
    Upstreams,
    /// One of them is wrong.
    #[error("UPSTREAMS: {0}")]
    Upstream(PolicyError),
    /// Not a list of keys.
    #[error("ASSERTION_KEYS must be a JSON object of keys by the name of their upstream, such as {{\"app\":\"…\"}}")]
    AssertionKeys,
    /// One of them is no key.
    #[error("ASSERTION_KEYS, for the upstream {upstream:?}: {error}")]
    AssertionKey {
        /// The upstream.
        upstream: String,
        /// What is wrong with its key.
        error: AssertionKeyError,
    },
    /// One of them speaks to nobody. What stands in the place of the name may be the key.
    #[error("ASSERTION_KEYS: a name in it is no upstream of the policy, or that of the gate itself")]
    AssertionUpstream,
    /// An origin without a way to believe it.
    #[error(
        "FEED_KEYS is missing: ORIGIN_URL is set, and without the origin's feed key nothing that it revokes is known"
    )]
    Untrusted,
    /// Nobody to believe.
    #[error("FEED_KEYS and ORIGIN_URL, or TRUSTED_JWKS, must be set")]
    NoTrust,
}

/// Whom the gate believes.
pub(crate) enum Trust {
    /// The origin's feed, signed by one of these keys, brings floors and token keys. Token keys may be pinned all the same.
    Feed {
        /// The pinned feed keys.
        feed_keys: Vec<PublicKey>,
        /// Token keys that count instead of those of the feed.
        pinned: Option<KeySet>,
    },
    /// Token keys are pinned and nobody can revoke anything: a gate without an origin.
    Static(KeySet),
}

/// The settings of a gate.
pub(crate) struct Settings {
    /// The only issuer whose tokens count.
    pub(crate) issuer: String,
    /// The audience that a token must be meant for.
    pub(crate) audience: String,
    /// What is published of the resource, if the audience is the URL of one.
    pub(crate) resource: Option<Resource>,
    /// Whom the gate believes.
    pub(crate) trust: Trust,
    /// How far apart the clocks of store and gate may be.
    pub(crate) skew_max: Duration,
    access_cookie: String,
    refresh_cookie: String,
    /// By upstream; what is forwarded to the others is not asserted.
    assertion_keys: BTreeMap<String, AssertionKey>,
    /// Other addresses for upstreams than those of the policy.
    moved: BTreeMap<String, Vec<String>>,
}

impl Settings {
    /// Reads the bindings, a JSON object of texts, for a gate that was built with this policy.
    ///
    /// # Errors
    ///
    /// The first binding that is missing or wrong, by name.
    pub(crate) fn read(json: &str, built: &Policy) -> Result<Self, SettingsError> {
        let bindings: Bindings = serde_json::from_str(json)?;
        let trust = trust(&bindings)?;
        let moved = moved_upstreams(bindings.upstreams)?;
        let mut policy = built.clone();
        for (name, addresses) in &moved {
            policy.move_upstream(name, addresses.clone()).map_err(SettingsError::Upstream)?;
        }
        let skew_ms = match filled(bindings.clock_skew_ms_max) {
            None => CLOCK_SKEW_MS_DEFAULT,
            Some(text) => match text.parse() {
                Ok(number) if number <= CLOCK_SKEW_MS_MAX => number,
                _ => return Err(SettingsError::Skew(text)),
            },
        };
        let issuer = filled(bindings.issuer).ok_or(SettingsError::Missing("ISSUER"))?;
        let audience = filled(bindings.audience).ok_or(SettingsError::Missing("AUDIENCE"))?;
        let access_cookie = cookie_name("ACCESS_COOKIE", bindings.access_cookie, ACCESS_COOKIE)?;
        let refresh_cookie = cookie_name("REFRESH_COOKIE", bindings.refresh_cookie, REFRESH_COOKIE)?;
        if !cookie::are_apart(&access_cookie, &refresh_cookie) {
            return Err(SettingsError::SameCookie);
        }
        Ok(Self {
            resource: Resource::new(&audience, &issuer),
            issuer,
            audience,
            trust,
            skew_max: Duration::from_millis(skew_ms),
            access_cookie,
            refresh_cookie,
            assertion_keys: assertion_keys(bindings.assertion_keys, &policy)?,
            moved,
        })
    }

    /// A policy with the addresses that the bindings say.
    pub(crate) fn with_upstreams(&self, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        for (name, addresses) in &self.moved {
            // One of the feed may lack an upstream of the build; its addresses are for nobody then.
            let _ = policy.move_upstream(name, addresses.clone());
        }
        policy
    }

    /// The key that speaks to an upstream.
    pub(crate) fn assertion_key(&self, upstream: &str) -> Option<&AssertionKey> {
        self.assertion_keys.get(upstream)
    }

    /// The names of the cookies that hold credentials.
    pub(crate) fn cookies(&self) -> CookieNames<'_> {
        CookieNames { access: &self.access_cookie, refresh: &self.refresh_cookie }
    }
}

fn trust(bindings: &Bindings) -> Result<Trust, SettingsError> {
    let key = |name| move |error| SettingsError::Key { name, error };
    let text = bindings.feed_keys.as_deref().unwrap_or_default();
    let feed_keys = text.split_ascii_whitespace().map(PublicKey::ed25519_from_text);
    let feed_keys = feed_keys.collect::<Result<Vec<_>, _>>().map_err(key("FEED_KEYS"))?;
    let pinned = filled(bindings.trusted_jwks.clone()).map(|text| KeySet::from_jwks(&text)).transpose();
    let pinned = pinned.map_err(key("TRUSTED_JWKS"))?;
    let has_origin = bindings.origin_url.as_deref().is_some_and(|url| !url.is_empty());
    match (feed_keys.is_empty(), has_origin, pinned) {
        (false, _, pinned) => Ok(Trust::Feed { feed_keys, pinned }),
        (true, true, _) => Err(SettingsError::Untrusted),
        (true, false, Some(keys)) => Ok(Trust::Static(keys)),
        (true, false, None) => Err(SettingsError::NoTrust),
    }
}

fn moved_upstreams(text: Option<String>) -> Result<BTreeMap<String, Vec<String>>, SettingsError> {
    let Some(text) = filled(text) else { return Ok(BTreeMap::new()) };
    let moved: BTreeMap<String, Value> = serde_json::from_str(&text).map_err(|_| SettingsError::Upstreams)?;
    let texts = |addresses: Value| {
        let addresses = match addresses {
            Value::Array(addresses) => addresses,
            one => vec![one],
        };
        let texts = addresses.iter().map(|address| address.as_str().map(str::to_owned));
        texts.collect::<Option<Vec<_>>>().ok_or(SettingsError::Upstreams)
    };
    moved.into_iter().map(|(name, addresses)| Ok((name, texts(addresses)?))).collect()
}

fn assertion_keys(text: Option<String>, policy: &Policy) -> Result<BTreeMap<String, AssertionKey>, SettingsError> {
    let Some(text) = filled(text) else { return Ok(BTreeMap::new()) };
    let keys: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|_| SettingsError::AssertionKeys)?;
    keys.into_iter()
        .map(|(upstream, key)| {
            if policy.upstream(&upstream).is_none_or(Upstream::is_self) {
                return Err(SettingsError::AssertionUpstream);
            }
            match AssertionKey::from_hex(&key) {
                Ok(key) => Ok((upstream, key)),
                Err(error) => Err(SettingsError::AssertionKey { upstream, error }),
            }
        })
        .collect()
}

fn cookie_name(name: &'static str, found: Option<String>, default: &str) -> Result<String, SettingsError> {
    let found = filled(found).unwrap_or_else(|| default.to_owned());
    if cookie::is_name(&found) { Ok(found) } else { Err(SettingsError::Cookie(name)) }
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
