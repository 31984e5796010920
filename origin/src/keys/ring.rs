//! The signing keys of an installation as one value: changed at once, stored at once, so that all origins have the same.
//!
//! Sealed form: JSON under AES-256-GCM, see [`super::seal`].

use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};
use shared::{
    keys::{KeySet, PublicKey},
    revocation::FloorKey,
    time::Timestamp,
};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    jwk::JwkSet,
    seal::{SealError, Sealer},
    signer::{FeedKey, KeyRefused, TokenKey},
};
use crate::config::SigningAlgorithm;

/// The name that the sealed set is bound to.
const NAME: &str = "signing keys";

/// The most token keys in a set; the JWKS and the keys frame stay small.
pub(super) const TOKEN_KEYS_MAX: usize = 16;

/// Why the keys cannot be used or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// The sealed value does not open.
    #[error("the signing keys in the store cannot be opened: {0}; nothing was changed")]
    Sealed(#[from] SealError),
    /// The sealed value opens, but holds no set of keys.
    #[error("the signing keys in the store are not in a form that this version reads; nothing was changed")]
    Content,
    /// The library refused a key.
    #[error(transparent)]
    Key(#[from] KeyRefused),
    /// There is no room for one more key.
    #[error("there are {TOKEN_KEYS_MAX} token keys already; the oldest is dropped an hour after it was replaced")]
    Full,
    /// There is no next feed key to switch to.
    #[error("there is no next feed key; prepare one, pin it at every gate and hub, then switch")]
    NoNextFeedKey,
}

/// A token key and its times.
#[derive(Clone)]
pub struct RingKey {
    /// The key.
    pub key: Arc<TokenKey>,
    /// What its floor is kept under.
    pub floor_key: FloorKey,
    /// Since when gates and verifiers are told of it.
    pub published_at: Timestamp,
    /// From when on tokens are signed with it; none while it stands by.
    pub signs_from: Option<Timestamp>,
}

/// The key that signs frames, and those around it.
#[derive(Clone)]
pub struct FeedKeys {
    /// Signs.
    pub current: Arc<FeedKey>,
    /// Will sign after a switch; to be pinned before.
    pub next: Option<Arc<FeedKey>>,
    /// Public half of the one that signed before: what hubs hold may still be signed with it.
    pub previous: Option<String>,
    /// Version of the set with which the current one began to sign: who has an older set gets everything anew.
    pub since: u64,
}

/// The signing keys of an installation.
#[derive(Clone)]
pub struct KeyRing {
    version: u64,
    pub(super) tokens: Vec<RingKey>,
    pub(super) feed: FeedKeys,
    set: KeySet,
}

/// What is sealed. Times are Unix milliseconds.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u64,
    feed: String,
    #[serde(default)]
    feed_next: Option<String>,
    #[serde(default)]
    feed_previous: Option<String>,
    #[serde(default)]
    feed_since: u64,
    tokens: Vec<TokenContent>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct TokenContent {
    #[zeroize(skip)]
    algorithm: SigningAlgorithm,
    pkcs8: String,
    /// A key without times has been there from the start.
    #[serde(default)]
    published_at: u64,
    #[serde(default = "from_the_start")]
    signs_from: Option<u64>,
}

#[expect(clippy::unnecessary_wraps, reason = "the form that serde asks for")]
fn from_the_start() -> Option<u64> {
    Some(0)
}

impl RingKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// The library has no randomness.
    pub(super) fn generate(
        algorithm: SigningAlgorithm,
        published_at: Timestamp,
        signs_from: Option<Timestamp>,
    ) -> Result<Self, KeyRefused> {
        let key = TokenKey::from_pkcs8(algorithm, &TokenKey::generate(algorithm)?)?;
        Ok(Self::new(key, published_at, signs_from))
    }

    fn new(key: TokenKey, published_at: Timestamp, signs_from: Option<Timestamp>) -> Self {
        let floor_key = FloorKey::signing_key(&key.jwk().kid);
        Self { key: Arc::new(key), floor_key, published_at, signs_from }
    }

    /// The name of the key.
    pub fn kid(&self) -> &str {
        &self.key.jwk().kid
    }

    /// Whether its time to sign has come.
    pub fn has_started(&self, now: Timestamp) -> bool {
        self.signs_from.is_some_and(|from| now.has_reached(from))
    }
}

impl KeyRing {
    /// A set of these keys.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::Full`], or the library got a key wrong.
    pub(super) fn new(version: u64, tokens: Vec<RingKey>, feed: FeedKeys) -> Result<Self, KeyRingError> {
        if tokens.len() > TOKEN_KEYS_MAX {
            return Err(KeyRingError::Full);
        }
        let keys = tokens.iter().map(|key| Ok((key.kid().to_owned(), key.key.public_key()?)));
        let keys = keys.collect::<Result<Vec<_>, KeyRefused>>()?;
        let set = KeySet::new(keys).map_err(|_| KeyRingError::Content)?;
        Ok(Self { version, tokens, feed, set })
    }

    /// Opens a sealed set.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::Sealed`] under another master key, [`KeyRingError::Content`] for an unknown form.
    pub fn open(sealer: &Sealer, sealed: &[u8]) -> Result<Self, KeyRingError> {
        let plain = sealer.open(NAME, sealed)?;
        let content: Content = serde_json::from_slice(&plain).map_err(|_| KeyRingError::Content)?;
        let token = |token: &TokenContent| {
            let key = TokenKey::from_pkcs8(token.algorithm, &decode(&token.pkcs8)?)?;
            let signs_from = token.signs_from.map(Timestamp::from_millis);
            Ok(RingKey::new(key, Timestamp::from_millis(token.published_at), signs_from))
        };
        let feed_key = |text: &String| Ok::<_, KeyRingError>(Arc::new(FeedKey::from_pkcs8(&decode(text)?)?));
        let feed = FeedKeys {
            current: feed_key(&content.feed)?,
            next: content.feed_next.as_ref().map(feed_key).transpose()?,
            previous: content.feed_previous.clone(),
            since: content.feed_since,
        };
        let tokens = content.tokens.iter().map(token).collect::<Result<_, KeyRingError>>()?;
        Self::new(content.version, tokens, feed)
    }

    /// The sealed form.
    ///
    /// # Errors
    ///
    /// The library fails.
    pub fn seal(&self, sealer: &Sealer) -> Result<Vec<u8>, KeyRingError> {
        let tokens = self.tokens.iter().map(|token| TokenContent {
            algorithm: token.key.algorithm(),
            pkcs8: Base64UrlUnpadded::encode_string(token.key.pkcs8()),
            published_at: token.published_at.as_millis(),
            signs_from: token.signs_from.map(Timestamp::as_millis),
        });
        let feed_text = |key: &FeedKey| Base64UrlUnpadded::encode_string(key.pkcs8());
        let content = Content {
            version: self.version,
            feed: feed_text(&self.feed.current),
            feed_next: self.feed.next.as_deref().map(feed_text),
            feed_previous: self.feed.previous.clone(),
            feed_since: self.feed.since,
            tokens: tokens.collect(),
        };
        let plain = Zeroizing::new(serde_json::to_vec(&content).map_err(|_| KeyRingError::Content)?);
        Ok(sealer.seal(NAME, &plain)?)
    }

    /// Whether a sealed form of it is under the second master key.
    pub(super) fn is_sealed_under_second(&self, sealer: &Sealer, sealed: &[u8]) -> bool {
        sealer.is_sealed_under_second(NAME, sealed)
    }

    /// Rises with every change; the `upto` of a keys frame.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Every token key: those that sign or signed, and the one that stands by.
    pub fn tokens(&self) -> &[RingKey] {
        &self.tokens
    }

    /// The key that signs access tokens at `now`: the one that started last, of `algorithm` if there is one; the one
    /// that stands by if all others are revoked. Never one that is revoked; none if all are.
    pub fn signing(
        &self,
        algorithm: SigningAlgorithm,
        now: Timestamp,
        is_revoked: impl Fn(&RingKey) -> bool,
    ) -> Option<&RingKey> {
        // A clock that is behind finds no key that has started; the first one of all has been published the longest.
        let rank = |key: &&RingKey| {
            let from = key.signs_from.unwrap_or(Timestamp::EPOCH);
            match key.has_started(now) {
                true => (true, key.key.algorithm() == algorithm, i128::from(from.as_millis())),
                false => (false, false, -i128::from(from.as_millis())),
            }
        };
        let mut standing_by = self.tokens.iter().filter(|key| key.signs_from.is_none() && !is_revoked(key));
        let scheduled = self.tokens.iter().filter(|key| key.signs_from.is_some() && !is_revoked(key));
        scheduled.max_by_key(rank).or_else(|| standing_by.next())
    }

    /// The keys that concern the feed.
    pub fn feed_keys(&self) -> &FeedKeys {
        &self.feed
    }

    /// The key that signs frames.
    pub fn feed(&self) -> &FeedKey {
        &self.feed.current
    }

    /// The public feed keys whose frames count for us: ours, the next one and the one before.
    ///
    /// # Errors
    ///
    /// The library got a key wrong.
    pub fn feed_public_keys(&self) -> Result<Vec<PublicKey>, KeyRefused> {
        let own = [Some(&self.feed.current), self.feed.next.as_ref()].into_iter().flatten().map(|key| key.public_key());
        let previous = self.feed.previous.iter().map(|text| PublicKey::ed25519_from_text(text).map_err(|_| KeyRefused));
        own.chain(previous).collect()
    }

    /// The public token keys, as gates and our own checks hold them.
    pub fn key_set(&self) -> &KeySet {
        &self.set
    }

    /// The public token keys.
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.tokens.iter().map(|key| key.key.jwk().clone()).collect() }
    }
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyRingError> {
    Base64UrlUnpadded::decode_vec(text).map(Zeroizing::new).map_err(|_| KeyRingError::Content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{SigningAlgorithm::*, secrets::MasterKey},
        keys::KeyPolicy,
    };

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&MasterKey::new([byte; 32])).unwrap()
    }

    fn ring(algorithm: SigningAlgorithm) -> KeyRing {
        let policy = KeyPolicy { algorithm, ..KeyPolicy::default() };
        KeyRing::generate(&policy, Timestamp::from_secs(1_000)).unwrap()
    }

    #[test]
    fn a_set_opens_as_it_was_sealed() {
        let made = ring(Es256);
        let read = KeyRing::open(&sealer(1), &made.seal(&sealer(1)).unwrap()).unwrap();
        let times = |ring: &KeyRing| {
            let times = |key: &RingKey| (key.kid().to_owned(), key.published_at, key.signs_from);
            ring.tokens().iter().map(times).collect::<Vec<_>>()
        };
        assert_eq!((read.version(), times(&read)), (made.version(), times(&made)));
        assert_eq!((read.feed().public_text(), read.jwks()), (made.feed().public_text(), made.jwks()));
    }

    #[test]
    fn another_master_key_is_an_error() {
        let sealed = ring(Ed25519).seal(&sealer(1)).unwrap();
        let refused = KeyRing::open(&sealer(2), &sealed).err();
        assert_eq!(refused, Some(KeyRingError::Sealed(SealError::Refused)));
    }

    #[test]
    fn the_sealed_set_shows_no_key() {
        let sealed = ring(Ed25519).seal(&sealer(1)).unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"pkcs8"));
    }

    /// KEY-01..KEY-03: public members only, distinct names, use and algorithm said.
    #[test]
    fn the_jwks_holds_public_keys_with_names_of_their_own() {
        for algorithm in [Ed25519, Es256] {
            let jwks = serde_json::to_value(ring(algorithm).jwks()).unwrap();
            let keys = jwks["keys"].as_array().unwrap();
            assert_eq!(keys.len(), 2, "one signs, one stands by");
            assert_ne!(keys[0]["kid"], keys[1]["kid"]);
            for key in keys {
                assert!(key["alg"].is_string() && key["use"] == "sig");
                assert!(!["d", "p", "q", "k"].iter().any(|private| key.get(private).is_some()));
            }
        }
    }

    /// The signature verifies with a library of its own.
    #[test]
    fn tokens_verify_elsewhere() {
        for (algorithm, jose) in [(Ed25519, jsonwebtoken::Algorithm::EdDSA), (Es256, jsonwebtoken::Algorithm::ES256)] {
            let ring = ring(algorithm);
            let signing = ring.signing(algorithm, Timestamp::from_secs(1_000), |_| false).unwrap();
            let token = signing.key.sign(br#"{"sub":"u_7"}"#).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let jwk = serde_json::to_value(signing.key.jwk()).unwrap();
            let text = |name: &str| jwk[name].as_str().unwrap().to_owned();
            let key = match algorithm {
                Ed25519 => jsonwebtoken::DecodingKey::from_ed_components(&text("x")).unwrap(),
                Es256 => jsonwebtoken::DecodingKey::from_ec_components(&text("x"), &text("y")).unwrap(),
            };
            assert!(jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, jose).unwrap());
        }
    }
}
