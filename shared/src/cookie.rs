//! Cookies of the browser: finding one without ambiguity, taking some out, the lines that set and clear them.
//!
//! RFC 6265 leaves the order of cookies of one name to the client, and two `Cookie` lines reach the edge joined by a comma.
//! So more than one candidate for a name is an error, never "first wins".

use alloc::{format, string::String};

/// The longest `Cookie` header in bytes; servers commonly accept 8 KiB for all headers of a request.
pub const COOKIE_HEADER_BYTES_MAX: usize = 8_192;

/// The access token's cookie by default: host-only, HTTPS-only, set by HTTP only.
pub const ACCESS_COOKIE: &str = "__Host-Http-at";

/// The refresh token's cookie by default.
pub const REFRESH_COOKIE: &str = "__Host-Http-rt";

/// The longest name, with room for a token beside it in the 4,096 bytes that browsers keep (COO-07).
pub const NAME_BYTES_MAX: usize = 64;

/// Whether a cookie of this name may hold a credential: browsers keep the promise of its prefix, that it is of this host
/// alone and was set over HTTPS (COO-02; RFC 6265bis section 4.1.3). `__Host-`, then letters, digits, `-` and `_`.
pub fn is_name(name: &str) -> bool {
    let rest = name.strip_prefix("__Host-").unwrap_or_default();
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !rest.is_empty() && name.len() <= NAME_BYTES_MAX && rest.bytes().all(is_good)
}

/// Whether two names are kept apart, by those too who take upper and lower case for the same (COO-11).
pub fn are_apart(one: &str, other: &str) -> bool {
    !one.eq_ignore_ascii_case(other)
}

/// Why no value can be taken from a `Cookie` header (400).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// More than [`COOKIE_HEADER_BYTES_MAX`].
    #[error("a Cookie header may have at most {COOKIE_HEADER_BYTES_MAX} bytes")]
    TooLarge,
    /// More than one cookie has this name, case aside.
    #[error("more than one cookie has the name of a credential")]
    Ambiguous,
    /// The value is empty, quoted, or holds a character that no token has.
    #[error("the value of a credential's cookie is malformed")]
    Malformed,
}

/// The value of the one cookie of this name; none if there is no such cookie.
///
/// # Errors
///
/// The header is too large, several cookies could be meant, or the value cannot be a token.
pub fn find<'a>(header: &'a str, name: &str) -> Result<Option<&'a str>, CookieError> {
    if header.len() > COOKIE_HEADER_BYTES_MAX {
        return Err(CookieError::TooLarge);
    }
    let mut candidates = pairs(header).filter(|pair| pair.is_named(name));
    let Some(found) = candidates.next() else { return Ok(None) };
    if candidates.next().is_some() {
        return Err(CookieError::Ambiguous);
    }
    if found.name != name {
        // Another spelling: cookie names are case-sensitive, but not everyone who reads them knows.
        return Err(CookieError::Ambiguous);
    }
    match found.value {
        Some(value) if !value.is_empty() && value.bytes().all(is_token_byte) => Ok(Some(value)),
        _ => Err(CookieError::Malformed),
    }
}

/// The header without the cookies of these names, whatever their spelling; empty if nothing is left.
pub fn without(header: &str, names: &[&str]) -> String {
    let mut kept = String::new();
    for pair in pairs(header).filter(|pair| !names.iter().any(|name| pair.is_named(name))) {
        if !kept.is_empty() {
            kept.push_str("; ");
        }
        kept.push_str(pair.text);
    }
    kept
}

/// A `Set-Cookie` line for a session cookie (COO-01): Secure, HttpOnly, SameSite=Lax, for this host only, no Max-Age.
pub fn session_cookie(name: &str, value: &str) -> String {
    format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax")
}

/// A `Set-Cookie` line that removes the cookie.
pub fn clear_cookie(name: &str) -> String {
    format!("{name}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

struct Pair<'a> {
    text: &'a str,
    name: &'a str,
    value: Option<&'a str>,
}

impl Pair<'_> {
    fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Splits at `;` as RFC 6265 says, and at `,`, at which joined header lines meet.
fn pairs(header: &str) -> impl Iterator<Item = Pair<'_>> {
    header.split([';', ',']).map(|text| text.trim_matches([' ', '\t'])).filter(|text| !text.is_empty()).map(|text| {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        Pair { text, name: name.trim_end_matches([' ', '\t']), value }
    })
}

/// What JWTs and refresh tokens are made of (RFC 6750 `b64token`).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_one_cookie_of_a_name_is_found() {
        assert_eq!(find("a=1; __Host-Http-at=tok.en; b=2", ACCESS_COOKIE), Ok(Some("tok.en")));
        assert_eq!(find("", ACCESS_COOKIE), Ok(None));
        assert_eq!(find("x__Host-Http-at=1; __Host-Http-at2=2", ACCESS_COOKIE), Ok(None));
    }

    #[test]
    fn several_candidates_are_never_resolved_by_order() {
        for header in [
            "__Host-Http-at=a; __Host-Http-at=b",
            "__Host-Http-at=a, __Host-Http-at=a",
            "__host-http-AT=a; __Host-Http-at=b",
            "__host-http-at=a",
            "__Host-Http-at=a;__Host-Http-at",
            "__Host-Http-at =a;__Host-Http-at=b",
        ] {
            assert_eq!(find(header, ACCESS_COOKIE), Err(CookieError::Ambiguous), "{header}");
        }
    }

    #[test]
    fn a_value_that_no_token_has_is_malformed() {
        for header in
            ["__Host-Http-at=", "__Host-Http-at", "__Host-Http-at=\"a\"", "__Host-Http-at=a b", "__Host-Http-at=é"]
        {
            assert_eq!(find(header, ACCESS_COOKIE), Err(CookieError::Malformed), "{header}");
        }
        let long = "a".repeat(COOKIE_HEADER_BYTES_MAX + 1);
        assert_eq!(find(&long, ACCESS_COOKIE), Err(CookieError::TooLarge));
    }

    #[test]
    fn credentials_are_taken_out_whatever_their_spelling() {
        let header = "a=1; __Host-Http-rt=x, __HOST-HTTP-RT=y;b=\"2\"; __Host-Http-at=t";
        assert_eq!(without(header, &[REFRESH_COOKIE, ACCESS_COOKIE]), "a=1; b=\"2\"");
        assert_eq!(without("__Host-Http-rt=x", &[REFRESH_COOKIE]), "");
    }

    /// COO-01 to COO-03, COO-05, COO-08 to COO-10, COO-13.
    #[test]
    fn lines_have_the_attributes_that_the_prefix_asks_for() {
        let line = session_cookie(ACCESS_COOKIE, "v");
        assert_eq!(line, "__Host-Http-at=v; Path=/; Secure; HttpOnly; SameSite=Lax");
        assert!(clear_cookie(ACCESS_COOKIE).ends_with("; Max-Age=0"));
    }

    /// COO-07: name and value of the largest token have at most 4,096 bytes.
    /// COO-02, COO-03, COO-08, COO-11.
    #[test]
    fn the_cookie_of_a_credential_has_a_name_with_a_promise() {
        for good in [ACCESS_COOKIE, REFRESH_COOKIE, "__Host-app", "__Host-Http-app_at-1"] {
            assert!(is_name(good), "{good}");
        }
        let long = format!("__Host-{}", "x".repeat(NAME_BYTES_MAX));
        for bad in ["", "app", "__Secure-app", "__host-app", "__Host-", "__Host-a b", "__Host-a;b", "__Host-é", &long]
        {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(are_apart(ACCESS_COOKIE, REFRESH_COOKIE) && !are_apart("__Host-at", "__Host-AT"));
    }

    #[test]
    fn the_largest_token_fits_a_cookie() {
        for (name, longest) in
            [(ACCESS_COOKIE, crate::token::TOKEN_BYTES_MAX), (REFRESH_COOKIE, crate::refresh::TEXT_LEN)]
        {
            assert!(name.len() + longest <= 4_096);
        }
    }

    proptest! {
        #[test]
        fn nothing_of_a_removed_name_is_left(header in "(a|__Host-Http-rt|__host-http-rt|[;, =x]){0,20}") {
            let left = without(&header, &[REFRESH_COOKIE]);
            prop_assert_eq!(find(&left, REFRESH_COOKIE), Ok(None));
            prop_assert_eq!(without(&left, &[REFRESH_COOKIE]), left);
        }

        #[test]
        fn no_text_makes_it_panic(header in any::<String>()) {
            if let Ok(Some(value)) = find(&header, "a") {
                prop_assert!(header.contains(&value.to_string()));
            }
        }
    }
}
