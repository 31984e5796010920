//! Public keys that tokens and feed frames are checked with, and the port by which a shell checks a signature.
//!
//! Wire format of a key set: `count u8`, then per key `algorithm u8 ‖ kid length u8 ‖ kid ‖ key` (32 bytes for Ed25519, 65
//! for P-256, uncompressed). Key sets of others are read from JWKS (RFC 7517, RFC 8037).
//!
//! Invariant: a key serves exactly one algorithm; the algorithm is part of the key's type, never taken from a token.

#[cfg(feature = "native")]
mod native;
mod small_order;

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;

#[cfg(feature = "native")]
pub use self::native::Verifier;
use crate::revocation::FloorKey;

/// The most keys of a set: the current one, the next, and those of one rotation that still verify, many times over.
pub const KEYS_MAX: usize = 32;

/// The longest `kid` in bytes; a JWK thumbprint (RFC 7638) has 43.
pub const KID_BYTES_MAX: usize = 64;

/// The largest JWKS text that is read, in bytes.
pub const JWKS_BYTES_MAX: usize = 64 * 1024;

/// A signature algorithm for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// EdDSA over edwards25519 (RFC 8037; `Ed25519` in RFC 9864).
    Ed25519,
    /// ECDSA over P-256 with SHA-256 (RFC 7518 §3.4).
    Es256,
}

impl Algorithm {
    /// The algorithm that a JOSE header names; `None` for all others, `none` included.
    pub fn from_header(alg: &str) -> Option<Self> {
        match alg {
            // RFC 9864 renamed what RFC 8037 calls EdDSA; with a key of this curve both mean the same.
            "Ed25519" | "EdDSA" => Some(Self::Ed25519),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// A public key together with the one algorithm that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// 32 bytes (RFC 8032 §5.1.5).
    Ed25519([u8; 32]),
    /// `0x04 ‖ x ‖ y` (SEC 1 §2.3.3).
    Es256([u8; 65]),
}

impl PublicKey {
    /// The algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::Ed25519,
            Self::Es256(_) => Algorithm::Es256,
        }
    }

    /// The bytes of the key.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(bytes) => bytes,
            Self::Es256(bytes) => bytes,
        }
    }

    /// An Ed25519 key from 43 characters of unpadded base64url, the form in which a feed key is pinned.
    ///
    /// # Errors
    ///
    /// The text is anything else, or the key is weak.
    pub fn ed25519_from_text(text: &str) -> Result<Self, KeyError> {
        let key = Self::Ed25519(decode_32(text)?);
        if key.is_weak() { Err(KeyError::Weak) } else { Ok(key) }
    }

    /// Whether anyone can sign under it.
    fn is_weak(&self) -> bool {
        matches!(self, Self::Ed25519(key) if small_order::is_of_small_order(key))
    }
}

/// Checks signatures. The implementation belongs to the shell (native: aws-lc-rs; edge: the runtime's own).
pub trait VerifySignature {
    /// Whether `signature` (64 bytes, for ES256 `r ‖ s`) is one of `message` under `key`.
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool;
}

/// Why a key or a key set is refused. Never shows the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not JSON of the form `{"keys":[…]}`.
    #[error("must be a JSON Web Key Set, {{\"keys\":[…]}} (RFC 7517)")]
    NotAKeySet,
    /// Longer than [`JWKS_BYTES_MAX`].
    #[error("a key set may have at most {JWKS_BYTES_MAX} bytes")]
    TooLarge,
    /// More keys than [`KEYS_MAX`].
    #[error("a key set may have at most {KEYS_MAX} keys")]
    TooMany,
    /// A key without `kid`, or with an empty or too long one.
    #[error("every key must have a kid of 1 to {KID_BYTES_MAX} bytes")]
    Kid,
    /// Two keys share a `kid`.
    #[error("two keys have the same kid")]
    DuplicateKid,
    /// Coordinates of a wrong length, or not base64url.
    #[error("an Ed25519 or P-256 key must have coordinates of 32 bytes in unpadded base64url")]
    Coordinates,
    /// `alg` does not fit the kind of key.
    #[error("alg must be Ed25519 or EdDSA for an Ed25519 key, and ES256 for a P-256 key")]
    Algorithm,
    /// A private key where a public one belongs.
    #[error("a key holds its private part (d); only public keys belong here")]
    Private,
    /// A point of small order.
    #[error("an Ed25519 key is a point of small order, under which anyone can sign")]
    Weak,
    /// An encoded set that is cut off, has trailing bytes or an unknown algorithm.
    #[error("the encoded key set is malformed")]
    Encoding,
}

/// Public keys by `kid`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySet(Vec<TokenKey>);

/// A key of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    kid: String,
    key: PublicKey,
    scope: FloorKey,
}

impl TokenKey {
    /// The key.
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Of the floor under which all falls that it signed.
    pub const fn scope(&self) -> FloorKey {
        self.scope
    }
}

impl KeySet {
    /// From keys with their ids.
    ///
    /// # Errors
    ///
    /// Too many keys, a `kid` that is empty or too long, or one that appears twice; a weak key.
    pub fn new(keys: impl IntoIterator<Item = (String, PublicKey)>) -> Result<Self, KeyError> {
        let mut set = Self::default();
        for (kid, key) in keys {
            set.add(kid, key)?;
        }
        Ok(set)
    }

    /// The key of a `kid`.
    pub fn get(&self, kid: &str) -> Option<&TokenKey> {
        self.0.iter().find(|known| known.kid == kid)
    }

    /// The keys with their ids, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &PublicKey)> {
        self.0.iter().map(|known| (known.kid.as_str(), &known.key))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a JWKS. Keys of other kinds or for other uses are left out (RFC 7517 §5), as long as one is left.
    ///
    /// # Errors
    ///
    /// Not a key set, too large, or a key of a known kind that is malformed.
    pub fn from_jwks(text: &str) -> Result<Self, KeyError> {
        if text.len() > JWKS_BYTES_MAX {
            return Err(KeyError::TooLarge);
        }
        let jwks: Jwks = serde_json::from_str(text).map_err(|_| KeyError::NotAKeySet)?;
        let mut set = Self::default();
        for jwk in jwks.keys {
            if let Some((kid, key)) = jwk.read()? {
                set.add(kid, key)?;
            }
        }
        if set.is_empty() { Err(KeyError::NotAKeySet) } else { Ok(set) }
    }

    /// The wire format of the module header.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Counts and lengths are within their limits since construction.
        bytes.push(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        for (kid, key) in self.iter() {
            bytes.push(match key.algorithm() {
                Algorithm::Ed25519 => 1,
                Algorithm::Es256 => 2,
            });
            bytes.push(u8::try_from(kid.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(kid.as_bytes());
            bytes.extend_from_slice(key.as_bytes());
        }
        bytes
    }

    /// The reverse of [`Self::encode`].
    ///
    /// # Errors
    ///
    /// Anything that [`Self::encode`] cannot have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        let (count, mut rest) = bytes.split_first().ok_or(KeyError::Encoding)?;
        let mut set = Self::default();
        for _ in 0..*count {
            let ([algorithm, length], tail) = rest.split_first_chunk().ok_or(KeyError::Encoding)?;
            let (kid, tail) = tail.split_at_checked(usize::from(*length)).ok_or(KeyError::Encoding)?;
            let kid = core::str::from_utf8(kid).map_err(|_| KeyError::Encoding)?;
            let (key, tail) = match algorithm {
                1 => tail.split_first_chunk().map(|(key, tail)| (PublicKey::Ed25519(*key), tail)),
                2 => tail.split_first_chunk().map(|(key, tail)| (PublicKey::Es256(*key), tail)),
                _ => None,
            }
            .ok_or(KeyError::Encoding)?;
            set.add(kid.to_string(), key)?;
            rest = tail;
        }
        if rest.is_empty() { Ok(set) } else { Err(KeyError::Encoding) }
    }

    fn add(&mut self, kid: String, key: PublicKey) -> Result<(), KeyError> {
        if kid.is_empty() || kid.len() > KID_BYTES_MAX {
            return Err(KeyError::Kid);
        }
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        if self.get(&kid).is_some() {
            return Err(KeyError::DuplicateKid);
        }
        if self.0.len() >= KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        self.0.push(TokenKey { scope: FloorKey::signing_key(&kid), kid, key });
        Ok(())
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    crv: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<String>,
}

impl Jwk {
    fn read(self) -> Result<Option<(String, PublicKey)>, KeyError> {
        if self.r#use.as_deref().is_some_and(|used_for| used_for != "sig") {
            return Ok(None);
        }
        let algorithm = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Algorithm::Ed25519,
            ("EC", Some("P-256")) => Algorithm::Es256,
            _ => return Ok(None),
        };
        if self.d.is_some() {
            return Err(KeyError::Private);
        }
        if self.alg.as_deref().is_some_and(|alg| Algorithm::from_header(alg) != Some(algorithm)) {
            return Err(KeyError::Algorithm);
        }
        let kid = self.kid.ok_or(KeyError::Kid)?;
        let x = decode_32(self.x.as_deref().unwrap_or_default())?;
        let key = match algorithm {
            Algorithm::Ed25519 => PublicKey::Ed25519(x),
            Algorithm::Es256 => {
                let y = decode_32(self.y.as_deref().unwrap_or_default())?;
                let mut point = [4; 65];
                for (to, from) in point.iter_mut().skip(1).zip(x.into_iter().chain(y)) {
                    *to = from;
                }
                PublicKey::Es256(point)
            }
        };
        Ok(Some((kid, key)))
    }
}

fn decode_32(text: &str) -> Result<[u8; 32], KeyError> {
    let mut bytes = [0; 32];
    match Base64UrlUnpadded::decode(text, &mut bytes) {
        Ok(decoded) if decoded.len() == 32 => Ok(bytes),
        _ => Err(KeyError::Coordinates),
    }
}

#[cfg(test)]
mod tests {
    use std::{format, string::String};

    use proptest::prelude::*;

    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"; // RFC 8037, appendix A.2

    #[test]
    fn a_key_set_reads_from_jwks_and_back_from_its_encoding() {
        let text = format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{X}","alg":"EdDSA"}},
                {{"kty":"RSA","kid":"r","n":"AQ","e":"AQ"}},
                {{"kty":"EC","crv":"P-256","kid":"b","x":"{X}","y":"{X}"}}]}}"#
        );
        let set = KeySet::from_jwks(&text).unwrap();
        assert_eq!(set.len(), 2);
        assert_eq!(set.get("a").map(|known| known.key().algorithm()), Some(Algorithm::Ed25519));
        assert_eq!(set.get("b").map(|known| known.key().algorithm()), Some(Algorithm::Es256));
        assert_eq!(KeySet::decode(&set.encode()), Ok(set));
    }

    #[test]
    fn a_malformed_key_set_says_what_is_wrong() {
        let of = |jwk: &str| KeySet::from_jwks(&format!(r#"{{"keys":[{jwk}]}}"#));
        let cases = [
            (r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AA"}"#, KeyError::Coordinates),
            (r#"{"kty":"OKP","crv":"Ed25519","x":"X"}"#, KeyError::Kid),
            (r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"X","alg":"ES256"}"#, KeyError::Algorithm),
            (r#"{"kty":"OKP","crv":"Ed25519","kid":"a","x":"X","d":"AA"}"#, KeyError::Private),
            (r#"{"kty":"oct","kid":"a","k":"AA"}"#, KeyError::NotAKeySet),
        ];
        for (jwk, error) in cases {
            assert_eq!(of(&jwk.replace("\"X\"", &format!("\"{X}\""))), Err(error), "{jwk}");
        }
        let twice = format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"a","x":"{X}"}}"#);
        assert_eq!(of(&format!("{twice},{twice}")), Err(KeyError::DuplicateKid));
        assert_eq!(KeySet::from_jwks("[]"), Err(KeyError::NotAKeySet));
        assert_eq!(KeySet::from_jwks(&" ".repeat(JWKS_BYTES_MAX + 1)), Err(KeyError::TooLarge));
        assert_eq!(KeySet::new([(String::new(), PublicKey::Ed25519([0; 32]))]), Err(KeyError::Kid));
    }

    proptest! {
        #[test]
        fn whatever_decodes_is_what_encodes_to_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(set) = KeySet::decode(&bytes) {
                prop_assert_eq!(set.encode(), bytes);
            }
        }
    }
}
