//! Seals answers that may hold credentials, for the store.

use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use zeroize::Zeroizing;

use super::seal::{SALT, SealError, Sealer, expand};
use crate::config::secrets::MasterKey;

const INFO: &[u8] = b"answers in the store v1";

/// Seals every record under a key of its own, so that no key seals more than a few values however many records there
/// are: nonces are random, and their number under one key is limited (NIST SP 800-38D, section 8.3).
pub struct AnswerSealer {
    first: Prk,
    second: Option<Prk>,
}

impl AnswerSealer {
    /// Derives what record keys are derived from.
    pub fn new(master: &MasterKey) -> Self {
        let prk = |master: &[u8; 32]| Salt::new(HKDF_SHA256, SALT).extract(master);
        Self { first: prk(master.first()), second: master.second().map(prk) }
    }

    /// Seals `plain` for one record.
    ///
    /// # Errors
    ///
    /// [`SealError::Library`].
    pub fn seal(&self, record: &[u8; 32], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        sealer(&self.first, record)?.seal("answer", plain)
    }

    /// Opens what [`Self::seal`] made for the same record, under the master key or the second one.
    ///
    /// # Errors
    ///
    /// [`SealError`].
    pub fn open(&self, record: &[u8; 32], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        match (sealer(&self.first, record)?.open("answer", sealed), &self.second) {
            (Err(SealError::Refused), Some(second)) => sealer(second, record)?.open("answer", sealed),
            (opened, _) => opened,
        }
    }
}

fn sealer(prk: &Prk, record: &[u8; 32]) -> Result<Sealer, SealError> {
    Sealer::from_key(&*expand(prk, &[INFO, record])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_opens_for_its_record_only() {
        let sealer = AnswerSealer::new(&MasterKey::new([1; 32]));
        let sealed = sealer.seal(&[1; 32], b"token").unwrap();
        assert_eq!(sealer.open(&[1; 32], &sealed).unwrap().as_slice(), b"token");
        assert_eq!(sealer.open(&[2; 32], &sealed), Err(SealError::Refused));
        let other = AnswerSealer::new(&MasterKey::new([2; 32]));
        assert_eq!(other.open(&[1; 32], &sealed), Err(SealError::Refused));
        let after = AnswerSealer::new(&MasterKey::new([2; 32]).with_second([1; 32]));
        assert_eq!(after.open(&[1; 32], &sealed).unwrap().as_slice(), b"token", "while the master key is changed");
        assert_eq!(after.open(&[2; 32], &sealed), Err(SealError::Refused));
    }
}
