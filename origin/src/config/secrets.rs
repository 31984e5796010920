//! The two secrets of the origin: from the environment, or from a file that the configuration names.
//!
//! Invariant: neither is ever printed, logged or written to the store (I10); the types have no readable `Debug`.

use std::path::Path;

use aws_lc_rs::{constant_time, digest};
use base64ct::{Base64UrlUnpadded, Encoding};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use zeroize::Zeroizing;

use super::SecretFiles;

const MASTER_KEY_VARIABLE: &str = "PORTCULLIS_MASTER_KEY";
const SECOND_MASTER_KEY_VARIABLE: &str = "PORTCULLIS_MASTER_KEY_SECOND";
const MANAGEMENT_KEY_VARIABLE: &str = "PORTCULLIS_MANAGEMENT_KEY";

/// 22 characters of base64url hold 128 random bits; more than 256 characters would not fit a header comfortably.
const MANAGEMENT_KEY_CHARS: std::ops::RangeInclusive<usize> = 22..=256;

/// Why a secret was refused. Never says what was found.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither the variable nor the file is given.
    #[error("{variable} is missing: set it, or `secrets.{setting}` in the configuration, to {allowed}")]
    Missing {
        /// The variable of the environment.
        variable: &'static str,
        /// The setting that would name a file.
        setting: &'static str,
        /// What it must hold.
        allowed: &'static str,
    },
    /// Both the variable and the file are given.
    #[error("{variable} and `secrets.{setting}` are both set: keep one")]
    Both {
        /// The variable of the environment.
        variable: &'static str,
        /// The setting that names a file.
        setting: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read the file of `secrets.{setting}`, {path}: {source}")]
    Unreadable {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The content has the wrong form.
    #[error("{variable} (or `secrets.{setting}`) must be {allowed}")]
    Malformed {
        /// The variable of the environment.
        variable: &'static str,
        /// The setting that names a file.
        setting: &'static str,
        /// What it must hold.
        allowed: &'static str,
    },
}

/// 32 random bytes from which the keys that seal and protect everything else are derived; while they are changed, beside
/// the bytes before or after them.
#[derive(Debug)]
pub struct MasterKey {
    first: SecretBox<[u8; 32]>,
    second: Option<SecretBox<[u8; 32]>>,
}

impl MasterKey {
    /// From 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self { first: SecretBox::new(Box::new(bytes)), second: None }
    }

    /// Another key that opens and verifies, but neither seals nor signs.
    #[must_use]
    pub fn with_second(self, bytes: [u8; 32]) -> Self {
        Self { second: Some(SecretBox::new(Box::new(bytes))), ..self }
    }

    pub(crate) fn first(&self) -> &[u8; 32] {
        self.first.expose_secret()
    }

    pub(crate) fn second(&self) -> Option<&[u8; 32]> {
        self.second.as_ref().map(ExposeSecret::expose_secret)
    }
}

/// The bearer key of management calls, held as its SHA-256 so that comparing takes the same time for any length.
#[derive(Debug)]
pub struct ManagementKey(SecretBox<[u8; 32]>);

impl ManagementKey {
    /// From the key's text.
    pub fn new(text: &str) -> Self {
        Self(SecretBox::new(Box::new(sha256(text.as_bytes()))))
    }

    /// Whether `presented` is the key, in constant time.
    pub fn matches(&self, presented: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&sha256(presented), self.0.expose_secret()).is_ok()
    }
}

/// Both secrets.
#[derive(Debug)]
pub struct Secrets {
    /// Seals the signing keys.
    pub master_key: MasterKey,
    /// Opens management calls.
    pub management_key: ManagementKey,
}

impl Secrets {
    /// Reads both from the environment or from `files`.
    ///
    /// # Errors
    ///
    /// [`SecretError`], naming the variable and the setting, never the content.
    pub fn load(files: &SecretFiles) -> Result<Self, SecretError> {
        Ok(Self { master_key: load_master_key(files)?, management_key: load_management_key(files)? })
    }
}

/// Reads the master key alone, for commands that need no management key.
///
/// # Errors
///
/// [`SecretError`], naming the variable and the setting, never the content.
pub fn load_master_key(files: &SecretFiles) -> Result<MasterKey, SecretError> {
    let source = Source {
        variable: MASTER_KEY_VARIABLE,
        setting: "master_key_file",
        allowed: "32 random bytes as 43 characters of base64url or 64 of hexadecimal (`openssl rand -hex 32`)",
    };
    let master = read_key(&source, files.master_key_file.as_deref())?;
    let master = MasterKey::new(master);
    let second =
        Source { variable: SECOND_MASTER_KEY_VARIABLE, setting: "master_key_second_file", allowed: source.allowed };
    match read_key(&second, files.master_key_second_file.as_deref()) {
        Ok(second) => Ok(master.with_second(second)),
        Err(SecretError::Missing { .. }) => Ok(master),
        Err(error) => Err(error),
    }
}

fn read_key(source: &Source, file: Option<&Path>) -> Result<[u8; 32], SecretError> {
    parse_key(source.read(file)?.expose_secret()).ok_or_else(|| source.malformed())
}

fn load_management_key(files: &SecretFiles) -> Result<ManagementKey, SecretError> {
    let source = Source {
        variable: MANAGEMENT_KEY_VARIABLE,
        setting: "management_key_file",
        allowed: "22 to 256 visible ASCII characters (`openssl rand -hex 32`)",
    };
    let text = source.read(files.management_key_file.as_deref())?;
    let text = text.expose_secret();
    if !MANAGEMENT_KEY_CHARS.contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(source.malformed());
    }
    Ok(ManagementKey::new(text))
}

struct Source {
    variable: &'static str,
    setting: &'static str,
    allowed: &'static str,
}

impl Source {
    fn read(&self, file: Option<&Path>) -> Result<SecretString, SecretError> {
        let Self { variable, setting, allowed } = *self;
        match (std::env::var_os(variable), file) {
            (Some(_), Some(_)) => Err(SecretError::Both { variable, setting }),
            (None, None) => Err(SecretError::Missing { variable, setting, allowed }),
            (Some(text), None) => text.into_string().map(SecretString::from).map_err(|_| self.malformed()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map(Zeroizing::new)
                    .map_err(|source| SecretError::Unreadable { setting, path: path.display().to_string(), source })?;
                Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
            }
        }
    }

    fn malformed(&self) -> SecretError {
        SecretError::Malformed { variable: self.variable, setting: self.setting, allowed: self.allowed }
    }
}

/// 32 bytes of hexadecimal (64 digits) or base64url (43 characters).
pub(super) fn parse_key(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    let decoded = match text.len() {
        64 => decode_hex(text, &mut key),
        _ => Base64UrlUnpadded::decode(text.trim_end_matches('='), &mut key).ok().map(<[u8]>::len),
    };
    (decoded == Some(key.len())).then_some(key)
}

fn decode_hex(text: &str, key: &mut [u8; 32]) -> Option<usize> {
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    text.bytes().all(|b| b.is_ascii_hexdigit()).then_some(key.len())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_is_read_in_both_spellings() {
        let hex = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let key = parse_key(hex).unwrap();
        let base64 = Base64UrlUnpadded::encode_string(&key);
        assert_eq!(base64.len(), 43);
        assert_eq!(parse_key(&base64), Some(key));
        for wrong in ["", "abc", &hex[1..], &hex.replace('0', "+"), &hex.replace('0', "g"), &base64[1..]] {
            assert_eq!(parse_key(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let master = format!("{:?}", MasterKey::new([7; 32]));
        let management = format!("{:?}", ManagementKey::new("0123456789abcdef0123456789abcdef"));
        assert!(!master.contains('7') && master.contains("REDACTED"), "{master}");
        assert!(!management.contains("0123") && management.contains("REDACTED"), "{management}");
    }

    #[test]
    fn the_management_key_matches_itself_only() {
        let key = ManagementKey::new("0123456789abcdef0123456789abcdef");
        assert!(key.matches(b"0123456789abcdef0123456789abcdef"));
        assert!(!key.matches(b"0123456789abcdef0123456789abcdeF"));
        assert!(!key.matches(b""));
    }
}
