//! What a guard is told.

use std::{ops::RangeInclusive, time::Duration};

use shared::{
    assertion::AssertionKey,
    cookie::{ACCESS_COOKIE, REFRESH_COOKIE, are_apart, is_name},
    keys::PublicKey,
    policy::Policy,
};
use url::Url;

/// How often the feed may be asked.
const REFRESH: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(10);

/// Clocks further apart than this are a fault, not a setting.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// The most keys of gates: one for each gate that speaks to this service, and a new one each while they change.
const KEYS_MAX: usize = 16;

/// What a guard is told. [`Settings::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The routes, in the form of the gate's. Their upstreams count for nothing here.
    pub policy: Policy,
    /// Whether another policy may count instead; by default not.
    pub policy_source: PolicySource,
    /// By what a request shows who it is from.
    pub accepts: Accepts,
    /// The only issuer whose tokens count, `iss`.
    pub issuer: String,
    /// What `aud` of an access token must hold.
    pub audience: String,
    /// The origin whose feed is followed.
    pub origin: Url,
    /// The public feed key of the origin; several while it changes.
    pub feed_keys: Vec<PublicKey>,
    /// How often the feed is asked, 50 ms to 10 s; 500 ms by default. It adds to how late a revocation arrives.
    pub refresh: Duration,
    /// How far the clocks of store, gate and service may be apart, up to 60 s; 2 s by default.
    pub skew_max: Duration,
    /// By which scheme clients reach the service, for the origin of unsafe requests with a cookie; `https` by default.
    pub scheme: Scheme,
    /// The cookie of the access token; that of the gate by default.
    pub access_cookie: String,
    /// The cookie of the refresh token, which is no credential here; that of the gate by default.
    pub refresh_cookie: String,
}

/// Which route policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicySource {
    /// That of the settings, whatever the gates judge by.
    Settings,
    /// That of the origin's feed, as at the gates; that of the settings while the feed brings none.
    Feed,
}

/// By what a request shows who it is from.
#[derive(Debug, Clone)]
pub enum Accepts {
    /// The gate's assertion, on every request, those of anonymous routes too: nobody gets here but through the gate.
    Assertions(Gate),
    /// An access token, in `Authorization` or in a cookie.
    Tokens,
    /// The assertion if there is one, else an access token.
    Either(Gate),
}

/// The gates that speak to this service.
#[derive(Debug, Clone)]
pub struct Gate {
    /// What the gate's policy calls this service.
    pub upstream: String,
    /// The keys that the gates have for it.
    pub keys: Vec<AssertionKey>,
}

/// How clients reach the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear, as in development.
    Http,
    /// Over TLS, wherever it ends.
    Https,
}

impl Scheme {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A setting is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Empty.
    #[error("{0} must be set to a text that is not empty")]
    Empty(&'static str),
    /// No feed key.
    #[error("feed_keys must hold the public feed key of the origin; without it nothing that it revokes is known")]
    FeedKeys,
    /// No assertion key, or too many.
    #[error("accepts: a gate must have 1 to {KEYS_MAX} keys")]
    AssertionKeys,
    /// Out of range.
    #[error("refresh must be from 50 ms to 10 s")]
    Refresh,
    /// Out of range.
    #[error("skew_max must be at most 60 s")]
    Skew,
    /// Not names for cookies of credentials.
    #[error("access_cookie and refresh_cookie must be two names of __Host- with letters, digits, - and _ after it")]
    Cookies,
    /// Nothing can be asked there.
    #[error("origin must be an http or https URL")]
    Origin,
}

impl Settings {
    /// With the defaults for all that is not named.
    pub fn new(policy: Policy, accepts: Accepts, issuer: &str, origin: Url, feed_keys: Vec<PublicKey>) -> Self {
        Self {
            policy,
            policy_source: PolicySource::Settings,
            accepts,
            issuer: issuer.to_owned(),
            audience: "portcullis".to_owned(),
            origin,
            feed_keys,
            refresh: Duration::from_millis(500),
            skew_max: Duration::from_secs(2),
            scheme: Scheme::Https,
            access_cookie: ACCESS_COOKIE.to_owned(),
            refresh_cookie: REFRESH_COOKIE.to_owned(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let gate = self.accepts.gate();
        let texts = [("issuer", &self.issuer), ("audience", &self.audience)];
        let texts = texts.into_iter().chain(gate.map(|gate| ("upstream", &gate.upstream)));
        if let Some((name, _)) = texts.into_iter().find(|(_, text)| text.is_empty()) {
            return Err(SettingsError::Empty(name));
        }
        if self.feed_keys.is_empty() {
            return Err(SettingsError::FeedKeys);
        }
        if gate.is_some_and(|gate| !(1..=KEYS_MAX).contains(&gate.keys.len())) {
            return Err(SettingsError::AssertionKeys);
        }
        if !REFRESH.contains(&self.refresh) {
            return Err(SettingsError::Refresh);
        }
        if self.skew_max > SKEW_MAX {
            return Err(SettingsError::Skew);
        }
        let (access, refresh) = (&self.access_cookie, &self.refresh_cookie);
        if !is_name(access) || !is_name(refresh) || !are_apart(access, refresh) {
            return Err(SettingsError::Cookies);
        }
        if matches!(self.origin.scheme(), "http" | "https") { Ok(()) } else { Err(SettingsError::Origin) }
    }
}

impl Accepts {
    pub(crate) const fn gate(&self) -> Option<&Gate> {
        match self {
            Self::Assertions(gate) | Self::Either(gate) => Some(gate),
            Self::Tokens => None,
        }
    }
}
