//! Identifiers: of sessions (random), of subjects, tenants and clients (given by the login service), roles.

use alloc::{borrow::ToOwned, string::String};
use core::{fmt, str::FromStr};

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest name of a subject, tenant or client. Long enough for a UUID, an e-mail address or a SPIFFE-like id of
/// ordinary length; short enough that a record stays under its hard maximum.
pub const NAME_BYTES_MAX: usize = 128;

/// The longest role name.
pub const ROLE_BYTES_MAX: usize = 32;

/// The most roles that one subject may have, so that roles never push a token over its 1,200 bytes.
pub const ROLES_MAX: usize = 16;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 22 characters of unpadded base64url (RFC 4648 §5) with zero trailing bits.
    #[error("must be 22 characters of unpadded base64url")]
    NotASessionId,
    /// Empty, or longer than allowed.
    #[error("must have 1 to {max} bytes")]
    Length {
        /// The limit in bytes.
        max: usize,
    },
    /// A character outside of the allowed set.
    #[error("may hold only {allowed}")]
    Character {
        /// The allowed set, in words.
        allowed: &'static str,
    },
}

/// 128 random bits that name a session; never a credential by itself (ASVS 7.2.3 asks for at least 128 bits).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Length of the printed form.
    pub const TEXT_LEN: usize = 22;

    /// From 16 bytes that a shell drew from its entropy source.
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        id_from_text(text).map(Self)
    }
}

/// The 16 bytes of a random id from its 22 characters.
///
/// # Errors
///
/// [`IdError::NotASessionId`], which says the form that every random id has.
pub fn id_from_text(text: &str) -> Result<[u8; 16], IdError> {
    let mut bytes = [0; 16];
    match Base64UrlUnpadded::decode(text, &mut bytes) {
        Ok(decoded) if decoded.len() == 16 => Ok(bytes),
        _ => Err(IdError::NotASessionId),
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::TEXT_LEN];
        f.write_str(Base64UrlUnpadded::encode(&self.0, &mut text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
        } else {
            <[u8; 16]>::deserialize(deserializer).map(Self)
        }
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(String);

        impl $name {
            /// The name as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check_name(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                check_name(&text)?;
                Ok(Self(text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.0)
            }
        }
    };
}

name_type! {
    /// Who a session speaks for (`sub`): 1 to 128 visible ASCII characters, unique within the issuer.
    SubjectId
}
name_type! {
    /// The organisation that a subject belongs to (`tid`): 1 to 128 visible ASCII characters.
    TenantId
}
name_type! {
    /// The OAuth client that a session was opened by (`client_id`): 1 to 128 visible ASCII characters.
    ClientId
}

/// A role of a subject: 1 to 32 of `A-Z a-z 0-9 . _ : -`, so that a list of roles travels in one header.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Role(String);

impl Role {
    /// The role as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Role {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > ROLE_BYTES_MAX {
            return Err(IdError::Length { max: ROLE_BYTES_MAX });
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b)) {
            return Err(IdError::Character { allowed: "letters, digits and . _ : -" });
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Role({:?})", self.0)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Visible ASCII only: the name is written into a header for the upstream as it stands.
fn check_name(text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return Err(IdError::Length { max: NAME_BYTES_MAX });
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(IdError::Character { allowed: "visible ASCII characters, no space" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_session_id_prints_as_22_characters_and_reads_back() {
        let id = SessionId::from_random([0xa5; 16]);
        let text = id.to_string();
        assert_eq!(text.len(), SessionId::TEXT_LEN);
        assert_eq!(text.parse(), Ok(id));
    }

    /// SES-04: malformed ids are rejected, one spelling per id.
    #[test]
    fn a_session_id_has_one_spelling() {
        let text = SessionId::from_random([0; 16]).to_string();
        let with_trailing_bits = text.replace("AA", "AB");
        for wrong in
            ["", "AAAA", &with_trailing_bits, &(text.clone() + "A"), &(text.clone() + "=="), "*1\r\n$8AAAAAAAAAAAAAAA"]
        {
            assert_eq!(wrong.parse::<SessionId>(), Err(IdError::NotASessionId), "{wrong:?}");
        }
    }

    #[test]
    fn names_and_roles_have_limits() {
        assert!("u_7".parse::<SubjectId>().is_ok());
        assert_eq!("a".repeat(129).parse::<SubjectId>(), Err(IdError::Length { max: 128 }));
        assert!(matches!("a b".parse::<TenantId>(), Err(IdError::Character { .. })));
        assert!(matches!("a\r\nx".parse::<ClientId>(), Err(IdError::Character { .. })));
        assert!("billing:read".parse::<Role>().is_ok());
        assert!(matches!("a,b".parse::<Role>(), Err(IdError::Character { .. })));
    }
}
