//! Cross-site request forgery: an unsafe request whose credential is a cookie must come from the same origin.
//!
//! Fetch metadata says so where browsers send it; else the `Origin` header does. A request that says neither is refused.

/// Why a request with a cookie is refused (403).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsrfError {
    /// `Sec-Fetch-Site` says that another origin made it.
    #[error("the request comes from another site")]
    CrossSite,
    /// `Origin` names another origin, or `null`.
    #[error("the request comes from another origin")]
    OtherOrigin,
    /// Neither header is there.
    #[error("an unsafe request with a cookie needs Origin or Sec-Fetch-Site")]
    Unknown,
}

/// Methods that change nothing (RFC 9110 §9.2.1).
pub fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// Checks that a request comes from the origin that it goes to (`scheme://host[:port]`); safe methods always pass.
///
/// # Errors
///
/// It does not, or does not say.
pub fn check(
    method: &str,
    origin: Option<&str>,
    sec_fetch_site: Option<&str>,
    target_origin: &str,
) -> Result<(), CsrfError> {
    if is_safe(method) { Ok(()) } else { same_origin(origin, sec_fetch_site, target_origin) }
}

/// Checks the first request of a WebSocket: a browser lets every page open one, with cookies, and always says `Origin`
/// (RFC 6455 §4.1, §10.2). Who says nothing is no browser.
///
/// # Errors
///
/// It says that it comes from elsewhere.
pub fn check_handshake(
    origin: Option<&str>,
    sec_fetch_site: Option<&str>,
    target_origin: &str,
) -> Result<(), CsrfError> {
    match same_origin(origin, sec_fetch_site, target_origin) {
        Err(CsrfError::Unknown) => Ok(()),
        checked => checked,
    }
}

fn same_origin(origin: Option<&str>, sec_fetch_site: Option<&str>, target_origin: &str) -> Result<(), CsrfError> {
    match sec_fetch_site {
        Some("same-origin") => {}
        Some(_) => return Err(CsrfError::CrossSite),
        None if origin.is_none() => return Err(CsrfError::Unknown),
        None => {}
    }
    match origin {
        Some(origin) if !without_default_port(origin).eq_ignore_ascii_case(without_default_port(target_origin)) => {
            Err(CsrfError::OtherOrigin)
        }
        _ => Ok(()),
    }
}

/// Without the default port of its scheme, which browsers leave out (RFC 6454 §6.1) and proxies may add to `Host`.
fn without_default_port(origin: &str) -> &str {
    let default = if origin.starts_with("https:") { ":443" } else { ":80" };
    origin.strip_suffix(default).unwrap_or(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "https://app.example";

    #[test]
    fn the_same_origin_passes_and_every_other_is_refused() {
        let post = |origin, site| check("POST", origin, site, HERE);
        assert_eq!(post(Some(HERE), Some("same-origin")), Ok(()));
        assert_eq!(post(Some(HERE), None), Ok(()));
        assert_eq!(post(None, Some("same-origin")), Ok(()));
        assert_eq!(post(None, None), Err(CsrfError::Unknown));
        assert_eq!(post(Some("null"), None), Err(CsrfError::OtherOrigin));
        assert_eq!(post(Some("https://evil.example"), Some("same-origin")), Err(CsrfError::OtherOrigin));
        assert_eq!(post(Some("https://app.example.evil"), None), Err(CsrfError::OtherOrigin));
        assert_eq!(post(Some("http://app.example"), None), Err(CsrfError::OtherOrigin));
        for site in ["same-site", "cross-site", "none", ""] {
            assert_eq!(post(Some(HERE), Some(site)), Err(CsrfError::CrossSite), "{site}");
        }
    }

    #[test]
    fn the_default_port_makes_no_other_origin() {
        let post = |origin, here| check("POST", Some(origin), None, here);
        assert_eq!(post("https://app.example", "https://app.example:443"), Ok(()));
        assert_eq!(post("http://app.example", "http://app.example:80"), Ok(()));
        for (origin, here) in [
            ("https://app.example", "https://app.example:80"),
            ("https://app.example", "http://app.example:443"),
            ("https://app.example:8443", "https://app.example:443"),
        ] {
            assert_eq!(post(origin, here), Err(CsrfError::OtherOrigin), "{origin} {here}");
        }
    }

    #[test]
    fn no_other_page_opens_a_websocket() {
        assert_eq!(check_handshake(Some(HERE), Some("same-origin"), HERE), Ok(()));
        assert_eq!(check_handshake(None, None, HERE), Ok(()), "no browser");
        for (origin, site) in
            [(Some("https://evil.example"), None), (Some("null"), None), (Some(HERE), Some("same-site"))]
        {
            assert!(check_handshake(origin, site, HERE).is_err(), "{origin:?} {site:?}");
        }
    }

    #[test]
    fn safe_methods_pass_and_unknown_ones_are_unsafe() {
        assert_eq!(check("GET", None, Some("cross-site"), HERE), Ok(()));
        assert_eq!(check("get", None, None, HERE), Err(CsrfError::Unknown));
        assert_eq!(check("PROPFIND", None, None, HERE), Err(CsrfError::Unknown));
    }
}
