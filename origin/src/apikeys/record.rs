//! The record of an API key, and the text that is presented.

use std::{collections::BTreeSet, fmt, str::FromStr};

use aws_lc_rs::{constant_time, digest};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use shared::{
    id::{IdError, TenantId, id_from_text},
    time::Timestamp,
};
use utoipa::ToSchema;

use super::ApiKeyError;

/// Characters of an id, and of a secret.
const ID_CHARS: usize = 22;
const SECRET_CHARS: usize = 43;

const PREFIX: &str = "pk_";

/// What a key may do. A call names the one that it needs in its `security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub enum Scope {
    /// See sessions.
    #[serde(rename = "sessions:read")]
    SessionsRead,
    /// Open, change and end sessions.
    #[serde(rename = "sessions:write")]
    SessionsWrite,
    /// See subjects.
    #[serde(rename = "subjects:read")]
    SubjectsRead,
    /// Change subjects, and end all their sessions.
    #[serde(rename = "subjects:write")]
    SubjectsWrite,
    /// End all sessions of a tenant.
    #[serde(rename = "tenants:write")]
    TenantsWrite,
    /// End, or let renew, the sessions of everyone.
    #[serde(rename = "everyone:write")]
    EveryoneWrite,
    /// See the public signing keys and their state.
    #[serde(rename = "keys:read")]
    KeysRead,
    /// Rotate and retire signing keys.
    #[serde(rename = "keys:write")]
    KeysWrite,
    /// See the route policy of the gates.
    #[serde(rename = "policy:read")]
    PolicyRead,
    /// Change the route policy of the gates.
    #[serde(rename = "policy:write")]
    PolicyWrite,
    /// Read the audit trail.
    #[serde(rename = "audit:read")]
    AuditRead,
    /// See API keys.
    #[serde(rename = "apikeys:read")]
    ApikeysRead,
    /// Make, rotate and remove API keys that may do no more than this one.
    #[serde(rename = "apikeys:write")]
    ApikeysWrite,
    /// Ask whether a token counts.
    #[serde(rename = "introspect")]
    Introspect,
}

/// A set of scopes.
pub type Scopes = BTreeSet<Scope>;

impl FromStr for Scope {
    type Err = de::value::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::deserialize(de::value::StrDeserializer::new(text))
    }
}

/// Names a key; no credential.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKeyId(pub(super) [u8; 16]);

impl ApiKeyId {
    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for ApiKeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        id_from_text(text).map(Self)
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base64UrlUnpadded::encode_string(&self.0))
    }
}

impl fmt::Debug for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeyId({self})")
    }
}

impl Serialize for ApiKeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ApiKeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What is kept of a key. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Which.
    pub id: ApiKeyId,
    /// For people.
    pub name: String,
    /// What it may do. A scope that there is no more grants nothing.
    #[serde(deserialize_with = "known")]
    pub scopes: Scopes,
    /// The one tenant that it may touch; none for all.
    pub tenant: Option<TenantId>,
    /// When it was made.
    pub created_at: u64,
    /// The actor that made it.
    pub created_by: String,
    /// When it ends; none for never.
    pub expires_at: Option<u64>,
    /// When it was used, an hour late at most; none if never.
    pub last_used_at: Option<u64>,
    /// The newest last; at most two.
    pub(super) secrets: Vec<StoredSecret>,
}

fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scopes, D::Error> {
    let scopes = Vec::<String>::deserialize(deserializer)?;
    Ok(scopes.iter().filter_map(|scope| scope.parse().ok()).collect())
}

/// The SHA-256 of a secret, and when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredSecret {
    sha256: String,
    expires_at: Option<u64>,
}

impl StoredSecret {
    pub(super) fn new(sha256: &[u8]) -> Self {
        Self { sha256: Base64UrlUnpadded::encode_string(sha256), expires_at: None }
    }

    pub(super) fn ending_at(self, at: u64) -> Self {
        Self { expires_at: Some(self.expires_at.unwrap_or(at).min(at)), ..self }
    }
}

impl ApiKey {
    /// Whether the secret is one of this key that counts now.
    pub(super) fn accepts(&self, presented: &Presented, now: Timestamp) -> bool {
        let is_over = |at: Option<u64>| at.is_some_and(|at| now.has_reached(Timestamp::from_secs(at)));
        let hash = Base64UrlUnpadded::encode_string(&presented.sha256);
        !is_over(self.expires_at)
            && self.secrets.iter().any(|secret| {
                constant_time::verify_slices_are_equal(secret.sha256.as_bytes(), hash.as_bytes()).is_ok()
                    && !is_over(secret.expires_at)
            })
    }

    /// When the secret of before the last rotation ends; none if there is none.
    pub fn previous_secret_expires_at(&self) -> Option<u64> {
        self.secrets.first().and_then(|secret| secret.expires_at)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, ApiKeyError> {
        serde_json::to_vec(self).map_err(|_| ApiKeyError::Record)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ApiKeyError> {
        serde_json::from_slice(bytes).map_err(|_| ApiKeyError::Record)
    }
}

/// A text that has the form of a key.
pub(super) struct Presented {
    pub(super) id: ApiKeyId,
    sha256: [u8; 32],
}

impl Presented {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let rest = std::str::from_utf8(text).ok()?.strip_prefix(PREFIX)?;
        let (id, secret) = rest.split_at_checked(ID_CHARS)?;
        let secret = secret.strip_prefix('_').filter(|secret| secret.len() == SECRET_CHARS)?;
        let mut bytes = [0; 32];
        let bytes = Base64UrlUnpadded::decode(secret, &mut bytes).ok()?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Some(Self { id: id.parse().ok()?, sha256 })
    }

    pub(super) fn text(id: ApiKeyId, secret: &[u8]) -> String {
        format!("{PREFIX}{id}_{}", Base64UrlUnpadded::encode_string(secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secrets: Vec<StoredSecret>, expires_at: Option<u64>) -> ApiKey {
        ApiKey {
            id: ApiKeyId([1; 16]),
            name: "a".to_owned(),
            scopes: Scopes::from([Scope::Introspect]),
            tenant: None,
            created_at: 0,
            created_by: "bootstrap".to_owned(),
            expires_at,
            last_used_at: None,
            secrets,
        }
    }

    #[test]
    fn a_key_has_one_spelling() {
        let text = Presented::text(ApiKeyId([1; 16]), &[2; 32]);
        assert_eq!(text.len(), 69);
        assert_eq!(Presented::parse(text.as_bytes()).unwrap().id, ApiKeyId([1; 16]));
        for wrong in ["", "pk_", &text[1..], &text[..68], &format!("{text}A"), &text.replace('_', "-")] {
            assert!(Presented::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    /// Half-open: at its end a secret, and a key, no longer counts.
    #[test]
    fn a_secret_counts_until_it_ends() {
        let presented = Presented::parse(Presented::text(ApiKeyId([1; 16]), &[2; 32]).as_bytes()).unwrap();
        let other = Presented::parse(Presented::text(ApiKeyId([1; 16]), &[3; 32]).as_bytes()).unwrap();
        let secret = StoredSecret::new(&presented.sha256);
        let at = Timestamp::from_secs;
        assert!(key(vec![secret.clone()], None).accepts(&presented, at(10)));
        assert!(!key(vec![secret.clone()], None).accepts(&other, at(10)));
        let ending = key(vec![secret.clone().ending_at(10), StoredSecret::new(&other.sha256)], None);
        assert!(ending.accepts(&presented, at(9)) && ending.accepts(&other, at(10)));
        assert!(!ending.accepts(&presented, at(10)));
        assert!(key(vec![secret.clone()], Some(10)).accepts(&presented, at(9)));
        assert!(!key(vec![secret], Some(10)).accepts(&presented, at(10)));
    }

    #[test]
    fn scopes_are_written_as_they_are_documented() {
        assert_eq!("sessions:read".parse(), Ok(Scope::SessionsRead));
        assert!("sessions:all".parse::<Scope>().is_err());
    }
}
