//! The signing keys of an installation, made by whichever origin comes first.

use super::{KeyRing, Sealer, ring::KeyRingError};
use crate::{
    config::{SigningAlgorithm, secrets::MasterKey},
    store::{Key, Store, StoreError, Swapped},
};

/// A swap that is lost this often was not lost to another origin that starts.
const ATTEMPTS: u32 = 8;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys do not open, or cannot be made.
    #[error(transparent)]
    Ring(#[from] KeyRingError),
    /// Somebody else kept writing.
    #[error("the signing keys changed {ATTEMPTS} times while they were read")]
    Contended,
}

/// Opens the keys in the store; makes them, or one of `algorithm`, if they are not there.
///
/// # Errors
///
/// [`LoadError`]; a set that does not open is left as it is.
pub async fn load_or_create(
    store: &dyn Store,
    master: &MasterKey,
    algorithm: SigningAlgorithm,
) -> Result<KeyRing, LoadError> {
    let sealer = Sealer::new(master).map_err(KeyRingError::from)?;
    for _ in 0..ATTEMPTS {
        let stored = store.load(&Key::Keys).await?;
        let new = match &stored {
            None => KeyRing::generate(&sealer, algorithm)?,
            Some(sealed) => match KeyRing::open(&sealer, sealed, algorithm)? {
                Some(ring) => return Ok(ring),
                None => KeyRing::add(&sealer, sealed, algorithm)?,
            },
        };
        match store.swap(&Key::Keys, stored.as_deref(), &new, None).await {
            // Read back in any case: what counts is what the store holds.
            Ok(Swapped::Done | Swapped::Conflict) | Err(StoreError::OutcomeUnknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(LoadError::Contended)
}
