//! Records as bytes, for the store.
//!
//! Wire format: a format byte, then postcard (varints, no names). Times of a session are whole seconds, most of them as
//! distances from its opening, so that a record of ordinary content stays under 160 bytes. Records of format 1 lack what
//! came later (tier, everyone's version, metadata, the spared session) and are still read.
//!
//! Invariant: whatever decodes is exactly what encodes to it; trailing bytes, unknown formats and oversize are errors.

use alloc::{string::String, vec, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    id::{ClientId, Role, SubjectId, TenantId},
    refresh::{ClientContext, Generation, Seed},
    revocation::Version,
    roster::Roster,
    session::{Device, EndReason, Fields, Initiator, Session, State, Tier},
    subject::{Standing, Subject, Versions},
    time::Timestamp,
};

/// The largest encoded record in bytes. A session is not a junk drawer.
pub const RECORD_BYTES_MAX: usize = 1_024;

/// The largest encoded roster: [`crate::roster::ROSTER_MAX`] entries of at most 27 bytes.
pub const ROSTER_BYTES_MAX: usize = 3_072;

const FORMAT_1: u8 = 1;
const FORMAT_2: u8 = 2;

/// Why a record has no bytes, or bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More than a record of its kind may have.
    #[error("the record would have {bytes} bytes; at most {max} are allowed")]
    TooLarge {
        /// The size that it would have.
        bytes: usize,
        /// The limit.
        max: usize,
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
        to_bytes(FORMAT_2, &(SessionWire::try_from(self)?, SessionMore::from(self)), RECORD_BYTES_MAX)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (wire, more) = match split(bytes, RECORD_BYTES_MAX)? {
            (FORMAT_1, body) => (read(body)?, SessionMore::default()),
            (FORMAT_2, body) => read::<(SessionWire, SessionMore)>(body)?,
            (format, _) => return Err(CodecError::Format(format)),
        };
        Ok(wire.with(more))
    }
}

impl Record for Subject {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        to_bytes(FORMAT_2, self, RECORD_BYTES_MAX)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        match split(bytes, RECORD_BYTES_MAX)? {
            (FORMAT_1, body) => {
                let (tenant, standing, roles, versions): (Option<TenantId>, Standing, Vec<Role>, Versions) =
                    read(body)?;
                Ok(Self { tenant, standing, roles, versions, spared: None })
            }
            (FORMAT_2, body) => read(body),
            (format, _) => Err(CodecError::Format(format)),
        }
    }
}

/// The record of a tenant, and of everyone, is its versions.
impl Record for Versions {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        to_bytes(FORMAT_1, self, RECORD_BYTES_MAX)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        match split(bytes, RECORD_BYTES_MAX)? {
            (FORMAT_1, body) => read(body),
            (format, _) => Err(CodecError::Format(format)),
        }
    }
}

impl Record for Roster {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        to_bytes(FORMAT_1, self, ROSTER_BYTES_MAX)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        match split(bytes, ROSTER_BYTES_MAX)? {
            (FORMAT_1, body) => read(body),
            (format, _) => Err(CodecError::Format(format)),
        }
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

/// What format 2 has beyond format 1. Nearly always five bytes.
#[derive(Default, Serialize, Deserialize)]
struct SessionMore {
    tier: Tier,
    everyone_version: EveryoneVersion,
    ended_by: Option<Initiator>,
    device: Option<Device>,
    fields: Option<(u32, Fields)>,
}

/// Sessions of format 1 were opened under the first version of everyone.
#[derive(Serialize, Deserialize)]
struct EveryoneVersion(Version);

impl Default for EveryoneVersion {
    fn default() -> Self {
        Self(Version::INITIAL)
    }
}

impl From<&Session> for SessionMore {
    fn from(session: &Session) -> Self {
        Self {
            tier: session.tier,
            everyone_version: EveryoneVersion(session.everyone_version),
            ended_by: match session.state {
                State::Open => None,
                State::Ended { by, .. } => Some(by),
            },
            device: session.device.clone(),
            fields: (session.fields_revision > 0).then(|| (session.fields_revision, session.fields.clone())),
        }
    }
}

impl TryFrom<&Session> for SessionWire {
    type Error = CodecError;

    fn try_from(session: &Session) -> Result<Self, CodecError> {
        let after = |time: Timestamp| seconds(time.saturating_since(session.opened_at));
        Ok(Self {
            ended: match session.state {
                State::Open => None,
                State::Ended { at, reason, .. } => Some((after(at)?, reason)),
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

impl SessionWire {
    fn with(self, more: SessionMore) -> Session {
        let wire = self;
        let by = more.ended_by.unwrap_or_default();
        let (fields_revision, fields) = more.fields.unwrap_or_default();
        let opened_at = Timestamp::from_secs(u64::from(wire.opened_at));
        let after = |secs: u32| opened_at.saturating_add(Duration::from_secs(u64::from(secs)));
        Session {
            state: wire.ended.map_or(State::Open, |(at, reason)| State::Ended { at: after(at), reason, by }),
            subject: wire.subject,
            tenant: wire.tenant,
            client_id: wire.client_id,
            tier: more.tier,
            version: wire.version,
            subject_version: wire.subject_version,
            tenant_version: wire.tenant_version,
            everyone_version: more.everyone_version.0,
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
            device: more.device,
            fields,
            fields_revision,
        }
    }
}

fn seconds(span: Duration) -> Result<u32, CodecError> {
    u32::try_from(span.as_secs()).map_err(|_| CodecError::Corrupt)
}

fn to_bytes(format: u8, value: &impl Serialize, max: usize) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_extend(value, vec![format]).map_err(|_| CodecError::Corrupt)?;
    if bytes.len() > max { Err(CodecError::TooLarge { bytes: bytes.len(), max }) } else { Ok(bytes) }
}

/// The format byte and what follows it.
fn split(bytes: &[u8], max: usize) -> Result<(u8, &[u8]), CodecError> {
    if bytes.len() > max {
        return Err(CodecError::TooLarge { bytes: bytes.len(), max });
    }
    bytes.split_first().map(|(format, body)| (*format, body)).ok_or(CodecError::Corrupt)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(CodecError::Corrupt),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{id::SessionId, roster::Entry, session::tests::session};

    #[test]
    fn a_session_of_ordinary_content_has_at_most_160_bytes_and_reads_back() {
        let mut session = session();
        session.tenant = Some("acme-corporation".parse().unwrap());
        session.tenant_version = Version::new(300);
        session.generation = Generation(1_000);
        let bytes = session.encode().unwrap();
        assert!(bytes.len() <= 160, "{} bytes", bytes.len());
        assert_eq!(Session::decode(&bytes), Ok(session.clone()));
        let ended = session.ended(EndReason::Revoked, Initiator::Admin, session.opened_at).unwrap();
        assert_eq!(Session::decode(&ended.encode().unwrap()), Ok(ended));
    }

    #[test]
    fn a_record_over_the_limit_is_refused_with_its_size() {
        let mut session = session();
        session.scope = Some("x".repeat(RECORD_BYTES_MAX));
        assert!(
            matches!(session.encode(), Err(CodecError::TooLarge { bytes, max: RECORD_BYTES_MAX }) if bytes > RECORD_BYTES_MAX)
        );
    }

    #[test]
    fn records_of_format_1_are_read() {
        let session = session();
        let bytes = to_bytes(FORMAT_1, &SessionWire::try_from(&session).unwrap(), RECORD_BYTES_MAX).unwrap();
        assert_eq!(Session::decode(&bytes), Ok(session));
        let subject = Subject::new(None, vec!["admin".parse().unwrap()], Version::new(7)).unwrap();
        let old = (&subject.tenant, subject.standing, &subject.roles, subject.versions);
        assert_eq!(Subject::decode(&to_bytes(FORMAT_1, &old, RECORD_BYTES_MAX).unwrap()), Ok(subject));
    }

    #[test]
    fn metadata_and_fields_read_back_and_stay_within_the_record() {
        let device = Device::new(Some("x".repeat(64)), Some(&"y".repeat(128))).unwrap();
        let fields = Fields::new([("f".into(), "z".repeat(255))].into()).unwrap();
        let session = Session { device, fields, fields_revision: 3, tier: Tier::Privileged, ..session() };
        let bytes = session.encode().unwrap();
        assert!(bytes.len() <= 640, "{} bytes", bytes.len());
        assert_eq!(Session::decode(&bytes), Ok(session));
    }

    #[test]
    fn a_full_roster_stays_under_its_limit_and_reads_back() {
        let far = Timestamp::from_secs(u64::from(u32::MAX));
        let entry = |n: u8| {
            Entry::new(SessionId::from_random([n; 16]), far, far.saturating_add(Duration::from_secs(2_592_000)))
        };
        let roster = Roster::new((0..100).map(entry).collect());
        let bytes = roster.encode().unwrap();
        assert!(bytes.len() <= ROSTER_BYTES_MAX, "{} bytes", bytes.len());
        assert_eq!(Roster::decode(&bytes), Ok(roster));
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
