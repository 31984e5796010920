//! Keys derived from the master key (HKDF-SHA-256, RFC 5869) and the sealing of what goes into the store.
//!
//! A sealed value is `format byte ‖ nonce (12) ‖ ciphertext ‖ tag (16)`, AES-256-GCM with a random nonce; the name under
//! which it is stored is authenticated with it, so that two values cannot be exchanged.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    hmac::{self, HMAC_SHA256},
};
use shared::{
    id::SessionId,
    refresh::{self, Generation, Pepper, PresentedToken, Seed},
};
use zeroize::Zeroizing;

use crate::config::secrets::MasterKey;

const FORMAT: u8 = 1;
pub(super) const SALT: &[u8] = b"portcullis";
const INFO_SEAL: &[u8] = b"seal keys in the store v1";
const INFO_PEPPER: &[u8] = b"refresh token pepper v1";
const INFO_TAGS: &[u8] = b"session tags in logs v1";
const INFO_TRANSFER: &[u8] = b"export of a store v1";

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
    second: Option<RandomizedNonceKey>,
}

impl Sealer {
    /// Derives the sealing key.
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn new(master: &MasterKey) -> Result<Self, SealError> {
        let key = |master| Ok::<_, SealError>(RandomizedNonceKey::new(&AES_256_GCM, &*derive(master, INFO_SEAL)?)?);
        Ok(Self { key: key(master.first())?, second: master.second().map(key).transpose()? })
    }

    /// With a key that was derived for one purpose.
    pub(super) fn from_key(key: &[u8; 32]) -> Result<Self, SealError> {
        Ok(Self { key: RandomizedNonceKey::new(&AES_256_GCM, key)?, second: None })
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

    /// Opens what [`Self::seal`] made for the same `name`, under the master key or the second one.
    ///
    /// # Errors
    ///
    /// [`SealError::Refused`] under another master key or name, [`SealError::Format`] for anything else.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        match (open(&self.key, name, sealed), &self.second) {
            (Err(SealError::Refused), Some(second)) => open(second, name, sealed),
            (opened, _) => opened,
        }
    }

    /// Whether a value is sealed under the second master key.
    pub fn is_sealed_under_second(&self, name: &str, sealed: &[u8]) -> bool {
        open(&self.key, name, sealed) == Err(SealError::Refused)
            && self.second.as_ref().is_some_and(|second| open(second, name, sealed).is_ok())
    }
}

fn open(key: &RandomizedNonceKey, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (&format, rest) = sealed.split_first().ok_or(SealError::Format)?;
    let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Format)?;
    if format != FORMAT {
        return Err(SealError::Format);
    }
    let nonce = Nonce::try_assume_unique_for_key(nonce)?;
    let mut body = Zeroizing::new(body.to_vec());
    let plain = key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut body);
    let length = plain.map_err(|_| SealError::Refused)?.len();
    body.truncate(length);
    Ok(body)
}

/// The key of the tags that stand for session ids in logs.
///
/// # Errors
///
/// [`SealError::Library`].
pub fn session_tags(master: &MasterKey) -> Result<Zeroizing<[u8; 32]>, SealError> {
    derive(master.first(), INFO_TAGS)
}

/// What refresh tokens are authenticated with: derived from the master key, and, while that is changed, from the second
/// one as well. Neither ever reaches the store.
pub struct Peppers {
    first: Pepper,
    second: Option<Pepper>,
}

impl Peppers {
    /// Derives them.
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn new(master: &MasterKey) -> Result<Self, SealError> {
        let pepper = |master| Pepper::new(&*derive(master, INFO_PEPPER)?).ok_or(SealError::Library);
        Ok(Self { first: pepper(master.first())?, second: master.second().map(pepper).transpose()? })
    }

    /// Makes the refresh token of a session and generation.
    pub fn issue(&self, session: &SessionId, generation: Generation, seed: &Seed) -> String {
        refresh::issue(&self.first, session, generation, seed)
    }

    /// The generation of a token that one of our origins made.
    pub fn generation(&self, presented: &PresentedToken, seed: &Seed) -> Option<Generation> {
        let second = || self.second.as_ref().and_then(|second| presented.generation(second, seed));
        presented.generation(&self.first, seed).or_else(second)
    }
}

/// What the lines of an export are authenticated with: under the master key, or, while that is changed, under the second one.
pub struct TransferKeys {
    /// Writes and reads.
    pub first: hmac::Key,
    /// Reads.
    pub second: Option<hmac::Key>,
}

impl TransferKeys {
    /// Derives them.
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn new(master: &MasterKey) -> Result<Self, SealError> {
        let key = |master| Ok::<_, SealError>(hmac::Key::new(HMAC_SHA256, &*derive(master, INFO_TRANSFER)?));
        Ok(Self { first: key(master.first())?, second: master.second().map(key).transpose()? })
    }
}

fn derive(master: &[u8; 32], info: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    expand(&Salt::new(HKDF_SHA256, SALT).extract(master), &[info])
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
        assert_ne!(derive(&[1; 32], INFO_SEAL).unwrap(), derive(&[1; 32], INFO_PEPPER).unwrap());
    }

    /// While the master key is changed, origins with (old, new) and with (new, old) understand each other.
    #[test]
    fn both_sides_of_a_change_open_and_verify_what_the_other_made() {
        let before = MasterKey::new([1; 32]).with_second([2; 32]);
        let after = MasterKey::new([2; 32]).with_second([1; 32]);
        let strange = MasterKey::new([3; 32]);
        let (session, seed) = (SessionId::from_random([5; 16]), Seed([6; 16]));
        for (one, other) in [(&before, &after), (&after, &before)] {
            let sealed = Sealer::new(one).unwrap().seal("keys", b"secret").unwrap();
            let sealer = Sealer::new(other).unwrap();
            assert_eq!(sealer.open("keys", &sealed).unwrap().as_slice(), b"secret");
            assert!(sealer.is_sealed_under_second("keys", &sealed));
            assert!(!Sealer::new(one).unwrap().is_sealed_under_second("keys", &sealed));
            assert_eq!(Sealer::new(&strange).unwrap().open("keys", &sealed), Err(SealError::Refused));

            let token = Peppers::new(one).unwrap().issue(&session, Generation(4), &seed);
            let presented = PresentedToken::parse(&token).unwrap();
            assert_eq!(Peppers::new(other).unwrap().generation(&presented, &seed), Some(Generation(4)));
            assert_eq!(Peppers::new(&strange).unwrap().generation(&presented, &seed), None);
        }
    }
}
