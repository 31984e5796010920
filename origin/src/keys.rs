//! The keys of the origin: token keys (sign access tokens), the feed key (signs frames), the refresh pepper.
//!
//! Signing keys are made at the first start and kept in the store, sealed with AES-256-GCM under a key derived from the
//! master key. The pepper is derived from the master key and is stored nowhere. Every purpose has its own key.
//!
//! To change the master key without refusing anyone: give every origin the new key as the second one; then exchange the
//! two everywhere, which seals the signing keys anew; then, when the last refresh token from before has expired
//! (`sessions.idle_s`), take the second one away.
//!
//! To change the feed key: prepare the next one, pin both at every gate and hub, switch, pin the new one alone.
//!
//! Invariant: a wrong master key is an error; nothing in the store is overwritten because of it.

mod answers;
pub mod jwk;
mod live;
mod ring;
mod rules;
mod seal;
mod signer;
mod view;

pub use self::{
    answers::AnswerSealer,
    live::{Keys, KeysError},
    ring::{FeedKeys, KeyRing, KeyRingError, RingKey},
    rules::{KeyPolicy, revocation},
    seal::{Peppers, SealError, Sealer, TransferKeys, session_tags},
    signer::{FeedKey, KeyRefused, TokenKey},
    view::KeysView,
};
pub use shared::keys::Verifier;
