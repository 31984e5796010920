//! The gate's own paths, below `/.portcullis` on every host: the feed, and what a user sees and does with the own session.

use serde_json::json;
use shared::{
    path::{RESERVED, is_at_or_below},
    policy::{Access, Assurance, OnStale, PathPattern, Requirements, Route, STALENESS_MS_DEFAULT, UPSTREAM_SELF},
    token::Claims,
};

/// What a user sees and does with the own session, below [`RESERVED`].
const SESSION: &str = "/session";
const SIGN_OUT: &str = "/session/sign-out";

/// Paths that no policy is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// Of the feed and of operators.
    Reserved,
    /// Of the session that asks.
    Session,
    /// Ends it.
    SignOut,
}

impl Own {
    /// What a path below `/.portcullis` is for; none for any other path.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path.strip_prefix(RESERVED)? {
            SIGN_OUT => Some(Self::SignOut),
            rest if is_at_or_below(rest, SESSION) => Some(Self::Session),
            rest if is_at_or_below(rest, "") => Some(Self::Reserved),
            // A longer name, such as `/.portcullisx`.
            _ => None,
        }
    }
}

/// Any live session, known as freshly as by default.
pub(crate) fn session_route() -> Route {
    Route {
        id: "session".to_owned(),
        host: None,
        path: PathPattern::Under("/.portcullis/session/".to_owned()),
        methods: None,
        access: Access::Session(Requirements::default()),
        assurance: Assurance::default(),
        staleness_ms_max: STALENESS_MS_DEFAULT,
        on_stale: OnStale::Deny,
        sign_in: None,
        upstream: UPSTREAM_SELF.to_owned(),
    }
}

/// What a page may know of its session: no credential is part of it.
pub(crate) fn who_am_i(claims: &Claims) -> serde_json::Value {
    json!({
        "sub": claims.sub, "sid": claims.sid, "tid": claims.tid, "roles": claims.roles, "scope": claims.scope,
        "acr": claims.acr, "amr": claims.amr, "auth_time": claims.auth_time, "exp": claims.exp,
    })
}
