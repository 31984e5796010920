//! Signing keys in the form in which they are used: parsed once, with their JWS header encoded once.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Serialize;
use shared::keys::PublicKey;
use zeroize::Zeroizing;

use super::jwk::Jwk;
use crate::config::SigningAlgorithm;

/// Why a key was not made, read or used. Says nothing about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptography library refused a signing key")]
pub struct KeyRefused;

/// A key that signs access tokens.
pub struct TokenKey {
    algorithm: SigningAlgorithm,
    pkcs8: Zeroizing<Vec<u8>>,
    pair: Pair,
    jwk: Jwk,
    /// `base64url(header) ‖ "."`, the same for every token of this key.
    head: String,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
}

/// JOSE header of an access token (RFC 9068 §2.1).
#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    kid: &'a str,
}

impl TokenKey {
    /// Makes a new key, as a PKCS#8 document.
    ///
    /// # Errors
    ///
    /// [`KeyRefused`] if the library has no randomness.
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Zeroizing<Vec<u8>>, KeyRefused> {
        let random = SystemRandom::new();
        let document = match algorithm {
            SigningAlgorithm::Ed25519 => Ed25519KeyPair::generate_pkcs8(&random),
            SigningAlgorithm::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random),
        };
        document.map(|document| Zeroizing::new(document.as_ref().to_vec())).map_err(|_| KeyRefused)
    }

    /// Reads a PKCS#8 document.
    ///
    /// # Errors
    ///
    /// [`KeyRefused`] if it is not a key of this algorithm.
    pub fn from_pkcs8(algorithm: SigningAlgorithm, pkcs8: &[u8]) -> Result<Self, KeyRefused> {
        let (pair, jwk) = match algorithm {
            SigningAlgorithm::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyRefused)?;
                let jwk = Jwk::ed25519(pair.public_key().as_ref());
                (Pair::Ed25519(pair), jwk)
            }
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| KeyRefused)?;
                let jwk = Jwk::p256(pair.public_key().as_ref()).ok_or(KeyRefused)?;
                (Pair::Es256(pair), jwk)
            }
        };
        let header = Header { typ: "at+jwt", alg: jwk.alg, kid: &jwk.kid };
        let header = serde_json::to_vec(&header).map_err(|_| KeyRefused)?;
        let head = Base64UrlUnpadded::encode_string(&header) + ".";
        Ok(Self { algorithm, pkcs8: Zeroizing::new(pkcs8.to_vec()), pair, jwk, head })
    }

    /// The algorithm.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// The document that it was read from: the private key, for sealing it again.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half.
    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// The public half as gates and our own checks hold it.
    ///
    /// # Errors
    ///
    /// The library got its length wrong.
    pub fn public_key(&self) -> Result<PublicKey, KeyRefused> {
        let key = match &self.pair {
            Pair::Ed25519(pair) => pair.public_key().as_ref().try_into().map(PublicKey::Ed25519),
            Pair::Es256(pair) => pair.public_key().as_ref().try_into().map(PublicKey::Es256),
        };
        key.map_err(|_| KeyRefused)
    }

    /// A signed token in compact form (RFC 7515 §7.1) over claims that are serialized already.
    ///
    /// # Errors
    ///
    /// [`KeyRefused`] if the library has no randomness (ES256).
    pub fn sign(&self, claims: &[u8]) -> Result<String, KeyRefused> {
        let mut token = self.head.clone();
        token.push_str(&Base64UrlUnpadded::encode_string(claims));
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.try_sign(token.as_bytes()),
            Pair::Es256(pair) => pair.sign(&SystemRandom::new(), token.as_bytes()),
        };
        let signature = signature.map_err(|_| KeyRefused)?;
        token.push('.');
        token.push_str(&Base64UrlUnpadded::encode_string(signature.as_ref()));
        Ok(token)
    }
}

/// The key that signs frames of the feed: always Ed25519.
pub struct FeedKey {
    pair: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl FeedKey {
    /// Reads a PKCS#8 document.
    ///
    /// # Errors
    ///
    /// [`KeyRefused`] if it is not an Ed25519 key.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyRefused> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyRefused)?;
        Ok(Self { pair, pkcs8: Zeroizing::new(pkcs8.to_vec()) })
    }

    /// The document that it was read from: the private key, for sealing it again.
    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The 64 bytes of the signature.
    ///
    /// # Errors
    ///
    /// [`KeyRefused`] if the library fails.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyRefused> {
        let signature = self.pair.try_sign(message).map_err(|_| KeyRefused)?;
        signature.as_ref().try_into().map_err(|_| KeyRefused)
    }

    /// The public half.
    ///
    /// # Errors
    ///
    /// [`KeyRefused`] if the library holds a key of another length.
    pub fn public_key(&self) -> Result<PublicKey, KeyRefused> {
        self.pair.public_key().as_ref().try_into().map(PublicKey::Ed25519).map_err(|_| KeyRefused)
    }

    /// The public half in base64url, as gates and hubs are given it (`FEED_KEYS`).
    pub fn public_text(&self) -> String {
        Base64UrlUnpadded::encode_string(self.pair.public_key().as_ref())
    }
}
