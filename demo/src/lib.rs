//! A small application to see Portcullis at work: a page on which a person signs in on two devices and out again.
//!
//! It is the upstream of the gate, and is reached through the gate only: a guard refuses whatever the gate did not sign. `/`,
//! `/assets` and `/demo` need no session; `/app` and `/relaxed` do, and `/app/admin` needs the role `admin`: the route policy
//! says so, which gate and guard share; nothing else here does.
//!
//! Invariant: the management key stays in this process; the tokens of the browser stay in cookies that no script can read.

mod app;
mod local;
mod origin;
mod page;
mod sign_in;

use std::{future::ready, net::SocketAddr};

use anyhow::Context as _;
use axum::{
    Router,
    http::HeaderValue,
    middleware::{from_fn, map_response},
    response::Response,
};
use guard::{Accepts, AssertionKey, Gate, Guard, PublicKey, Settings, parse_policy};
use url::Url;

pub use crate::origin::Origin;

/// The policy of the gate.
const POLICY: &str = include_str!("../../edge/policy.toml");

/// What stands before the application: the gate's word counts, and nothing else.
///
/// # Errors
///
/// A key is none.
pub fn guarded(origin: &Url, issuer: &str, feed_key: &str, assertion_key: &str) -> anyhow::Result<Guard> {
    let policy = parse_policy("edge/policy.toml", POLICY)?;
    let gate = Gate { upstream: "app".to_owned(), keys: vec![AssertionKey::from_hex(assertion_key)?] };
    let feed_key = PublicKey::ed25519_from_text(feed_key).context("the feed key is none")?;
    Ok(Guard::start(Settings::new(policy, Accepts::Assertions(gate), issuer, origin.clone(), vec![feed_key]))?)
}

/// Every route of the application, which signs people in at this origin and listens at this address: that is said in
/// `x-upstream` of every answer.
///
/// # Errors
///
/// The address is no value of a header, which none is.
pub fn router(origin: Origin, guard: &Guard, address: SocketAddr) -> anyhow::Result<Router> {
    let address = HeaderValue::try_from(format!("http://{address}"))?;
    let named = map_response(move |mut response: Response| {
        response.headers_mut().insert("x-upstream", address.clone());
        ready(response)
    });
    let pages = Router::new().merge(page::router()).merge(app::router()).merge(sign_in::router(origin));
    Ok(pages.layer(from_fn(local::only_of_this_machine)).layer(guard.layer()).layer(named))
}
