//! What keys are called in Redis, and which key a name stands for.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use shared::id::SubjectId;

use crate::store::Key;

/// Every name but those of the log begins with this.
pub(super) const PREFIX: &str = "portcullis:";

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// A value.
    Record(Key),
    /// The sessions of a subject.
    Index(SubjectId),
}

/// The name of a value.
pub(super) fn record(key: &Key) -> String {
    match key {
        Key::Session(id) => format!("portcullis:session:{id}"),
        Key::Subject(id) => format!("portcullis:subject:{}", id.as_str()),
        Key::Tenant(id) => format!("portcullis:tenant:{}", id.as_str()),
        Key::Roster(id) => format!("portcullis:roster:{}", id.as_str()),
        Key::Everyone => "portcullis:everyone".to_owned(),
        Key::Keys => "portcullis:keys".to_owned(),
        Key::Assertion(id) => format!("portcullis:assertion:{:032x}", u128::from_be_bytes(*id)),
        Key::ApiKey(id) => format!("portcullis:api-key:{}", Base64UrlUnpadded::encode_string(id)),
        Key::ApiKeys => "portcullis:api-keys".to_owned(),
        Key::AuditHead => "portcullis:audit".to_owned(),
        Key::AuditSegment(number) => format!("portcullis:audit:{number}"),
        Key::IdempotentAnswer(hash) => format!("portcullis:answer:{}", Base64UrlUnpadded::encode_string(hash)),
        Key::TokenLifetime => "portcullis:token-lifetime".to_owned(),
        Key::Import => "portcullis:import".to_owned(),
    }
}

/// The name of the sessions of a subject.
pub(super) fn index(subject: &SubjectId) -> String {
    format!("portcullis:sessions-of:{}", subject.as_str())
}

/// What a name stands for; none if nothing here is called so.
pub(super) fn parse(name: &str) -> Option<Named> {
    let key = match name.strip_prefix(PREFIX)?.split_once(':') {
        None => match name.strip_prefix(PREFIX)? {
            "everyone" => Key::Everyone,
            "keys" => Key::Keys,
            "api-keys" => Key::ApiKeys,
            "audit" => Key::AuditHead,
            "token-lifetime" => Key::TokenLifetime,
            "import" => Key::Import,
            _ => return None,
        },
        Some((kind, id)) => match kind {
            "session" => Key::Session(id.parse().ok()?),
            "subject" => Key::Subject(id.parse().ok()?),
            "tenant" => Key::Tenant(id.parse().ok()?),
            "roster" => Key::Roster(id.parse().ok()?),
            "sessions-of" => return Some(Named::Index(id.parse().ok()?)),
            "assertion" => Key::Assertion(u128::from_str_radix(id, 16).ok()?.to_be_bytes()),
            "api-key" => Key::ApiKey(decode(id)?),
            "answer" => Key::IdempotentAnswer(decode(id)?),
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
            assert_eq!(parse(&record(&key)), Some(Named::Record(key)));
        }
        let subject: SubjectId = "al:ice@example".parse().unwrap();
        assert_eq!(parse(&index(&subject)), Some(Named::Index(subject)));
        for wrong in ["", "portcullis:", "portcullis:other", "portcullis:session:x", "portcullis:audit:01", "a:keys"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
