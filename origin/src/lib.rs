//! The origin of Portcullis: the truth about sessions.
//!
//! Layers, outermost first: [`cli`] → `http` (routes, one file per resource) → `service` (load, apply, commit) → `store`;
//! beside them [`apikeys`], [`audit`] and [`idempotency`] of the management API, `feed` (tail of the floor log, push to hubs), [`keys`], [`config`] and [`telemetry`].
//!
//! Invariant: every rule about sessions, tokens and floors lives in the crate `shared`; this crate owns I/O, clock and
//! randomness only.

pub mod apikeys;
pub mod audit;
pub mod cli;
pub mod clients;
pub mod config;
pub mod failpoints;
pub mod feed;
pub mod http;
pub mod idempotency;
pub mod keys;
mod lane;
pub mod policies;
pub mod server;
pub mod service;
mod shell;
pub mod store;
pub mod telemetry;
pub mod transfer;
