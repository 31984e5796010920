//! Gate and hub at the CDN edge, as one WebAssembly module.
//!
//! Invariant: no panic path, since a panic ends the isolate together with its replica of the floors.
//! Invariant: nothing here can mint a token or sign a frame. The only secrets are the keys of assertions, each of which speaks
//! to one upstream.

pub mod buffers;
pub mod gate;
mod hub;
pub mod names;
mod own;
mod pools;
mod refusal;
mod settings;
mod tokens;
mod verify;
