//! The headers by which an application is told who a request is from.

use alloc::{borrow::ToOwned as _, string::String};
use core::fmt::Write as _;

use crate::token::Claims;

/// Their names, in lower case.
pub const HEADERS: [&str; 5] =
    ["portcullis-subject", "portcullis-session", "portcullis-tenant", "portcullis-roles", "portcullis-version"];

/// What the names of all headers of the gate begin with, in lower case.
pub const PREFIX: &str = "portcullis-";

/// The headers by which an application would take a request for another one than was judged, in lower case.
pub const OVERRIDES: [&str; 5] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"];

/// Whether a header, of whatever case, could be taken for one of the gate's: servers read `_` in a name as `-`.
pub fn is_reserved(name: &str) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.replace('_', "-").eq_ignore_ascii_case(PREFIX))
}

/// Whether a header is one of [`OVERRIDES`], in whatever case, with `_` for `-`.
pub fn is_override(name: &str) -> bool {
    name.starts_with(['x', 'X']) && OVERRIDES.contains(&&*name.replace('_', "-").to_ascii_lowercase())
}

/// Their values, in the order of [`HEADERS`]; an empty one stands for no header.
pub fn values(claims: &Claims) -> [String; 5] {
    let lines = lines(claims);
    let mut lines = lines.split('\n').map(str::to_owned);
    core::array::from_fn(|_| lines.next().unwrap_or_default())
}

/// The values, each with a line break after it: none of them has one.
pub fn lines(claims: &Claims) -> String {
    // As much as most have.
    let mut lines = String::with_capacity(128);
    let tenant = claims.tid.as_ref().map_or("", |tenant| tenant.as_str());
    // A text takes all that is written.
    let _ = write!(lines, "{}\n{}\n{tenant}\n", claims.sub, claims.sid);
    for (number, role) in claims.roles.iter().enumerate() {
        lines.extend([if number > 0 { "," } else { "" }, role.as_str()]);
    }
    for (number, version) in claims.ver.iter().enumerate() {
        lines.push(if number > 0 { '.' } else { '\n' });
        let _ = write!(lines, "{}", version.get());
    }
    lines.push('\n');
    lines
}

#[cfg(test)]
mod tests {
    use std::format;

    use serde_json::json;

    use super::*;
    use crate::token::tests::token_with;

    #[test]
    fn the_values_are_those_of_the_claims() {
        let token = token_with(&[("roles", json!(["admin", "editor"])), ("ver", json!([1, 20, 0, 3]))]);
        let told = ["alice", "AAAAAAAAAAAAAAAAAAAAAA", "acme", "admin,editor", "1.20.0.3"];
        assert_eq!(values(token.claims()), told);
        assert_eq!(lines(token.claims()), told.map(|value| format!("{value}\n")).concat());
        let bare = token_with(&[("roles", json!([])), ("tid", json!(null))]);
        assert_eq!(values(bare.claims()), ["alice", "AAAAAAAAAAAAAAAAAAAAAA", "", "", "1.2.3.4"]);
    }

    #[test]
    fn what_looks_like_a_reserved_name_is_one() {
        for name in ["portcullis-subject", "PORTCULLIS_Roles", "Portcullis-", "portcullis_anything"] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["portcullis", "portcullisx-subject", "x-portcullis-subject", "é-portcullis-subject", ""] {
            assert!(!is_reserved(name), "{name}");
        }
        // The gate's entry looks at the first letter before anything else, too.
        assert!(PREFIX.starts_with('p') && OVERRIDES.into_iter().all(is_override));
        assert!(is_override("X_HTTP-Method_Override") && !is_override("x-http-methods") && !is_override("é"));
    }
}
