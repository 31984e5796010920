//! What may go wrong in a store.

/// Why a call to the store failed. The texts hold no key, value or address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The call did not happen: nothing was written.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The call was sent and its outcome is not known: it may have been written.
    #[error("the store did not confirm the write: {0}")]
    OutcomeUnknown(String),
    /// The store holds something that it cannot have been given.
    #[error("the store holds something unexpected: {0}")]
    Corrupt(&'static str),
    /// The store is set up in a way that would lose acknowledged writes, or is in use by another process.
    #[error("the store cannot be used: {0}")]
    Unsuitable(String),
}

impl StoreError {
    /// Whether the write that failed may have happened all the same.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::OutcomeUnknown(_))
    }

    /// As it stands for a command of several writes: if an earlier one was done, something was written.
    #[must_use]
    pub fn after(self, written: bool) -> Self {
        match self {
            Self::Unavailable(text) if written => Self::OutcomeUnknown(text),
            error => error,
        }
    }
}
