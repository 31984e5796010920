//! What is shown of the signing keys: names, public halves and times, never a private part.

use serde::Serialize;
use shared::time::Timestamp;
use utoipa::ToSchema;

use super::{KeyPolicy, KeyRing, RingKey};

/// The signing keys of an installation. Times are Unix seconds.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeysView {
    /// Rises with every change.
    version: u64,
    /// The public key that hubs and gates pin: 43 characters of base64url.
    feed_key: String,
    /// The one that will sign the feed after a switch; to be pinned beside the other before.
    #[serde(skip_serializing_if = "Option::is_none")]
    feed_key_next: Option<String>,
    /// The token keys.
    keys: Vec<KeyView>,
}

/// A token key.
#[derive(Debug, Serialize, ToSchema)]
struct KeyView {
    /// The thumbprint of the key (RFC 7638).
    kid: String,
    alg: &'static str,
    /// `signing`, `pending` (signs from `signs_from` on), `standby` or `replaced`.
    state: &'static str,
    /// Since when gates and verifiers are told of it.
    published_at: u64,
    /// Since when, or from when on, tokens are signed with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    signs_from: Option<u64>,
    /// Until when it is kept for the tokens that it signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<u64>,
}

impl KeysView {
    /// The keys as they are at `now`.
    pub fn new(ring: &KeyRing, policy: &KeyPolicy, now: Timestamp, is_revoked: impl Fn(&RingKey) -> bool) -> Self {
        let signing = ring.signing(policy.algorithm, now, is_revoked).map(|key| key.floor_key);
        let view = |key: &RingKey| KeyView {
            kid: key.kid().to_owned(),
            alg: key.key.jwk().alg,
            state: match key.signs_from {
                _ if signing == Some(key.floor_key) => "signing",
                None => "standby",
                Some(_) if key.has_started(now) => "replaced",
                Some(_) => "pending",
            },
            published_at: key.published_at.as_secs(),
            signs_from: key.signs_from.map(Timestamp::as_secs),
            kept_until: ring.kept_until(key).map(Timestamp::as_secs),
        };
        Self {
            version: ring.version(),
            feed_key: ring.feed().public_text(),
            feed_key_next: ring.feed_keys().next.as_ref().map(|key| key.public_text()),
            keys: ring.tokens().iter().map(view).collect(),
        }
    }
}
