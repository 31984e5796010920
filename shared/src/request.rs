//! What a request says of itself: where it goes, and what it brings to show who it is from.
//!
//! The first half of every decision, the same for gate, guard and tests: canonical path → route → credentials. Nothing of it
//! needs keys or floors; [`crate::decision::decide`] is the second half.
//!
//! Invariant: a request has one credential or none. Which of several would count is never left to an order.

use crate::{
    cookie::{self, CookieError},
    csrf::{self, CsrfError},
    path::{CanonicalPath, PathError, Target},
    policy::{Access, Policy, Route, Routed},
};

/// The parts of a request that a decision looks at, as they stood on the wire.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// The method.
    pub method: &'a str,
    /// The absolute URL.
    pub url: &'a str,
    /// `Authorization`; several lines joined by a comma.
    pub authorization: Option<&'a str>,
    /// `Cookie`; several lines joined by a comma.
    pub cookie: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`.
    pub sec_fetch_site: Option<&'a str>,
    /// Whether `Upgrade` is there: it may be the first request of a WebSocket.
    pub is_handshake: bool,
}

/// The names of the cookies that hold credentials.
#[derive(Debug, Clone, Copy)]
pub struct CookieNames<'a> {
    /// Of the access token.
    pub access: &'a str,
    /// Of the refresh token.
    pub refresh: &'a str,
}

/// Where a request goes.
#[derive(Debug)]
pub struct Place<'a> {
    /// The URL, taken apart.
    pub target: Target<'a>,
    /// The path that is judged and forwarded.
    pub path: CanonicalPath<'a>,
}

/// The credentials of a request, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The access token.
    pub access: Option<&'a str>,
    /// The refresh token of a browser; only where no other kind of credential is.
    pub refresh: Option<&'a str>,
}

/// Why a request gets no further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The URL is not one of HTTP with a host and a path.
    #[error("the URL is malformed")]
    Url,
    /// 400: the path is not in its canonical form.
    #[error("the path is not in its canonical form: {0}")]
    Path(#[from] PathError),
    /// 400.
    #[error("{0}")]
    Cookie(#[from] CookieError),
    /// 400: `Authorization` is there twice, or holds no bearer token after `Bearer` (RFC 6750 §2.1).
    #[error("Authorization must be one bearer token: \"Bearer\", a space, a token")]
    Authorization,
    /// 400: a token in the header and one in a cookie (RFC 6750 §2).
    #[error("a request may carry one access token, in Authorization or in a cookie")]
    SeveralCredentials,
    /// 403: made by a page of another origin.
    #[error("{0}")]
    CrossSite(#[from] CsrfError),
}

impl RequestError {
    /// The name in answers and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Path(_) => "path",
            Self::Cookie(_) => "cookie",
            Self::Authorization => "authorization",
            Self::SeveralCredentials => "several_credentials",
            Self::CrossSite(_) => "cross_site",
        }
    }

    /// The status of the answer.
    pub const fn status(&self) -> u16 {
        match self {
            Self::CrossSite(_) => 403,
            _ => 400,
        }
    }
}

/// Finds out where a request goes.
///
/// # Errors
///
/// The URL is malformed, or its path is not in canonical form.
pub fn place<'a>(facts: &Facts<'a>) -> Result<Place<'a>, RequestError> {
    let target = Target::split(facts.url).ok_or(RequestError::Url)?;
    let path = CanonicalPath::new(target.path)?;
    Ok(Place { target, path })
}

impl Place<'_> {
    /// The route of the request.
    pub fn route<'p>(&self, method: &str, policy: &'p Policy) -> Routed<'p> {
        policy.route(method, Some(self.target.host()), &self.path)
    }
}

/// Finds the credentials of a request on a route. An anonymous route looks at none, so none can be wrong there.
///
/// # Errors
///
/// They are ambiguous or malformed, or a page of another origin made an unsafe request with a cookie (CSR-01).
pub fn credentials<'a>(
    facts: &Facts<'a>,
    place: &Place<'_>,
    route: &Route,
    names: CookieNames<'_>,
) -> Result<Presented<'a>, RequestError> {
    if route.access == Access::Anonymous {
        return Ok(Presented { access: None, refresh: None });
    }
    let bearer = bearer(facts.authorization)?;
    let (in_cookie, refresh) = match facts.cookie {
        Some(header) => (cookie::find(header, names.access)?, cookie::find(header, names.refresh)?),
        None => (None, None),
    };
    if bearer.is_some() {
        let one = in_cookie.is_none();
        return if one {
            Ok(Presented { access: bearer, refresh: None })
        } else {
            Err(RequestError::SeveralCredentials)
        };
    }
    if in_cookie.is_some() || refresh.is_some() {
        let (origin, site, target) = (facts.origin, facts.sec_fetch_site, place.target.origin);
        if facts.is_handshake && csrf::is_safe(facts.method) {
            csrf::check_handshake(origin, site, target)?;
        } else {
            csrf::check(facts.method, origin, site, target)?;
        }
    }
    Ok(Presented { access: in_cookie, refresh })
}

/// Whether a browser asks for a page to show, so that it can be sent to another one (Fetch Metadata, `Sec-Fetch-Mode`). What
/// a page asks for, and every other client, is better served by a status.
pub fn is_navigation(method: &str, sec_fetch_mode: Option<&str>) -> bool {
    matches!(method, "GET" | "HEAD") && sec_fetch_mode == Some("navigate")
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); other schemes are the application's business.
fn bearer(header: Option<&str>) -> Result<Option<&str>, RequestError> {
    let Some(header) = header else { return Ok(None) };
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return if is_b64token(token) { Ok(Some(token)) } else { Err(RequestError::Authorization) };
    }
    // Lines that were joined: the second one could be the token.
    if header.contains(',') && header.to_ascii_lowercase().contains("bearer ") {
        return Err(RequestError::Authorization);
    }
    Ok(None)
}

fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, format, vec};

    use super::*;
    use crate::policy::{Assurance, OnStale, PathPattern, Requirements, Upstream};

    const NAMES: CookieNames<'_> = CookieNames { access: "at", refresh: "rt" };

    fn route(access: Access) -> Route {
        Route {
            id: "r".into(),
            host: None,
            path: PathPattern::parse("/*").unwrap(),
            methods: None,
            access,
            assurance: Assurance::default(),
            staleness_ms_max: 5_000,
            on_stale: OnStale::Deny,
            sign_in: None,
            upstream: "self".into(),
        }
    }

    fn get<'a>(authorization: Option<&'a str>, cookie: Option<&'a str>) -> Facts<'a> {
        Facts { method: "GET", url: "http://h/a", authorization, cookie, ..Facts::default() }
    }

    fn presented<'a>(facts: &Facts<'a>) -> Result<Presented<'a>, RequestError> {
        credentials(facts, &place(facts)?, &route(Access::Session(Requirements::default())), NAMES)
    }

    #[test]
    fn a_credential_is_found_in_either_place() {
        let found = |access, refresh| Ok(Presented { access, refresh });
        assert_eq!(presented(&get(None, None)), found(None, None));
        assert_eq!(presented(&get(Some("Bearer a.b.c"), None)), found(Some("a.b.c"), None));
        assert_eq!(presented(&get(Some("bEARER a.b.c"), Some("x=1"))), found(Some("a.b.c"), None));
        assert_eq!(presented(&get(None, Some("at=a.b.c; rt=r"))), found(Some("a.b.c"), Some("r")));
        assert_eq!(presented(&get(None, Some("rt=r"))), found(None, Some("r")));
        assert_eq!(presented(&get(Some("Basic dTpw"), Some("at=a.b.c"))), found(Some("a.b.c"), None));
        assert_eq!(presented(&get(Some("Bearer a.b.c"), Some("rt=r"))), found(Some("a.b.c"), None), "an API client");
    }

    /// BRR-05, COO-11: more than one candidate is an error, never "first wins".
    #[test]
    fn several_credentials_are_refused() {
        assert_eq!(presented(&get(Some("Bearer a"), Some("at=b"))), Err(RequestError::SeveralCredentials));
        assert_eq!(presented(&get(None, Some("at=a; at=a"))), Err(RequestError::Cookie(CookieError::Ambiguous)));
        for header in
            ["Bearer a, Bearer b", "Bearer a,b", "Basic dTpw, Bearer a", "Bearer ", "Bearer", "Bearer a b", "Bearer é"]
        {
            assert_eq!(presented(&get(Some(header), None)), Err(RequestError::Authorization), "{header}");
        }
    }

    /// CSR-01.
    #[test]
    fn an_unsafe_request_with_a_cookie_must_be_of_the_same_origin() {
        let post = |origin, cookie, authorization| {
            presented(&Facts { method: "POST", origin, ..get(authorization, cookie) }).map(|_| ())
        };
        assert_eq!(post(Some("http://h"), Some("at=a"), None), Ok(()));
        let refused = post(Some("http://evil"), Some("at=a"), None);
        assert_eq!(refused, Err(RequestError::CrossSite(CsrfError::OtherOrigin)));
        assert_eq!(refused.map_err(|error| error.status()), Err(403));
        assert_eq!(post(None, Some("rt=a"), None), Err(RequestError::CrossSite(CsrfError::Unknown)));
        assert_eq!(post(None, None, Some("Bearer a")), Ok(()), "no browser sends this by itself");
    }

    #[test]
    fn an_anonymous_route_looks_at_no_credential() {
        let facts = get(Some("Bearer a"), Some("at=b; at=c"));
        let found = credentials(&facts, &place(&facts).unwrap(), &route(Access::Anonymous), NAMES);
        assert_eq!(found, Ok(Presented { access: None, refresh: None }));
    }

    #[test]
    fn the_raw_path_is_what_is_routed() {
        let policy =
            Policy::new(vec![route(Access::Anonymous)], BTreeMap::from([("self".into(), Upstream::at("self"))]));
        let policy = policy.unwrap();
        let at = |path: &str| {
            let url = format!("http://h{path}");
            let facts = Facts { method: "GET", url: &url, ..Facts::default() };
            place(&facts).map(|place| matches!(place.route("GET", &policy), Routed::Route(0, _)))
        };
        assert_eq!(at("/a/b?x=/../y"), Ok(true));
        assert_eq!(at("/admin/%2e%2e/pub/x"), Err(RequestError::Path(PathError::Encoding)));
        assert_eq!(place(&Facts { url: "mailto:a", ..Facts::default() }).map(|_| ()), Err(RequestError::Url));
    }
}
