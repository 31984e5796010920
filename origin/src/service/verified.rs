//! Access tokens whose signature was checked already.
//!
//! A signature costs several times what the rest of an introspection does, and callers ask for the same token again and again.
//! Kept is only what cannot change with time: that the signature was good, and the claims. Expiry, records and floors are
//! looked at on every use.
//!
//! Invariant: an entry is found by every byte of its token, and counts only under the key set that it was checked with.

use std::sync::{Arc, Weak};

use moka::sync::Cache;
use shared::token::{AccessToken, Expected};

use crate::keys::{KeyRing, Verifier};

/// Tokens that are kept: about 2 KiB each, so at most some 16 MiB.
const TOKENS_MAX: u64 = 8_192;

/// The tokens that were checked by this process; one that is seldom used makes room.
pub(super) struct Verified(Cache<String, Entry>);

#[derive(Clone)]
struct Entry {
    token: Arc<AccessToken>,
    /// The key set; one that was replaced is kept no longer for this.
    keys: Weak<KeyRing>,
}

impl Verified {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(Cache::new(TOKENS_MAX))
    }

    /// The token, checked now or before; none if it is not one of ours. Says nothing about time and floors.
    pub(super) fn check(&self, text: &str, ring: &Arc<KeyRing>, expected: Expected<'_>) -> Option<Arc<AccessToken>> {
        if let Some(entry) = self.0.get(text).filter(|entry| entry.keys.as_ptr() == Arc::as_ptr(ring)) {
            return Some(entry.token);
        }
        let token = Arc::new(AccessToken::verify(text, ring.key_set(), &Verifier, expected).ok()?);
        self.0.insert(text.to_owned(), Entry { token: Arc::clone(&token), keys: Arc::downgrade(ring) });
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::{id::SessionId, time::Timestamp};

    use super::*;
    use crate::{config::SigningAlgorithm, keys::KeyPolicy};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const LATER: Timestamp = Timestamp::from_secs(1_800_100_000);
    const EXPECTED: Expected<'_> = Expected { issuer: "https://issuer.example", audience: "api" };

    fn token(ring: &Arc<KeyRing>) -> String {
        let sid = SessionId::from_random([5; 16]).to_string();
        let claims = json!({ "iss": EXPECTED.issuer, "sub": "alice", "aud": "api", "exp": 1_800_000_300, "iat": 1_800_000_000,
            "jti": "one", "client_id": "web", "sid": sid, "ver": [1, 1, 0, 1] });
        let signing = ring.signing(SigningAlgorithm::Ed25519, NOW, |_| false).unwrap();
        signing.key.sign(claims.to_string().as_bytes()).unwrap()
    }

    /// TOK-16: a token that was checked is known again by all of its bytes, as long as its key is in the set.
    #[test]
    fn a_token_counts_as_long_as_its_key_does() {
        let policy = KeyPolicy::default();
        let ring = Arc::new(KeyRing::generate(&policy, NOW).unwrap());
        let (verified, token) = (Verified::new(), token(&ring));
        for _ in 0..2 {
            assert_eq!(verified.check(&token, &ring, EXPECTED).unwrap().claims().sub.as_str(), "alice");
        }
        let last = if token.ends_with('A') { "Q" } else { "A" };
        let forged = format!("{}{last}", &token[..token.len() - 1]);
        assert!(verified.check(&forged, &ring, EXPECTED).is_none());

        let rotated = Arc::new(ring.rotated(&policy, LATER).unwrap().unwrap());
        assert!(verified.check(&token, &rotated, EXPECTED).is_some(), "the key is still published");
        let others = Arc::new(KeyRing::generate(&policy, LATER).unwrap());
        assert!(verified.check(&token, &others, EXPECTED).is_none(), "the key is gone");
    }
}
