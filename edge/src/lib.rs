//! Gate and hub at the CDN edge, as one WebAssembly module.
//!
//! Invariant: no panic path, since a panic ends the isolate together with its replica of the floors.
//! Invariant: public keys only; nothing here can mint a token or sign a frame.

pub mod buffers;
pub mod gate;
mod hub;
mod own;
mod refusal;
mod settings;
mod tokens;
mod verify;
