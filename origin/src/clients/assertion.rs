//! Client assertions: a JWT that a client signed to say who it is (`private_key_jwt`, RFC 7523 §2.2 and §3).
//!
//! Form and signature are checked by `shared::jws` with aws-lc-rs, as for access tokens, not by the crate `jsonwebtoken`:
//! that one does not know the name `Ed25519` (RFC 9864) and asks the clock by itself.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest;
use serde::Deserialize;
use shared::{
    id::ClientId,
    jws::{self, JwsError, UnverifiedJws},
    keys::{PublicKey, TokenKey},
    time::Timestamp,
    token::Audience,
};

use super::{Client, Clients};
use crate::keys::Verifier;

/// How far ahead `exp` may lie: an assertion is made for one call, and is remembered until then.
pub const LIFETIME_MAX: Duration = Duration::from_secs(300);

/// The longest assertion in bytes.
const BYTES_MAX: usize = 4_096;

/// The longest `jti` in bytes.
const JTI_BYTES_MAX: usize = 256;

/// Why an assertion is refused. Clients learn `invalid_client` and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Too long, not a compact JWS, or not made by a key of the client.
    #[error(transparent)]
    Signature(#[from] JwsError),
    /// Another kind of JWT (TOK-18).
    #[error("typ must be left out, JWT or client-authentication+jwt")]
    Type,
    /// A required claim is missing, of another type or too long.
    #[error("iss, sub, aud, exp and jti are required")]
    Claims,
    /// `iss` and `sub` are not one registered client with keys.
    #[error("iss and sub must both be the client_id of a client with a jwks")]
    Client,
    /// No key of the client fits.
    #[error("the client has no such key")]
    UnknownKey,
    /// Meant for someone else.
    #[error("aud must be the issuer or the token endpoint")]
    Audience,
    /// `now >= exp`.
    #[error("the assertion has expired")]
    Expired,
    /// `exp` lies too far ahead.
    #[error("exp may lie at most 300 s ahead")]
    TooLong,
    /// `iat` or `nbf` lies ahead.
    #[error("the assertion is not valid yet")]
    NotYetValid,
}

/// An assertion that counts, once.
#[derive(Debug)]
pub struct Assertion {
    /// Who made it.
    pub client: Arc<Client>,
    /// Names it among all assertions: the first 16 bytes of SHA-256 over client and `jti`.
    pub id: [u8; 16],
    /// From when on it counts no more.
    pub expires_at: Timestamp,
}

#[derive(Deserialize)]
struct Claims {
    iss: ClientId,
    sub: ClientId,
    aud: Audience,
    exp: u64,
    jti: String,
    iat: Option<u64>,
    nbf: Option<u64>,
}

impl Clients {
    /// Checks everything about an assertion but that it was not used before. `audiences` are our own names.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn check_assertion(
        &self,
        text: &str,
        audiences: [&str; 2],
        now: Timestamp,
        skew_max: Duration,
    ) -> Result<Assertion, AssertionError> {
        if text.len() > BYTES_MAX {
            return Err(AssertionError::Signature(JwsError::Malformed));
        }
        let jws = UnverifiedJws::parse(text)?;
        if !is_assertion_type(jws.typ()) {
            return Err(AssertionError::Type);
        }
        let claimed: Claims = read(&jws.unverified_payload()?)?;
        let client = self.known.get(&claimed.sub).filter(|client| claimed.iss == client.id);
        let client = client.ok_or(AssertionError::Client)?;
        let key = key_of(client, &jws)?;
        let claims: Claims = read(&jws.verify(key, &Verifier)?)?;
        if !audiences.iter().any(|audience| claims.aud.contains(audience)) {
            return Err(AssertionError::Audience);
        }
        let expires_at = Timestamp::from_secs(claims.exp);
        if now.has_reached(expires_at) {
            return Err(AssertionError::Expired);
        }
        let latest = now.saturating_add(skew_max);
        if expires_at > latest.saturating_add(LIFETIME_MAX) {
            return Err(AssertionError::TooLong);
        }
        let valid_from = claims.iat.unwrap_or(0).max(claims.nbf.unwrap_or(0));
        if Timestamp::from_secs(valid_from) > latest {
            return Err(AssertionError::NotYetValid);
        }
        Ok(Assertion { client: Arc::clone(client), id: id_of(&client.id, &claims.jti), expires_at })
    }
}

/// The key that the assertion names, or the client's only one of the algorithm (RFC 7515 §4.1.4: `kid` is a hint).
fn key_of<'a>(client: &'a Client, jws: &UnverifiedJws<'_>) -> Result<&'a PublicKey, AssertionError> {
    let keys = client.keys().ok_or(AssertionError::Client)?;
    if let Some(kid) = jws.kid() {
        return keys.get(kid).map(TokenKey::key).ok_or(AssertionError::UnknownKey);
    }
    let algorithm = jws.algorithm()?;
    let mut fitting = keys.iter().map(|(_, key)| key).filter(|key| key.algorithm() == algorithm);
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(AssertionError::UnknownKey),
    }
}

fn read(payload: &[u8]) -> Result<Claims, AssertionError> {
    let claims: Claims = jws::object(payload).ok_or(AssertionError::Claims)?;
    if (1..=JTI_BYTES_MAX).contains(&claims.jti.len()) { Ok(claims) } else { Err(AssertionError::Claims) }
}

fn id_of(client: &ClientId, jti: &str) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    // A client id holds no NUL, so no two (client, jti) give the same input.
    for part in [b"portcullis client assertion 1".as_slice(), client.as_str().as_bytes(), &[0], jti.as_bytes()] {
        context.update(part);
    }
    let mut id = [0; 16];
    id.copy_from_slice(context.finish().as_ref().split_at(16).0);
    id
}

fn is_assertion_type(typ: Option<&str>) -> bool {
    typ.is_none_or(|typ| ["JWT", "client-authentication+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests;
