//! What keys are called in Redis, and which key a name stands for.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use shared::id::SubjectId;

use crate::store::Key;

/// Every name but those of the log begins with this.
pub(super) const PREFIX: &str = "portcullis:";

/// Every name that has to do with a subject and its sessions begins with this. Both of one subject have the same hash tag,
/// so they lie in one slot of a cluster: whatever the subject is called, they are alike up to the first brace that closes.
pub(super) const SUBJECTS: &str = "portcullis:{subject:";
const RECORD_END: &str = "}";
const MORE_END: &str = "}:sessions";

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// A value.
    Record(Key),
    /// A subject's record and some of its sessions.
    Subject(SubjectId),
    /// More sessions of a subject.
    MoreSessions(SubjectId),
}

/// The name of a value.
pub(super) fn record(key: &Key) -> String {
    match key {
        Key::Session(id) => format!("portcullis:session:{id}"),
        Key::Subject(id) => subject(id),
        Key::Tenant(id) => format!("portcullis:tenant:{}", id.as_str()),
        Key::Roster(id) => format!("portcullis:roster:{}", id.as_str()),
        Key::Everyone => "portcullis:everyone".to_owned(),
        Key::Keys => "portcullis:keys".to_owned(),
        Key::Policy => "portcullis:policy".to_owned(),
        Key::Assertion(id) => format!("portcullis:assertion:{:032x}", u128::from_be_bytes(*id)),
        Key::ApiKey(id) => format!("portcullis:api-key:{}", Base64UrlUnpadded::encode_string(id)),
        Key::ApiKeys => "portcullis:api-keys".to_owned(),
        Key::AuditHead => "portcullis:audit".to_owned(),
        Key::AuditSegment(number) => format!("portcullis:audit:{number}"),
        Key::IdempotentAnswer(hash) => format!("portcullis:answer:{}", Base64UrlUnpadded::encode_string(hash)),
        Key::TokenLifetime => "portcullis:token-lifetime".to_owned(),
        Key::PushLease(name) => format!("portcullis:push-lease:{}", Base64UrlUnpadded::encode_string(name)),
        Key::Import => "portcullis:import".to_owned(),
    }
}

/// The name of a subject's record and some of its sessions.
pub(super) fn subject(id: &SubjectId) -> String {
    [SUBJECTS, id.as_str(), RECORD_END].concat()
}

/// The name of more sessions of a subject.
pub(super) fn more_sessions(subject: &SubjectId) -> String {
    [SUBJECTS, subject.as_str(), MORE_END].concat()
}

/// What a name stands for; none if nothing here is called so.
pub(super) fn parse(name: &str) -> Option<Named> {
    if let Some(rest) = name.strip_prefix(SUBJECTS) {
        // No name of the one kind ends as those of the other do.
        return match rest.strip_suffix(MORE_END) {
            Some(id) => Some(Named::MoreSessions(id.parse().ok()?)),
            None => Some(Named::Subject(rest.strip_suffix(RECORD_END)?.parse().ok()?)),
        };
    }
    let key = match name.strip_prefix(PREFIX)?.split_once(':') {
        None => match name.strip_prefix(PREFIX)? {
            "everyone" => Key::Everyone,
            "keys" => Key::Keys,
            "policy" => Key::Policy,
            "api-keys" => Key::ApiKeys,
            "audit" => Key::AuditHead,
            "token-lifetime" => Key::TokenLifetime,
            "import" => Key::Import,
            _ => return None,
        },
        Some((kind, id)) => match kind {
            "session" => Key::Session(id.parse().ok()?),
            "tenant" => Key::Tenant(id.parse().ok()?),
            "roster" => Key::Roster(id.parse().ok()?),
            "assertion" => Key::Assertion(u128::from_str_radix(id, 16).ok()?.to_be_bytes()),
            "api-key" => Key::ApiKey(decode(id)?),
            "answer" => Key::IdempotentAnswer(decode(id)?),
            "push-lease" => Key::PushLease(decode(id)?),
            "audit" => Key::AuditSegment(id.parse().ok()?),
            _ => return None,
        },
    };
    (record(&key) == name).then_some(Named::Record(key))
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    Base64UrlUnpadded::decode_vec(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::key::tests::of_every_kind;

    #[test]
    fn every_name_is_read_as_it_was_written() {
        for key in of_every_kind() {
            let named = match &key {
                Key::Subject(id) => Named::Subject(id.clone()),
                _ => Named::Record(key.clone()),
            };
            assert_eq!(parse(&record(&key)), Some(named));
        }
        for wrong in ["", "portcullis:", "portcullis:other", "portcullis:session:x", "portcullis:audit:01", "a:keys"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    /// By the specification of Redis Cluster: what stands between the first opening brace and the first closing one after it
    /// decides the slot.
    #[test]
    fn both_names_of_a_subject_lie_in_one_slot_and_are_told_apart() {
        let tag = |name: &str| name.split_once('{').unwrap().1.split_once('}').unwrap().0.to_owned();
        for id in ["alice", "}", "{", "{}", "a}b{c}", "x}:sessions", "{subject:x}:sessions"] {
            let id: SubjectId = id.parse().unwrap();
            let [one, more] = [subject(&id), more_sessions(&id)];
            assert!(tag(&one) == tag(&more) && !tag(&one).is_empty(), "{one} {more}");
            assert_eq!(parse(&one), Some(Named::Subject(id.clone())));
            assert_eq!(parse(&more), Some(Named::MoreSessions(id)));
        }
    }
}
