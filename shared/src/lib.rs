//! The rules of Portcullis, as pure functions over plain values.
//!
//! Everything that the origin, the gate and the tests must agree on lives here once: ids and time, session and subject
//! records with their transitions, access and refresh tokens, floors and freshness, feed frames, route policy, the decision.
//!
//! Invariant: no I/O, no clock, no randomness. `now`, ids and seeds are drawn by the shells and travel in as arguments.
//! Invariant: no panic path, since a panic at the edge ends the isolate together with its replica of the floors.
#![no_std]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod assertion;
pub mod codec;
pub mod cookie;
pub mod csrf;
pub mod decision;
pub mod feed;
pub mod hub;
pub mod id;
pub mod identity;
pub mod jws;
pub mod keys;
pub mod path;
pub mod pieces;
pub mod policy;
#[cfg(feature = "policy-text")]
pub mod policy_text;
pub mod pool;
pub mod refresh;
pub mod replica;
pub mod request;
pub mod resource;
pub mod revocation;
pub mod roster;
pub mod session;
pub mod subject;
pub mod time;
pub mod token;
