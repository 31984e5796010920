//! Signed JSON in compact form (RFC 7515 §7.1), read strictly: what access tokens and assertions share.
//!
//! Out of scope: what the payload says, and which `typ` and key a consumer accepts.
//!
//! Invariant: a payload is handed out only behind a valid signature. Keys never come from the text; the algorithm is the
//! key's own.

use alloc::{borrow::ToOwned as _, string::String, sync::Arc, vec::Vec};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::Sha256;

use crate::keys::{Algorithm, PublicKey, VerifySignature};

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not three parts of strict base64url (RFC 7515 §5.2), or a header that is not JSON of the expected form.
    #[error("not a compact JWS")]
    Malformed,
    /// A critical extension, none of which is understood (RFC 7515 §4.1.11).
    #[error("critical header parameters are not supported")]
    Critical,
    /// An algorithm that is not allowed, or not the key's.
    #[error("the algorithm is not the one of the key")]
    Algorithm,
    /// The signature is not one of the key.
    #[error("the signature is wrong")]
    Signature,
}

/// A text in compact form whose signature has not been checked yet.
#[derive(Debug)]
pub struct UnverifiedJws<'a> {
    header: Arc<Header>,
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    // Present in any form, `null` included: refused.
    #[serde(default, deserialize_with = "present")]
    crit: bool,
}

/// The header that was read last: all that one key has signed have the same, byte for byte.
#[derive(Debug, Default)]
pub struct LastHeader(Option<(String, Arc<Header>)>);

impl LastHeader {
    fn read(&mut self, part: &str) -> Result<Arc<Header>, JwsError> {
        match &self.0 {
            Some((last, header)) if last == part => Ok(Arc::clone(header)),
            _ => {
                let header = Arc::new(object(&decode(part)?).ok_or(JwsError::Malformed)?);
                self.0 = Some((part.to_owned(), Arc::clone(&header)));
                Ok(header)
            }
        }
    }
}

impl<'a> UnverifiedJws<'a> {
    /// Takes a text apart.
    ///
    /// # Errors
    ///
    /// [`JwsError::Malformed`].
    pub fn parse(text: &'a str) -> Result<Self, JwsError> {
        Self::parse_after(text, &mut LastHeader::default())
    }

    /// As [`Self::parse`], and cheaper if the text before had the same header. A long text leaves a long header.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn parse_after(text: &'a str, last: &mut LastHeader) -> Result<Self, JwsError> {
        let (signed, signature) = text.rsplit_once('.').ok_or(JwsError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Malformed)?;
        Ok(Self { header: last.read(header)?, signed, payload, signature })
    }

    /// The key id that it names; untrusted.
    pub fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The type that it names; untrusted.
    pub fn typ(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }

    /// The payload before anything was checked: for finding out whose key to ask, never for believing it.
    ///
    /// # Errors
    ///
    /// [`JwsError::Malformed`].
    pub fn unverified_payload(&self) -> Result<Vec<u8>, JwsError> {
        decode(self.payload)
    }

    /// The algorithm that it names.
    ///
    /// # Errors
    ///
    /// [`JwsError::Critical`]; [`JwsError::Algorithm`] for one that is not supported, `none` included.
    pub fn algorithm(&self) -> Result<Algorithm, JwsError> {
        if self.header.crit {
            return Err(JwsError::Critical);
        }
        Algorithm::from_header(&self.header.alg).ok_or(JwsError::Algorithm)
    }

    /// The payload, if `key` signed it.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn verify(&self, key: &PublicKey, verifier: &impl VerifySignature) -> Result<Vec<u8>, JwsError> {
        if key.algorithm() != self.algorithm()? {
            return Err(JwsError::Algorithm);
        }
        let payload = decode(self.payload)?;
        if verifier.verify(key, self.signed.as_bytes(), &decode(self.signature)?) {
            Ok(payload)
        } else {
            Err(JwsError::Signature)
        }
    }

    /// The payload, if it was signed with this secret (HS256, RFC 7518 §3.2). Takes the same time either way.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn verify_hs256(&self, key: &Hmac<Sha256>) -> Result<Vec<u8>, JwsError> {
        if self.header.crit {
            return Err(JwsError::Critical);
        }
        if self.header.alg != "HS256" {
            return Err(JwsError::Algorithm);
        }
        let (payload, signature) = (decode(self.payload)?, decode(self.signature)?);
        let mac = key.clone().chain_update(self.signed.as_bytes());
        mac.verify_slice(&signature).map(|()| payload).map_err(|_| JwsError::Signature)
    }
}

/// Reads a JSON object in UTF-8 (RFC 7515 §5.2, RFC 7519 §7.2); none for anything else. By itself the reader would take a list
/// of the members as well, and any bytes in members that it does not know.
pub fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let text = core::str::from_utf8(json).ok()?;
    if text.trim_ascii_start().starts_with('{') { serde_json::from_str(text).ok() } else { None }
}

// What a token holds is no secret before whoever sent it, so this need not take the same time for all of them.
fn decode(part: &str) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsError::Malformed)
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}
