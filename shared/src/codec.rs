//! Records as bytes, for the store.
//!
//! Wire format: a format byte, then postcard (varints, no names). Times of a session are whole seconds, most of them as
//! distances from its opening, so that a record of ordinary content stays under 160 bytes.
//!
//! Invariant: whatever decodes is exactly what encodes to it; trailing bytes, unknown formats and oversize are errors.

use alloc::{string::String, vec, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    id::{ClientId, SubjectId, TenantId},
    refresh::{ClientContext, Generation, Seed},
    revocation::Version,
    session::{EndReason, Session, State},
    subject::{Subject, Versions},
    time::Timestamp,
};

/// The largest encoded record in bytes. A session is not a junk drawer.
pub const RECORD_BYTES_MAX: usize = 1_024;

const FORMAT: u8 = 1;

/// Why a record has no bytes, or bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More than [`RECORD_BYTES_MAX`].
    #[error("the record would have {bytes} bytes; at most {RECORD_BYTES_MAX} are allowed")]
    TooLarge {
        /// The size that it would have.
        bytes: usize,
    },
    /// A format byte that this version does not know.
    #[error("the record has the unknown format {0}")]
    Format(u8),
    /// Cut off, trailing bytes, or values that no record has.
    #[error("the record is corrupt")]
    Corrupt,
}

/// A record that the store keeps.
pub trait Record: Sized {
    /// The bytes to store.
    ///
    /// # Errors
    ///
    /// [`CodecError::TooLarge`].
    fn encode(&self) -> Result<Vec<u8>, CodecError>;

    /// The reverse of [`Self::encode`].
    ///
    /// # Errors
    ///
    /// Bytes that [`Self::encode`] cannot have written.
    fn decode(bytes: &[u8]) -> Result<Self, CodecError>;
}

impl Record for Session {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        to_bytes(&SessionWire::try_from(self)?)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        from_bytes::<SessionWire>(bytes).map(Self::from)
    }
}

impl Record for Subject {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        to_bytes(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        from_bytes(bytes)
    }
}

/// A tenant's record is its versions.
impl Record for Versions {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        to_bytes(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        from_bytes(bytes)
    }
}

/// A session with its times in seconds, all but the first counted from the opening.
#[derive(Serialize, Deserialize)]
struct SessionWire {
    ended: Option<(u32, EndReason)>,
    subject: SubjectId,
    tenant: Option<TenantId>,
    client_id: ClientId,
    version: Version,
    subject_version: Version,
    tenant_version: Version,
    generation: Generation,
    seed: Seed,
    context: ClientContext,
    opened_at: u32,
    authenticated_before: u32,
    rotated_after: u32,
    idle_expires_after: u32,
    expires_after: u32,
    acr: Option<String>,
    amr: Vec<String>,
    scope: Option<String>,
}

impl TryFrom<&Session> for SessionWire {
    type Error = CodecError;

    fn try_from(session: &Session) -> Result<Self, CodecError> {
        let after = |time: Timestamp| seconds(time.saturating_since(session.opened_at));
        Ok(Self {
            ended: match session.state {
                State::Open => None,
                State::Ended { at, reason } => Some((after(at)?, reason)),
            },
            subject: session.subject.clone(),
            tenant: session.tenant.clone(),
            client_id: session.client_id.clone(),
            version: session.version,
            subject_version: session.subject_version,
            tenant_version: session.tenant_version,
            generation: session.generation,
            seed: session.seed,
            context: session.context,
            opened_at: u32::try_from(session.opened_at.as_secs()).map_err(|_| CodecError::Corrupt)?,
            authenticated_before: seconds(session.opened_at.saturating_since(session.auth_time))?,
            rotated_after: after(session.rotated_at)?,
            idle_expires_after: after(session.idle_expires_at)?,
            expires_after: after(session.expires_at)?,
            acr: session.acr.clone(),
            amr: session.amr.clone(),
            scope: session.scope.clone(),
        })
    }
}

impl From<SessionWire> for Session {
    fn from(wire: SessionWire) -> Self {
        let opened_at = Timestamp::from_secs(u64::from(wire.opened_at));
        let after = |secs: u32| opened_at.saturating_add(Duration::from_secs(u64::from(secs)));
        Self {
            state: wire.ended.map_or(State::Open, |(at, reason)| State::Ended { at: after(at), reason }),
            subject: wire.subject,
            tenant: wire.tenant,
            client_id: wire.client_id,
            version: wire.version,
            subject_version: wire.subject_version,
            tenant_version: wire.tenant_version,
            generation: wire.generation,
            seed: wire.seed,
            context: wire.context,
            rotated_at: after(wire.rotated_after),
            opened_at,
            auth_time: opened_at.saturating_sub(Duration::from_secs(u64::from(wire.authenticated_before))),
            idle_expires_at: after(wire.idle_expires_after),
            expires_at: after(wire.expires_after),
            acr: wire.acr,
            amr: wire.amr,
            scope: wire.scope,
        }
    }
}

fn seconds(span: Duration) -> Result<u32, CodecError> {
    u32::try_from(span.as_secs()).map_err(|_| CodecError::Corrupt)
}

fn to_bytes(value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_extend(value, vec![FORMAT]).map_err(|_| CodecError::Corrupt)?;
    if bytes.len() > RECORD_BYTES_MAX { Err(CodecError::TooLarge { bytes: bytes.len() }) } else { Ok(bytes) }
}

fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(CodecError::TooLarge { bytes: bytes.len() });
    }
    match bytes.split_first() {
        Some((&FORMAT, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            _ => Err(CodecError::Corrupt),
        },
        Some((&format, _)) => Err(CodecError::Format(format)),
        None => Err(CodecError::Corrupt),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::tests::session;

    #[test]
    fn a_session_of_ordinary_content_has_at_most_160_bytes_and_reads_back() {
        let mut session = session();
        session.tenant = Some("acme-corporation".parse().unwrap());
        session.tenant_version = Version::new(300);
        session.generation = Generation(1_000);
        let bytes = session.encode().unwrap();
        assert!(bytes.len() <= 160, "{} bytes", bytes.len());
        assert_eq!(Session::decode(&bytes), Ok(session.clone()));
        let ended = session.ended(EndReason::Revoked, session.opened_at).unwrap();
        assert_eq!(Session::decode(&ended.encode().unwrap()), Ok(ended));
    }

    #[test]
    fn a_record_over_the_limit_is_refused_with_its_size() {
        let mut session = session();
        session.scope = Some("x".repeat(RECORD_BYTES_MAX));
        assert!(matches!(session.encode(), Err(CodecError::TooLarge { bytes }) if bytes > RECORD_BYTES_MAX));
    }

    #[test]
    fn what_is_not_a_record_is_refused() {
        let bytes = session().encode().unwrap();
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Session::decode(&longer), Err(CodecError::Corrupt));
        assert_eq!(Session::decode(&bytes[..bytes.len() - 1]), Err(CodecError::Corrupt));
        assert_eq!(Session::decode(&[]), Err(CodecError::Corrupt));
        assert_eq!(Session::decode(&[9, 1, 2]), Err(CodecError::Format(9)));
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_again(at in 0_usize..150, value in any::<u8>()) {
            let mut bytes = session().encode().unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            if let Ok(session) = Session::decode(&bytes) {
                prop_assert_eq!(session.encode().map(|bytes| Session::decode(&bytes)), Ok(Ok(session)));
            }
        }
    }
}
