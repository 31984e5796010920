//! What values are kept under.

use shared::id::{SessionId, SubjectId, TenantId};

/// What a value is kept under. No credential is part of any key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A session's record.
    Session(SessionId),
    /// A subject's record.
    Subject(SubjectId),
    /// A tenant's record.
    Tenant(TenantId),
    /// The sessions of a subject that count against a limit.
    Roster(SubjectId),
    /// The record of everyone.
    Everyone,
    /// The sealed signing keys.
    Keys,
    /// The route policy of the gates.
    Policy,
    /// That a client assertion was used, by its truncated hash.
    Assertion([u8; 16]),
    /// A key of the management API, by its id.
    ApiKey([u8; 16]),
    /// The ids of all keys of the management API.
    ApiKeys,
    /// The number of the newest segment of the audit trail.
    AuditHead,
    /// A segment of the audit trail, by its place in the ring.
    AuditSegment(u16),
    /// The sealed answer to a request, by a hash of its client and its idempotency key.
    IdempotentAnswer([u8; 32]),
    /// The longest lifetime with which access tokens are made.
    TokenLifetime,
    /// Who pushes to a hub, by a truncated hash of the hub's name.
    PushLease([u8; 16]),
    /// That everything of another store is being written into this one.
    Import,
}

impl Key {
    /// A letter for the kind, then the id: the same in every store, and in a file that is moved between them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let slot: [u8; 2];
        let (kind, id): (u8, &[u8]) = match self {
            Self::Session(id) => (b's', id.as_bytes()),
            Self::Subject(id) => (b'u', id.as_str().as_bytes()),
            Self::Tenant(id) => (b't', id.as_str().as_bytes()),
            Self::Roster(id) => (b'r', id.as_str().as_bytes()),
            Self::Everyone => (b'e', &[]),
            Self::Keys => (b'k', &[]),
            Self::Policy => (b'o', &[]),
            Self::Assertion(id) => (b'a', id),
            Self::ApiKey(id) => (b'p', id),
            Self::ApiKeys => (b'P', &[]),
            Self::AuditHead => (b'G', &[]),
            Self::AuditSegment(number) => {
                slot = number.to_be_bytes();
                (b'g', &slot)
            }
            Self::IdempotentAnswer(hash) => (b'i', hash),
            Self::TokenLifetime => (b'l', &[]),
            Self::PushLease(name) => (b'h', name),
            Self::Import => (b'm', &[]),
        };
        [&[kind], id].concat()
    }

    /// Reads what [`Self::to_bytes`] made; none for anything else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, id) = bytes.split_first()?;
        let text = || std::str::from_utf8(id).ok();
        let key = match kind {
            b's' => Self::Session(SessionId::from_random(id.try_into().ok()?)),
            b'u' => Self::Subject(text()?.parse().ok()?),
            b't' => Self::Tenant(text()?.parse().ok()?),
            b'r' => Self::Roster(text()?.parse().ok()?),
            b'e' => Self::Everyone,
            b'k' => Self::Keys,
            b'o' => Self::Policy,
            b'a' => Self::Assertion(id.try_into().ok()?),
            b'p' => Self::ApiKey(id.try_into().ok()?),
            b'P' => Self::ApiKeys,
            b'G' => Self::AuditHead,
            b'g' => Self::AuditSegment(u16::from_be_bytes(id.try_into().ok()?)),
            b'i' => Self::IdempotentAnswer(id.try_into().ok()?),
            b'l' => Self::TokenLifetime,
            b'h' => Self::PushLease(id.try_into().ok()?),
            b'm' => Self::Import,
            _ => return None,
        };
        // A key without an id has nothing after its letter.
        (key.to_bytes() == bytes).then_some(key)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One of every kind.
    pub(crate) fn of_every_kind() -> Vec<Key> {
        let subject = || "al:ice@example".parse().unwrap();
        vec![
            Key::Session(SessionId::from_random([0x80; 16])),
            Key::Subject(subject()),
            Key::Tenant("acme".parse().unwrap()),
            Key::Roster(subject()),
            Key::Everyone,
            Key::Keys,
            Key::Policy,
            Key::Assertion([1; 16]),
            Key::ApiKey([0xff; 16]),
            Key::ApiKeys,
            Key::AuditHead,
            Key::AuditSegment(258),
            Key::IdempotentAnswer([3; 32]),
            Key::TokenLifetime,
            Key::PushLease([5; 16]),
            Key::Import,
        ]
    }

    #[test]
    fn every_key_is_read_as_it_was_written() {
        for key in of_every_kind() {
            assert_eq!(Key::from_bytes(&key.to_bytes()), Some(key));
        }
        for wrong in [&b""[..], b"s", b"sshort", b"u", b"ex", b"g1", b"\xff", b"u\xff\xfe"] {
            assert_eq!(Key::from_bytes(wrong), None, "{wrong:?}");
        }
    }
}
