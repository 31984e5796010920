//! The keys of the origin: token keys (sign access tokens), the feed key (signs frames), the refresh pepper.
//!
//! Signing keys are made at the first start and kept in the store, sealed with AES-256-GCM under a key derived from the
//! master key. The pepper is derived from the master key and is stored nowhere. Every purpose has its own key.
//!
//! Invariant: a wrong master key is an error; nothing in the store is overwritten because of it.

mod answers;
pub mod jwk;
mod load;
mod ring;
mod seal;
mod signer;
mod verify;

pub use self::{
    answers::AnswerSealer,
    load::{LoadError, load_or_create},
    ring::{KeyRing, KeyRingError},
    seal::{SealError, Sealer, refresh_pepper, session_tags},
    signer::{FeedKey, KeyRefused, TokenKey},
    verify::Verifier,
};
