//! The headers by which an application is told who a request is from.

use alloc::{
    borrow::ToOwned as _,
    string::{String, ToString as _},
    vec::Vec,
};

use crate::{id::Role, revocation::Version, token::Claims};

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
    let tenant = claims.tid.as_ref().map_or("", |tenant| tenant.as_str());
    let roles = claims.roles.iter().map(Role::as_str).collect::<Vec<_>>().join(",");
    let version = claims.ver.map(|version: Version| version.get().to_string()).join(".");
    [claims.sub.to_string(), claims.sid.to_string(), tenant.to_owned(), roles, version]
}

#[cfg(test)]
mod tests {
    use super::*;

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
