//! What is kept of a session beside its life: the device that it was opened on, and a few small volatile fields.
//!
//! Invariant: nothing here enters a token, a decision or a log; a session is not a junk drawer, so all of it is bounded.

use alloc::{borrow::ToOwned, collections::BTreeMap, string::String};

use serde::{Deserialize, Serialize};

/// The longest name of a device.
pub const DEVICE_NAME_BYTES_MAX: usize = 64;

/// User agents are cut to this length; those of common browsers have about 110 bytes.
pub const USER_AGENT_BYTES_MAX: usize = 128;

/// The most volatile fields of a session.
pub const FIELDS_MAX: usize = 8;

/// The longest name of a field.
pub const FIELD_NAME_BYTES_MAX: usize = 32;

/// Names and values of all fields together.
pub const FIELDS_BYTES_MAX: usize = 256;

/// Why metadata is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The name of the device.
    #[error("device.name must have 1 to {DEVICE_NAME_BYTES_MAX} bytes without control or direction characters")]
    DeviceName,
    /// The number of fields.
    #[error("a session may have at most {FIELDS_MAX} fields, and {found} were given")]
    TooManyFields {
        /// How many there are.
        found: usize,
    },
    /// The name of a field.
    #[error("the name of a field must have 1 to {FIELD_NAME_BYTES_MAX} of a-z 0-9 _")]
    FieldName,
    /// The size of all fields.
    #[error("names and values of all fields may have {FIELDS_BYTES_MAX} bytes together, and have {bytes}")]
    TooLarge {
        /// Their size.
        bytes: usize,
    },
}

/// The device that a session was opened on, as the login service describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// A name that its user knows.
    pub name: Option<String>,
    /// Its user agent: visible ASCII and spaces.
    pub user_agent: Option<String>,
}

impl Device {
    /// A device; none if nothing is said of it. A user agent is cut and made harmless, since its user did not write it.
    ///
    /// # Errors
    ///
    /// [`MetadataError::DeviceName`].
    pub fn new(name: Option<String>, user_agent: Option<&str>) -> Result<Option<Self>, MetadataError> {
        if name.as_deref().is_some_and(|name| !is_device_name(name)) {
            return Err(MetadataError::DeviceName);
        }
        let user_agent = user_agent.map(harmless).filter(|agent| !agent.is_empty());
        Ok((name.is_some() || user_agent.is_some()).then_some(Self { name, user_agent }))
    }
}

/// A few names with small values, for the application's short memory. Lost when the session ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Checks names, number and size.
    ///
    /// # Errors
    ///
    /// What is over its limit.
    pub fn new(fields: BTreeMap<String, String>) -> Result<Self, MetadataError> {
        if fields.len() > FIELDS_MAX {
            return Err(MetadataError::TooManyFields { found: fields.len() });
        }
        if !fields.keys().all(|name| is_field_name(name)) {
            return Err(MetadataError::FieldName);
        }
        let bytes = fields
            .iter()
            .fold(0_usize, |sum, (name, value)| sum.saturating_add(name.len()).saturating_add(value.len()));
        if bytes > FIELDS_BYTES_MAX { Err(MetadataError::TooLarge { bytes }) } else { Ok(Self(fields)) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

fn is_field_name(name: &str) -> bool {
    (1..=FIELD_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// LOG-04: no control character, and none that reorders or hides the text around it (Unicode TR 36 §3.2).
fn is_device_name(name: &str) -> bool {
    let hides =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    (1..=DEVICE_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(|c| c.is_control() || hides(c))
}

fn harmless(user_agent: &str) -> String {
    let kept = user_agent.trim().chars().take(USER_AGENT_BYTES_MAX);
    kept.map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::{format, string::ToString as _};

    use super::*;

    #[test]
    fn a_user_agent_is_cut_and_made_harmless() {
        let device = |agent: &str| Device::new(None, Some(agent)).unwrap().and_then(|device| device.user_agent);
        assert_eq!(device("Mozilla/5.0 (X11)").as_deref(), Some("Mozilla/5.0 (X11)"));
        assert_eq!(device("a\r\nb\u{1b}[31m\"{}").as_deref(), Some("a??b?[31m\"{}"), "LOG-04");
        assert_eq!(device(&"é".repeat(500)).map(|agent| agent.len()), Some(USER_AGENT_BYTES_MAX));
        assert_eq!(device("  "), None);
        assert_eq!(Device::new(None, None), Ok(None));
    }

    #[test]
    fn a_device_has_a_name_that_shows_as_it_is() {
        let named = |name: &str| Device::new(Some(name.to_string()), None);
        assert!(named("Zoë’s phone").is_ok_and(|device| device.is_some()));
        for name in ["", "a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{7f}", &"x".repeat(65)] {
            assert_eq!(named(name), Err(MetadataError::DeviceName), "LOG-04: {name:?}");
        }
    }

    #[test]
    fn fields_have_a_budget() {
        let fields = |pairs: &[(&str, &str)]| {
            Fields::new(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
        };
        assert!(fields(&[("cart_items", "3"), ("locale", "de-CH")]).is_ok());
        for name in ["", "Cart", "a-b", "a.b", &"x".repeat(33)] {
            assert_eq!(fields(&[(name, "1")]), Err(MetadataError::FieldName), "{name:?}");
        }
        assert!(fields(&[("a", &"x".repeat(255))]).is_ok());
        assert_eq!(fields(&[("a", &"x".repeat(256))]), Err(MetadataError::TooLarge { bytes: 257 }));
        let many = |count: usize| Fields::new((0..count).map(|n| (format!("f{n}"), String::new())).collect());
        assert!(many(FIELDS_MAX).is_ok());
        assert_eq!(many(FIELDS_MAX + 1), Err(MetadataError::TooManyFields { found: FIELDS_MAX + 1 }));
    }
}
