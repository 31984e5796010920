//! A small application to see Portcullis at work: a page on which a person signs in on two devices and out again.
//!
//! It is the upstream of the gate, and browsers reach it through the gate only. `/`, `/assets` and `/demo` need no session;
//! `/app` and `/relaxed` do, and `/app/admin` needs the role `admin`: the route policy of the gate says so, nothing here does.
//!
//! Invariant: the management key stays in this process; the tokens of the browser stay in cookies that no script can read.

mod app;
mod local;
mod origin;
mod page;
mod sign_in;

use axum::{Router, middleware::from_fn};

pub use crate::origin::Origin;

/// Every route of the application, which signs people in at this origin.
pub fn router(origin: Origin) -> Router {
    Router::new()
        .merge(page::router())
        .merge(app::router())
        .merge(sign_in::router(origin))
        .layer(from_fn(local::only_of_this_machine))
}
