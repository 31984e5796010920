//! One value that all origins agree on: each holds a copy, and changes the one in the store by compare-and-swap.
//!
//! Invariant: a value replaces only an older one. A store that lost it, or fell back to an older one, gets ours back.

use super::{AnyStore, Key, StoreError, Swapped};

/// A swap that is lost this often was not lost to other origins.
pub(crate) const ATTEMPTS: u32 = 8;

/// How such a value is kept.
pub(crate) trait Form: Sync {
    type Value: Clone + Send + Sync;
    type Error: From<StoreError>;

    /// What it is kept under.
    const KEY: Key;

    fn version(value: &Self::Value) -> u64;

    fn read(&self, bytes: &[u8]) -> Result<Self::Value, Self::Error>;

    fn write(&self, value: &Self::Value) -> Result<Vec<u8>, Self::Error>;

    /// Others kept writing.
    fn contended() -> Self::Error;
}

/// A copy, and the bytes that the store held of it.
#[derive(Clone)]
pub(crate) struct Copy<V> {
    pub(crate) value: V,
    pub(crate) bytes: Vec<u8>,
}

/// Brings the store to the value that `rule` makes of the newest one, as often as other origins come first; none if there is no
/// value and none is made.
pub(crate) async fn commit<F: Form>(
    store: &AnyStore,
    form: &F,
    held: Option<&Copy<F::Value>>,
    rule: &(impl Fn(Option<&F::Value>) -> Result<Option<F::Value>, F::Error> + Sync),
) -> Result<Option<Copy<F::Value>>, F::Error> {
    let mut written: Option<Copy<F::Value>> = None;
    for _ in 0..ATTEMPTS {
        let stored = store.load(&F::KEY).await?;
        if let Some(written) = written.take().filter(|written| stored.as_ref() == Some(&written.bytes)) {
            return Ok(Some(written));
        }
        let newest = match &stored {
            None => None,
            Some(bytes) => match held {
                Some(held) if held.bytes == *bytes => Some(held.clone()),
                _ => Some(Copy { value: form.read(bytes)?, bytes: bytes.clone() }),
            },
        };
        let version = |copy: Option<&Copy<F::Value>>| copy.map(|copy| F::version(&copy.value));
        let newest = if version(newest.as_ref()) >= version(held) { newest } else { held.cloned() };
        let next = match (rule(newest.as_ref().map(|newest| &newest.value))?, newest) {
            (Some(value), _) => Copy { bytes: form.write(&value)?, value },
            (None, Some(newest)) if stored.as_ref() == Some(&newest.bytes) => return Ok(Some(newest)),
            // The store lost it.
            (None, Some(newest)) => newest,
            (None, None) => return Ok(None),
        };
        match store.swap(&F::KEY, stored.as_deref(), &next.bytes, None).await {
            Ok(Swapped::Done) => return Ok(Some(next)),
            Ok(Swapped::Conflict) => {}
            // Whether it was written is seen in the store.
            Err(StoreError::OutcomeUnknown(_)) => written = Some(next),
            Err(error) => return Err(error.into()),
        }
    }
    Err(F::contended())
}
