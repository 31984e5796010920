//! Why the service refuses.

use metrics::counter;
use shared::{
    codec::CodecError,
    session::{FieldsConflict, MetadataError, NotLive, OpenError},
    subject::SubjectError,
};

use crate::{
    feed::FeedError,
    keys::{KeyRefused, KeysError},
    shell::NoRandomness,
    store::StoreError,
    telemetry::metrics::STORE_FAILURES,
};

/// Why an operation was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// There is no such session or subject.
    #[error("there is no such record")]
    NotFound,
    /// A session is not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A subject does not change.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The session is over, and nothing revives it.
    #[error("{0}; nothing was changed")]
    Over(NotLive),
    /// The subject has as many sessions as it may have.
    #[error("the subject has {sessions_max} sessions already, and may have no more")]
    TooManySessions {
        /// The limit.
        sessions_max: u8,
    },
    /// A device or a field that is not allowed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The fields were written by someone else.
    #[error(transparent)]
    Fields(#[from] FieldsConflict),
    /// The session's record would be larger than a record may be.
    #[error("{0}")]
    TooLarge(CodecError),
    /// The access token would be larger than a token may be.
    #[error("the access token would be larger than {0} bytes; use fewer or shorter roles, scope, acr and amr")]
    TokenTooLarge(usize),
    /// A value that is limited in form.
    #[error("{0}")]
    Invalid(&'static str),
    /// The refresh token counts for nothing, whatever the cause.
    #[error("the refresh token is not valid")]
    InvalidGrant,
    /// More scope than was granted.
    #[error("the scope exceeds what was granted")]
    InvalidScope,
    /// Other writers came first too often; nothing was written.
    #[error("the record is being changed by others; nothing was written")]
    Contended,
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The feed has no place for a floor.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The store holds bytes that are no record.
    #[error("a record in the store cannot be read")]
    Record(CodecError),
    /// There is no signing key of this name.
    #[error("there is no signing key with this kid")]
    NoSuchKey,
    /// Every signing key is revoked, and the set with new ones is not written yet.
    #[error("no signing key counts at the moment; another one is being made")]
    NoSigningKey,
    /// The signing keys cannot be read or changed.
    #[error(transparent)]
    Keys(KeysError),
    /// The cryptography library failed.
    #[error("the cryptography library failed")]
    Library,
}

impl ServiceError {
    /// As it stands for a command that wrote something before: the store cannot say that nothing was written.
    pub(super) fn after_a_write(self) -> Self {
        match self {
            Self::Store(error) => Self::Store(error.after(true)),
            error => error,
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        let outcome = if error.may_have_happened() { "unknown" } else { "not_written" };
        counter!(STORE_FAILURES, "outcome" => outcome).increment(1);
        tracing::warn!(event = "store_failed", reason = %error);
        Self::Store(error)
    }
}

impl From<KeysError> for ServiceError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => error.into(),
            error => Self::Keys(error),
        }
    }
}

impl From<KeyRefused> for ServiceError {
    fn from(_: KeyRefused) -> Self {
        Self::Library
    }
}

impl From<NoRandomness> for ServiceError {
    fn from(_: NoRandomness) -> Self {
        Self::Library
    }
}
