//! Keys derived from the master key (HKDF-SHA-256, RFC 5869) and the sealing of what goes into the store.
//!
//! A sealed value is `format byte ‖ nonce (12) ‖ ciphertext ‖ tag (16)`, AES-256-GCM with a random nonce; the name under
//! which it is stored is authenticated with it, so that two values cannot be exchanged.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
};
use zeroize::Zeroizing;

use crate::config::secrets::MasterKey;

const FORMAT: u8 = 1;
pub(super) const SALT: &[u8] = b"portcullis";
const INFO_SEAL: &[u8] = b"seal keys in the store v1";
const INFO_PEPPER: &[u8] = b"refresh token pepper v1";
const INFO_TAGS: &[u8] = b"session tags in logs v1";

/// Why a sealed value was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Sealed under another master key, or changed since.
    #[error("it was sealed with another master key, or it was changed")]
    Refused,
    /// Not a sealed value of this format.
    #[error("it has an unknown format")]
    Format,
    /// The cryptography library refused to work.
    #[error("the cryptography library failed")]
    Library,
}

impl From<Unspecified> for SealError {
    fn from(_: Unspecified) -> Self {
        Self::Library
    }
}

/// Seals values under a key derived from the master key.
pub struct Sealer {
    key: RandomizedNonceKey,
}

impl Sealer {
    /// Derives the sealing key.
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn new(master: &MasterKey) -> Result<Self, SealError> {
        Self::from_key(&*derive(master, INFO_SEAL)?)
    }

    /// With a key that was derived for one purpose.
    pub(super) fn from_key(key: &[u8; 32]) -> Result<Self, SealError> {
        Ok(Self { key: RandomizedNonceKey::new(&AES_256_GCM, key)? })
    }

    /// Seals `plain` for the place `name`.
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut body = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut body)?;
        Ok([&[FORMAT], nonce.as_ref().as_slice(), &body].concat())
    }

    /// Opens what [`Self::seal`] made for the same `name`.
    ///
    /// # Errors
    ///
    /// [`SealError::Refused`] under another master key or name, [`SealError::Format`] for anything else.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (&format, rest) = sealed.split_first().ok_or(SealError::Format)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Format)?;
        if format != FORMAT {
            return Err(SealError::Format);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce)?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self.key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut body);
        let length = plain.map_err(|_| SealError::Refused)?.len();
        body.truncate(length);
        Ok(body)
    }
}

/// The key of the MAC in refresh tokens. It never reaches the store.
///
/// # Errors
///
/// [`SealError::Library`].
pub fn refresh_pepper(master: &MasterKey) -> Result<Zeroizing<[u8; 32]>, SealError> {
    derive(master, INFO_PEPPER)
}

/// The key of the tags that stand for session ids in logs.
///
/// # Errors
///
/// [`SealError::Library`].
pub fn session_tags(master: &MasterKey) -> Result<Zeroizing<[u8; 32]>, SealError> {
    derive(master, INFO_TAGS)
}

fn derive(master: &MasterKey, info: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    expand(&Salt::new(HKDF_SHA256, SALT).extract(master.expose()), &[info])
}

/// 32 bytes for one purpose.
pub(super) fn expand(prk: &Prk, info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    struct Len;
    impl KeyType for Len {
        fn len(&self) -> usize {
            32
        }
    }
    let mut key = Zeroizing::new([0; 32]);
    prk.expand(info, Len)?.fill(key.as_mut())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_under_its_key_and_name_only() {
        let sealer = Sealer::new(&MasterKey::new([1; 32])).unwrap();
        let sealed = sealer.seal("keys", b"secret").unwrap();
        assert_eq!(sealer.open("keys", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(sealer.open("other", &sealed), Err(SealError::Refused));
        let other = Sealer::new(&MasterKey::new([2; 32])).unwrap();
        assert_eq!(other.open("keys", &sealed), Err(SealError::Refused));
        for index in 1..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(sealer.open("keys", &changed), Err(SealError::Refused), "byte {index}");
        }
        assert_eq!(sealer.open("keys", &sealed[..5]), Err(SealError::Format));
        assert_eq!(sealer.open("keys", &[]), Err(SealError::Format));
    }

    #[test]
    fn purposes_have_different_keys() {
        let master = MasterKey::new([1; 32]);
        assert_ne!(derive(&master, INFO_SEAL).unwrap(), derive(&master, INFO_PEPPER).unwrap());
    }
}
