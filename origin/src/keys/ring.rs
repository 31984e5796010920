//! The set of signing keys as one value: made at once, stored at once, so that two origins that start together end up
//! with the same keys.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};
use shared::keys::{KeyError, KeySet, PublicKey};
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
const TOKEN_KEYS_MAX: usize = 8;

/// Why the keys cannot be used.
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
    #[error("there are {TOKEN_KEYS_MAX} token keys already")]
    Full,
}

/// The signing keys of an installation.
pub struct KeyRing {
    version: u64,
    tokens: Vec<TokenKey>,
    signing: usize,
    feed: FeedKey,
}

/// What is sealed.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Content {
    /// Rises with every change of the token keys.
    version: u64,
    feed: String,
    tokens: Vec<TokenContent>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct TokenContent {
    #[zeroize(skip)]
    algorithm: SigningAlgorithm,
    pkcs8: String,
}

impl KeyRing {
    /// Makes a sealed set with one token key and a feed key.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::Key`] or [`KeyRingError::Sealed`] if the library fails.
    pub fn generate(sealer: &Sealer, algorithm: SigningAlgorithm) -> Result<Vec<u8>, KeyRingError> {
        let feed = Base64UrlUnpadded::encode_string(&TokenKey::generate(SigningAlgorithm::Ed25519)?);
        let content = Content { version: 1, feed, tokens: vec![TokenContent::generate(algorithm)?] };
        content.seal(sealer)
    }

    /// Opens a sealed set. Tokens are signed with its newest key of `algorithm`; none if it has no such key.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::Sealed`] under another master key, [`KeyRingError::Content`] for an unknown form.
    pub fn open(sealer: &Sealer, sealed: &[u8], algorithm: SigningAlgorithm) -> Result<Option<Self>, KeyRingError> {
        let content = Content::open(sealer, sealed)?;
        let Some(signing) = content.tokens.iter().rposition(|token| token.algorithm == algorithm) else {
            return Ok(None);
        };
        let tokens = content.tokens.iter().map(TokenContent::key).collect::<Result<_, _>>()?;
        let feed = FeedKey::from_pkcs8(&decode(&content.feed)?)?;
        Ok(Some(Self { version: content.version, tokens, signing, feed }))
    }

    /// The sealed set with one more token key, for a change of algorithm.
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; [`KeyRingError::Full`].
    pub fn add(sealer: &Sealer, sealed: &[u8], algorithm: SigningAlgorithm) -> Result<Vec<u8>, KeyRingError> {
        let mut content = Content::open(sealer, sealed)?;
        if content.tokens.len() >= TOKEN_KEYS_MAX {
            return Err(KeyRingError::Full);
        }
        content.version = content.version.saturating_add(1);
        content.tokens.push(TokenContent::generate(algorithm)?);
        content.seal(sealer)
    }

    /// Rises with every change of the token keys; the `upto` of a keys frame.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The key that signs new access tokens.
    pub fn signing(&self) -> &TokenKey {
        &self.tokens[self.signing]
    }

    /// Every key that verifies access tokens.
    pub fn tokens(&self) -> &[TokenKey] {
        &self.tokens
    }

    /// The key that signs frames.
    pub fn feed(&self) -> &FeedKey {
        &self.feed
    }

    /// The public token keys, as gates and our own checks hold them.
    ///
    /// # Errors
    ///
    /// A key has not the length of its algorithm, which the library would have to have got wrong.
    pub fn key_set(&self) -> Result<KeySet, KeyError> {
        let keys = self.tokens.iter().map(|key| {
            let bytes = key.public_bytes();
            let public = match bytes.len() {
                32 => bytes.try_into().map(PublicKey::Ed25519),
                _ => bytes.try_into().map(PublicKey::Es256),
            };
            Ok((key.jwk().kid.clone(), public.map_err(|_| KeyError::Coordinates)?))
        });
        KeySet::new(keys.collect::<Result<Vec<_>, KeyError>>()?)
    }

    /// The public token keys.
    pub fn jwks(&self) -> JwkSet {
        JwkSet { keys: self.tokens.iter().map(|key| key.jwk().clone()).collect() }
    }
}

impl Content {
    fn open(sealer: &Sealer, sealed: &[u8]) -> Result<Self, KeyRingError> {
        let plain = sealer.open(NAME, sealed)?;
        serde_json::from_slice(&plain).map_err(|_| KeyRingError::Content)
    }

    fn seal(&self, sealer: &Sealer) -> Result<Vec<u8>, KeyRingError> {
        let plain = Zeroizing::new(serde_json::to_vec(self).map_err(|_| KeyRingError::Content)?);
        Ok(sealer.seal(NAME, &plain)?)
    }
}

impl TokenContent {
    fn generate(algorithm: SigningAlgorithm) -> Result<Self, KeyRefused> {
        Ok(Self { algorithm, pkcs8: Base64UrlUnpadded::encode_string(&TokenKey::generate(algorithm)?) })
    }

    fn key(&self) -> Result<TokenKey, KeyRingError> {
        Ok(TokenKey::from_pkcs8(self.algorithm, &decode(&self.pkcs8)?)?)
    }
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, KeyRingError> {
    Base64UrlUnpadded::decode_vec(text).map(Zeroizing::new).map_err(|_| KeyRingError::Content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{SigningAlgorithm::*, secrets::MasterKey};

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&MasterKey::new([byte; 32])).unwrap()
    }

    #[test]
    fn a_set_is_made_opened_and_extended() {
        let first = KeyRing::generate(&sealer(1), Ed25519).unwrap();
        let ring = KeyRing::open(&sealer(1), &first, Ed25519).unwrap().unwrap();
        assert_eq!((ring.version(), ring.tokens().len(), ring.signing().jwk().alg), (1, 1, "Ed25519"));
        assert!(KeyRing::open(&sealer(1), &first, Es256).unwrap().is_none());

        let second = KeyRing::add(&sealer(1), &first, Es256).unwrap();
        let ring = KeyRing::open(&sealer(1), &second, Es256).unwrap().unwrap();
        assert_eq!((ring.version(), ring.tokens().len(), ring.signing().jwk().alg), (2, 2, "ES256"));
        assert_eq!(ring.jwks().keys.len(), 2);
        assert_ne!(ring.jwks().keys[0].kid, ring.jwks().keys[1].kid);
    }

    #[test]
    fn another_master_key_is_an_error() {
        let sealed = KeyRing::generate(&sealer(1), Ed25519).unwrap();
        let refused = KeyRing::open(&sealer(2), &sealed, Ed25519).err();
        assert_eq!(refused, Some(KeyRingError::Sealed(SealError::Refused)));
    }

    #[test]
    fn the_sealed_set_shows_no_key() {
        let sealed = KeyRing::generate(&sealer(1), Ed25519).unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"pkcs8"));
    }

    /// The signature verifies with a library of its own.
    #[test]
    fn tokens_verify_elsewhere() {
        for (algorithm, jose) in [(Ed25519, jsonwebtoken::Algorithm::EdDSA), (Es256, jsonwebtoken::Algorithm::ES256)] {
            let sealed = KeyRing::generate(&sealer(1), algorithm).unwrap();
            let ring = KeyRing::open(&sealer(1), &sealed, algorithm).unwrap().unwrap();
            let token = ring.signing().sign(br#"{"sub":"u_7"}"#).unwrap();
            let (message, signature) = token.rsplit_once('.').unwrap();
            let jwk = serde_json::to_value(ring.signing().jwk()).unwrap();
            let text = |name: &str| jwk[name].as_str().unwrap().to_owned();
            let key = match algorithm {
                Ed25519 => jsonwebtoken::DecodingKey::from_ed_components(&text("x")).unwrap(),
                Es256 => jsonwebtoken::DecodingKey::from_ec_components(&text("x"), &text("y")).unwrap(),
            };
            assert!(jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, jose).unwrap());
        }
    }
}
