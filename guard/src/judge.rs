//! Judges a request: where it goes, what it shows, and the decision.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Version, header, request::Parts};
use shared::{
    assertion::{self, Assertion, Forwarded, Parties},
    decision::{Asked, Credential, Decision, Denied, Inquiry, View, decide},
    identity,
    keys::Verifier,
    policy::{Policy, Route, Routed},
    request::{self, CookieNames, Facts, Place},
    time::Timestamp,
    token::{AccessToken, Expected},
};

use crate::{
    Identity, ShownBy,
    follow::{Follower, now},
    refusal::Refusal,
    settings::{Accepts, Gate, PolicySource, Settings},
};

/// How long a floor that a token taught is kept beyond the token.
const LEARN_MARGIN: core::time::Duration = core::time::Duration::from_secs(60);

pub(crate) struct Judge {
    settings: Settings,
    /// That of the settings.
    policy: Arc<Policy>,
    follower: Follower,
}

/// What a request shows.
enum Shown<'a> {
    /// The gate's word, which holds.
    Assertion(Option<&'a AccessToken>),
    /// An access token, unchecked.
    Token(Option<&'a str>),
}

impl Judge {
    pub(crate) fn new(settings: Settings, follower: Follower) -> Self {
        Self { policy: Arc::new(settings.policy.clone()), settings, follower }
    }

    pub(crate) const fn follower(&self) -> &Follower {
        &self.follower
    }

    /// Who may pass; none for an anonymous route.
    ///
    /// 1. an assertion that does not hold, or none where only assertions count: 401
    /// 2. a host, a path or credentials that are ambiguous or not canonical: 400; no route: 404, 405
    /// 3. the decision: 401, 403; 503 if the replica is too old for the route and the origin does not help
    pub(crate) async fn judge(&self, parts: &Parts) -> Result<Option<Identity>, Refusal> {
        let now = now();
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        let asserted = self.asserted(parts, target, now)?;
        let host = match &asserted {
            Some(assertion) => assertion.host.clone(),
            None => host_of(parts)?,
        };
        let url = format!("{}://{host}{target}", self.settings.scheme.as_str());
        let headers = Headers::of(parts);
        let facts = headers.facts(parts.method.as_str(), &url);
        let place = request::place(&facts)?;
        let policy = self.policy();
        let route = route_of(&place, facts.method, &policy)?;
        let shown = match &asserted {
            Some(assertion) => Shown::Assertion(assertion.token.as_ref()),
            None => Shown::Token(request::credentials(&facts, &place, route, self.cookies())?.access),
        };
        self.decide(route, &shown, now).await
    }

    /// The gate's assertion, if it counts here; it must be there once, and nothing else may speak in its name.
    fn asserted(&self, parts: &Parts, target: &str, now: Timestamp) -> Result<Option<Assertion>, Refusal> {
        let Some(Gate { upstream, keys }) = self.settings.accepts.gate() else { return Ok(None) };
        let mut found = parts.headers.get_all(assertion::HEADER).iter();
        let text = match (found.next(), found.next()) {
            (None, _) if matches!(self.settings.accepts, Accepts::Either(_)) => return Ok(None),
            (Some(text), None) => text.to_str().map_err(|_| Refusal::not_asserted())?,
            _ => return Err(Refusal::not_asserted()),
        };
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        let parties = Parties { issuer: &self.settings.issuer, upstream };
        let request = Forwarded { method: parts.method.as_str(), path, query };
        let assertion = assertion::verify(text, keys, parties, request, now, self.settings.skew_max);
        let assertion = assertion.map_err(|error| {
            tracing::debug!(event = "guard_assertion_refused", reason = %error);
            Refusal::not_asserted()
        })?;
        if says_the_same(&parts.headers, assertion.token.as_ref()) {
            Ok(Some(assertion))
        } else {
            Err(Refusal::not_asserted())
        }
    }

    /// The policy that counts for a request that comes now.
    fn policy(&self) -> Arc<Policy> {
        let of_feed = match self.settings.policy_source {
            PolicySource::Settings => None,
            PolicySource::Feed => self.follower.policy(),
        };
        of_feed.unwrap_or_else(|| Arc::clone(&self.policy))
    }

    /// Decides; if more must be known for that, the origin is asked once, in place of a hub too, which knows no more.
    async fn decide(&self, route: &Route, shown: &Shown<'_>, at: Timestamp) -> Result<Option<Identity>, Refusal> {
        let decided = match self.decide_from(route, shown, Inquiry::default(), at) {
            Err(Denied::Stale) => {
                let origin = if self.follower.catch_up().await { Asked::Answered } else { Asked::InVain };
                self.decide_from(route, shown, Inquiry { hub: origin, origin }, now())
            }
            decided => decided,
        };
        decided.map_err(|denied| match shown {
            Shown::Assertion(_) => Refusal::denied_to_gate(denied, route),
            Shown::Token(_) => Refusal::denied(denied, route),
        })
    }

    /// [`Denied::Stale`] also where somebody would have to be asked.
    fn decide_from(
        &self,
        route: &Route,
        shown: &Shown<'_>,
        inquiry: Inquiry,
        now: Timestamp,
    ) -> Result<Option<Identity>, Denied> {
        let verified;
        let credential = match shown {
            Shown::Assertion(None) | Shown::Token(None) => Credential::None,
            Shown::Assertion(Some(token)) => Credential::Token(token),
            Shown::Token(Some(text)) => {
                let Settings { issuer, audience, .. } = &self.settings;
                verified = AccessToken::verify(text, &self.follower.keys(), &Verifier, Expected { issuer, audience });
                verified.as_ref().map_or_else(|error| Credential::Bad(*error), Credential::Token)
            }
        };
        let mut replica = self.follower.replica();
        let (freshness, skew_max) = (replica.freshness(), self.settings.skew_max);
        let view = View { floors: replica.floors(), freshness, inquiry, skew_max };
        let identity = match decide(route, credential, view, now) {
            Decision::Anonymous => return Ok(None),
            Decision::Allow(claims) => Identity {
                claims: claims.clone(),
                shown_by: match shown {
                    Shown::Assertion(_) => ShownBy::Assertion,
                    Shown::Token(_) => ShownBy::Token,
                },
            },
            Decision::Ask(_) => return Err(Denied::Stale),
            Decision::Deny(denied) => return Err(denied),
        };
        if let (Shown::Token(_), Credential::Token(token)) = (shown, credential) {
            token.teach(&mut replica, LEARN_MARGIN);
        }
        Ok(Some(identity))
    }

    fn cookies(&self) -> CookieNames<'_> {
        CookieNames { access: &self.settings.access_cookie, refresh: &self.settings.refresh_cookie }
    }
}

fn route_of<'a>(place: &Place<'_>, method: &str, policy: &'a Policy) -> Result<&'a Route, Refusal> {
    match place.route(method, policy) {
        Routed::Route(_, route) => Ok(route),
        Routed::NotFound => Err(Refusal::not_found()),
        Routed::MethodNotAllowed(methods) => Err(Refusal::method(methods)),
    }
}

/// The headers that count, each as one text.
struct Headers {
    authorization: Option<String>,
    cookie: Option<String>,
    origin: Option<String>,
    sec_fetch_site: Option<String>,
    is_handshake: bool,
}

impl Headers {
    fn of(parts: &Parts) -> Self {
        let joined = |name: HeaderName, between: &str| {
            let lines = parts.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
            let lines: Vec<_> = lines.collect();
            (!lines.is_empty()).then(|| lines.join(between))
        };
        // HTTP/2 may cut one Cookie header into several (RFC 9113 §8.2.3); before it, several are ambiguous.
        let between_cookies = if parts.version >= Version::HTTP_2 { "; " } else { ", " };
        Self {
            authorization: joined(header::AUTHORIZATION, ", "),
            cookie: joined(header::COOKIE, between_cookies),
            origin: joined(header::ORIGIN, ", "),
            sec_fetch_site: joined(HeaderName::from_static("sec-fetch-site"), ", "),
            is_handshake: parts.headers.contains_key(header::UPGRADE),
        }
    }

    fn facts<'a>(&'a self, method: &'a str, url: &'a str) -> Facts<'a> {
        let Self { authorization, cookie, origin, sec_fetch_site, is_handshake } = self;
        let [authorization, cookie, origin, sec_fetch_site] =
            [authorization, cookie, origin, sec_fetch_site].map(|header| header.as_deref());
        Facts { method, url, authorization, cookie, origin, sec_fetch_site, is_handshake: *is_handshake }
    }
}

/// The host that a request names; in one place only, or the same in both (RFC 9110 §7.2).
fn host_of(parts: &Parts) -> Result<String, Refusal> {
    let mut named = parts.headers.get_all(header::HOST).iter().map(|value| value.to_str().unwrap_or_default());
    let host = named.next();
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let is_one = named.next().is_none() && (host.is_none() || authority.is_none() || host == authority);
    match authority.or(host) {
        Some(host) if is_one && !host.is_empty() && !host.contains(['/', '?', '\\']) => Ok(host.to_owned()),
        _ => Err(Refusal::host()),
    }
}

/// Whether the headers of the gate say what the assertion says, as far as they are there.
fn says_the_same(headers: &HeaderMap, token: Option<&AccessToken>) -> bool {
    let values = token.map(|token| identity::values(token.claims())).unwrap_or_default();
    identity::HEADERS.into_iter().zip(values).all(|(name, value)| {
        let mut found = headers.get_all(name).iter();
        found.all(|found| !value.is_empty() && found.as_bytes() == value.as_bytes())
    })
}
