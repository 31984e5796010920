//! The path that is judged is the path that is forwarded, byte for byte.
//!
//! Proxies, frameworks and file systems disagree about `..`, `//`, `;`, `%2f`, `\` and case, and every disagreement is a
//! way around a policy. So a raw path that is not its own canonical form is refused, never repaired.
//!
//! Invariant: a [`CanonicalPath`] means the same to every RFC 3986 parser: decoding or normalising it changes nothing that
//! could select another resource.

/// The longest path in bytes.
pub const PATH_BYTES_MAX: usize = 2_048;

/// The gate's own paths are this one and those below it, on every host; no policy is asked about them.
pub const RESERVED: &str = "/.portcullis";

/// Whether a path is `place`, or lies below it.
pub fn is_at_or_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path in its one canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalPath<'a>(&'a str);

/// Why a raw path is refused (400).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Longer than [`PATH_BYTES_MAX`].
    #[error("a path may have at most {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// Does not begin with `/`.
    #[error("a path must begin with /")]
    NotAbsolute,
    /// `//`.
    #[error("a path may have no empty segment")]
    EmptySegment,
    /// `.` or `..`, encoded or not.
    #[error("a path may have no . or .. segment")]
    DotSegment,
    /// A character that has to be percent-encoded, or that servers read in different ways (`\`, `;`).
    #[error("a path may hold only unreserved characters, percent-encoded ones and ! $ & ' ( ) * + , = : @ /")]
    Character,
    /// `%` without two upper-case hexadecimal digits.
    #[error("percent-encoding must have two upper-case hexadecimal digits")]
    Encoding,
    /// An encoded character that needs no encoding, or that is a delimiter or control character in disguise.
    #[error("percent-encoding may not hide unreserved characters, / \\ ; % or control characters")]
    Disguised,
    /// The percent-encoded bytes are not UTF-8.
    #[error("percent-encoded bytes must be UTF-8")]
    NotUtf8,
}

impl<'a> CanonicalPath<'a> {
    /// Checks a raw path, as it stood on the wire, without query.
    ///
    /// # Errors
    ///
    /// The first way in which it differs from its canonical form.
    pub fn new(raw: &'a str) -> Result<Self, PathError> {
        if raw.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        let segments = raw.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        let mut rest = Some(segments);
        while let Some(text) = rest {
            let (segment, tail) = match text.split_once('/') {
                Some((segment, tail)) => (segment, Some(tail)),
                None => (text, None),
            };
            if segment.is_empty() && tail.is_some() {
                return Err(PathError::EmptySegment);
            }
            check_segment(segment)?;
            rest = tail;
        }
        Ok(Self(raw))
    }

    /// The path.
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

fn check_segment(segment: &str) -> Result<(), PathError> {
    if segment == "." || segment == ".." {
        return Err(PathError::DotSegment);
    }
    let mut utf8 = Utf8::default();
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if !is_literal(byte) {
                return Err(PathError::Character);
            }
            utf8.push(byte)?;
            continue;
        }
        let high = bytes.next().and_then(upper_hex).ok_or(PathError::Encoding)?;
        let low = bytes.next().and_then(upper_hex).ok_or(PathError::Encoding)?;
        let decoded = high << 4 | low;
        if is_literal(decoded) || decoded.is_ascii_control() || matches!(decoded, b'/' | b'\\' | b';' | b'%') {
            return Err(PathError::Disguised);
        }
        utf8.push(decoded)?;
    }
    utf8.finish()
}

/// Characters that stand for themselves in a segment: RFC 3986 `pchar` without `;`, which some servers cut at.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

fn upper_hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'A'..=b'F' => Some(byte.wrapping_sub(b'A').wrapping_add(10)),
        _ => None,
    }
}

/// Gathers the bytes of one character at a time, so that decoded text is checked without a buffer of its length.
#[derive(Default)]
struct Utf8 {
    bytes: [u8; 4],
    len: usize,
}

impl Utf8 {
    fn push(&mut self, byte: u8) -> Result<(), PathError> {
        *self.bytes.get_mut(self.len).ok_or(PathError::NotUtf8)? = byte;
        self.len = self.len.saturating_add(1);
        let gathered = self.bytes.get(..self.len).unwrap_or_default();
        match core::str::from_utf8(gathered) {
            Ok(_) => self.len = 0,
            // More bytes may complete the character.
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => {}
            Err(_) => return Err(PathError::NotUtf8),
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), PathError> {
        if self.len == 0 { Ok(()) } else { Err(PathError::NotUtf8) }
    }
}

/// The parts of a request's URL text, as they stood there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// `scheme://host:port`.
    pub origin: &'a str,
    /// Host with port, if one was given.
    pub authority: &'a str,
    /// Raw path.
    pub path: &'a str,
    /// `?` and what follows it; empty without a query.
    pub query: &'a str,
}

impl<'a> Target<'a> {
    /// Takes an absolute URL text apart without changing a byte; none if it is not `http(s)://host/…`, names a user or several
    /// hosts, or has a fragment.
    pub fn split(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        if (scheme != "http" && scheme != "https") || url.contains('#') {
            return None;
        }
        let start = rest.find(['/', '?', '\\'])?;
        let (authority, target) = rest.split_at_checked(start)?;
        if !is_host(without_port(authority)) {
            return None;
        }
        let end = target.find('?').unwrap_or(target.len());
        let (path, query) = target.split_at_checked(end)?;
        let origin = url.get(..url.len().checked_sub(target.len())?)?;
        Some(Self { origin, authority, path, query })
    }

    /// The host without port, as it was written.
    pub fn host(&self) -> &'a str {
        without_port(self.authority)
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // An IPv6 literal ends with its bracket; the colons inside are not a port's.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Whether a request may name this host, without port. Two `Host` lines are joined by a comma, which no host has. A dot at the
/// end (the root of DNS) would make another name of the same host, for which no route that names it would count.
pub(crate) fn is_host(text: &str) -> bool {
    let (name, others) = match text.strip_prefix('[') {
        Some(rest) => (rest.strip_suffix(']').unwrap_or_default(), b".:".as_slice()),
        None => (text, b".-_".as_slice()),
    };
    let may_have = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
    !name.is_empty() && !name.ends_with('.') && name.bytes().all(may_have)
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use proptest::prelude::*;

    use super::*;

    fn check(path: &str) -> Result<(), PathError> {
        CanonicalPath::new(path).map(|_| ())
    }

    #[test]
    fn canonical_paths_pass() {
        for path in
            ["/", "/a", "/a/", "/a/b.c/~d", "/a%20b", "/%C3%A9", "/a:b@c", "/...", "/.a", "/%E2%82%AC/x", "/a=b,c"]
        {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn every_known_trick_is_refused() {
        let cases = [
            ("", PathError::NotAbsolute),
            ("app", PathError::NotAbsolute),
            ("http://h/app", PathError::NotAbsolute),
            ("//", PathError::EmptySegment),
            ("//app", PathError::EmptySegment),
            ("/a//b", PathError::EmptySegment),
            ("/.", PathError::DotSegment),
            ("/a/../b", PathError::DotSegment),
            ("/a/./b", PathError::DotSegment),
            ("/a/..", PathError::DotSegment),
            ("/admin/%2e%2e/pub/x", PathError::Encoding),
            ("/admin/%2E%2E/pub/x", PathError::Disguised),
            ("/a/.%2E/b", PathError::Disguised),
            ("/a;x=1", PathError::Character),
            ("/a%3Bx", PathError::Disguised),
            ("/a\\b", PathError::Character),
            ("/a%5Cb", PathError::Disguised),
            ("/a%2Fb", PathError::Disguised),
            ("/a%2fb", PathError::Encoding),
            ("/%252e", PathError::Disguised),
            ("/%61", PathError::Disguised),
            ("/a%00", PathError::Disguised),
            ("/a%0D%0A", PathError::Disguised),
            ("/a%7F", PathError::Disguised),
            ("/a b", PathError::Character),
            ("/é", PathError::Character),
            ("/a?b", PathError::Character),
            ("/a#b", PathError::Character),
            ("/a%", PathError::Encoding),
            ("/a%4", PathError::Encoding),
            ("/a%u0041", PathError::Encoding),
            ("/%C0%AE", PathError::NotUtf8),
            ("/%C3", PathError::NotUtf8),
            ("/%C3/%A9", PathError::NotUtf8),
            ("/%ED%A0%80", PathError::NotUtf8),
        ];
        for (path, error) in cases {
            assert_eq!(check(path), Err(error), "{path}");
        }
        let long = String::from("/") + &"a".repeat(PATH_BYTES_MAX - 1);
        assert_eq!(check(&long), Ok(()));
        assert_eq!(check(&(long + "a")), Err(PathError::TooLong));
    }

    #[test]
    fn a_url_comes_apart_without_a_change() {
        let target = Target::split("http://h.example:8787/a/%2e?x=1?y").unwrap();
        assert_eq!((target.origin, target.authority), ("http://h.example:8787", "h.example:8787"));
        assert_eq!((target.host(), target.path, target.query), ("h.example", "/a/%2e", "?x=1?y"));
        assert_eq!(Target::split("http://[::1]/a").map(|target| target.host()), Some("[::1]"));
        assert_eq!(Target::split("http://[::1]:80/a").map(|target| target.host()), Some("[::1]"));
        for url in ["/a", "ftp://h/a", "http://u@h/a", "http:///a", "http://h", "http://h/a#b", "http://h, o/a"] {
            assert_eq!(Target::split(url), None, "{url}");
        }
        for url in ["http://h./a", "http://h.:80/a", "http://:80/a", "http://[::1/a", "http://[]/a", "http://a:b:80/a"]
        {
            assert_eq!(Target::split(url), None, "{url}");
        }
    }

    proptest! {
        /// What passes is a fixed point of decoding: no second reader can find another path in it.
        #[test]
        fn decoding_a_canonical_path_reveals_no_delimiter(path in "/[a-zA-Z0-9%./;\\\\é]{0,12}") {
            if check(&path).is_ok() {
                let decoded = path.replace('%', "");
                prop_assert!(!decoded.contains("//") && !decoded.contains(['\\', ';']));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = check(&text);
            if let Some(target) = Target::split(&text) {
                prop_assert_eq!(text.len(), target.origin.len() + target.path.len() + target.query.len());
            }
        }
    }
}
