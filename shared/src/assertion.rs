//! Assertions: by which an application tells the gate's headers from anyone's.
//!
//! The gate signs, for each request that it forwards, who the request is from and which request that is. Wire format: a JWT
//! in compact form with HS256 (RFC 7515, RFC 7518 §3.2) in the header `Portcullis-Assertion`; `docs/assertion.md` describes
//! it for services in other languages, with a test vector. The key is shared by a gate and one upstream and speaks to that
//! upstream only: whoever has it learns nothing by it that could be used elsewhere, and can mint no access token.
//!
//! Against replay: an assertion counts for [`LIFETIME`], for one upstream, and for one method, path and query.
//!
//! Invariant: an [`Assertion`] exists only behind a good signature, in its time, for the request at hand.

use alloc::{borrow::Cow, string::String, vec::Vec};
use core::{fmt, time::Duration};

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use sha2::{Digest, Sha256};

use crate::{
    id::{ClientId, Role, SessionId, SubjectId, TenantId},
    jws::{self, JwsError, UnverifiedJws},
    revocation::Version,
    time::Timestamp,
    token::{AccessToken, Audience, Claims},
};

/// `typ` of an assertion, so that it is taken for no other kind of JWT (RFC 8725 §3.11).
pub const TYP: &str = "portcullis-assertion+jwt";

/// The header that carries it, in lower case.
pub const HEADER: &str = "portcullis-assertion";

/// How long an assertion counts: for a slow connection and clocks that differ, and no more.
pub const LIFETIME: Duration = Duration::from_secs(30);

/// The longest assertion in bytes: the claims of the longest access token with the longest host name.
pub const ASSERTION_BYTES_MAX: usize = 4_096;

/// `{"typ":"portcullis-assertion+jwt","alg":"HS256"}` in base64url.
const JOSE_HEADER: &str = "eyJ0eXAiOiJwb3J0Y3VsbGlzLWFzc2VydGlvbitqd3QiLCJhbGciOiJIUzI1NiJ9";

/// The secret of a gate and one upstream.
#[derive(Clone)]
pub struct AssertionKey(Hmac<Sha256>);

/// A text is no key. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an assertion key must be 64 hexadecimal digits, such as openssl rand -hex 32 prints")]
pub struct AssertionKeyError;

/// A request as it travels from the gate to an upstream.
#[derive(Debug, Clone, Copy)]
pub struct Forwarded<'a> {
    /// The method.
    pub method: &'a str,
    /// The path as it stands on the wire.
    pub path: &'a str,
    /// `?` and what follows it, as it stands on the wire; empty without a query.
    pub query: &'a str,
}

/// Who makes assertions, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Parties<'a> {
    /// The issuer of the access tokens that the gate believes.
    pub issuer: &'a str,
    /// The upstream, by its name in the route policy.
    pub upstream: &'a str,
}

/// Whom an assertion names, ready to be put into many; nobody by default.
#[derive(Debug, Clone, Default)]
pub struct Asserted {
    /// Members of a JSON object without its braces.
    members: String,
    /// When the access token expires, in Unix seconds; no assertion on its holder counts longer.
    until: Option<u64>,
}

/// What an assertion that holds says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// Whom the request is from; none if the gate let it pass as nobody's. Time and floors are the caller's to look at, as
    /// for every token.
    pub token: Option<AccessToken>,
    /// The host with port that the client asked for.
    pub host: String,
}

/// Why an assertion is refused. Clients learn no more than that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Longer than [`ASSERTION_BYTES_MAX`].
    #[error("an assertion may have at most {ASSERTION_BYTES_MAX} bytes")]
    TooLarge,
    /// Not a compact JWS with HS256, or signed by none of the keys.
    #[error(transparent)]
    Signature(#[from] JwsError),
    /// Another kind of JWT.
    #[error("typ must be {TYP}")]
    Type,
    /// A claim is missing or of another type.
    #[error("a claim is missing or malformed")]
    Claims,
    /// Of the gate of another issuer, or for another upstream.
    #[error("iss or aud is another one")]
    Parties,
    /// On another method, path or query.
    #[error("the assertion is on another request")]
    Request,
    /// `now >= exp`, or longer valid than an assertion may be.
    #[error("the assertion has expired")]
    Expired,
    /// `iat` lies ahead by more than the clock skew.
    #[error("the assertion is not valid yet")]
    NotYetValid,
}

/// Claims of every assertion.
#[derive(Serialize, Deserialize)]
struct Bound<'a> {
    iss: Cow<'a, str>,
    aud: Cow<'a, str>,
    iat: u64,
    exp: u64,
    /// Method (as RFC 9449 §4.2 calls it).
    htm: Cow<'a, str>,
    /// Hash of path and query.
    tgt: Cow<'a, str>,
    host: Cow<'a, str>,
    #[serde(default, skip_serializing)]
    sub: Option<IgnoredAny>,
}

/// Claims of an assertion that names somebody: those of the access token that an application may want to know.
#[derive(Serialize, Deserialize)]
struct Named<'a> {
    sub: Cow<'a, SubjectId>,
    client_id: Cow<'a, ClientId>,
    sid: SessionId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tid: Option<Cow<'a, TenantId>>,
    ver: [Version; 4],
    #[serde(default, skip_serializing_if = "is_empty")]
    roles: Cow<'a, [Role]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acr: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    amr: Cow<'a, [String]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
}

impl AssertionKey {
    /// From the 64 hexadecimal digits of 32 random bytes.
    ///
    /// # Errors
    ///
    /// The text is anything else.
    pub fn from_hex(text: &str) -> Result<Self, AssertionKeyError> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(AssertionKeyError);
        }
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok();
        let bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>().ok_or(AssertionKeyError)?;
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| AssertionKeyError)
    }

    /// The assertion on a request; `host` is the one that the client asked for. None if it would be longer than
    /// [`ASSERTION_BYTES_MAX`].
    pub fn assert(
        &self,
        parties: Parties<'_>,
        request: Forwarded<'_>,
        host: &str,
        asserted: &Asserted,
        now: Timestamp,
    ) -> Option<String> {
        let until = now.saturating_add(LIFETIME).as_secs();
        let tgt = target_hash(request);
        let bound = Bound {
            iss: parties.issuer.into(),
            aud: parties.upstream.into(),
            iat: now.as_secs(),
            exp: asserted.until.map_or(until, |token| token.min(until)),
            htm: request.method.into(),
            tgt: tgt.into(),
            host: host.into(),
            sub: None,
        };
        let mut payload = serde_json::to_string(&bound).ok()?;
        if !asserted.members.is_empty() {
            payload.pop();
            payload.extend([",", &asserted.members, "}"]);
        }
        let mut text = [JOSE_HEADER, &Base64UrlUnpadded::encode_string(payload.as_bytes())].join(".");
        let signature = self.0.clone().chain_update(text.as_bytes()).finalize().into_bytes();
        text.push('.');
        text.push_str(&Base64UrlUnpadded::encode_string(&signature));
        (text.len() <= ASSERTION_BYTES_MAX).then_some(text)
    }
}

impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AssertionKey(..)")
    }
}

impl Asserted {
    /// The holder of an access token.
    pub fn of(claims: &Claims) -> Self {
        let named = Named {
            sub: Cow::Borrowed(&claims.sub),
            client_id: Cow::Borrowed(&claims.client_id),
            sid: claims.sid,
            tid: claims.tid.as_ref().map(Cow::Borrowed),
            ver: claims.ver,
            roles: claims.roles.as_slice().into(),
            scope: claims.scope.as_deref().map(Cow::Borrowed),
            acr: claims.acr.as_deref().map(Cow::Borrowed),
            amr: claims.amr.as_slice().into(),
            auth_time: claims.auth_time,
        };
        // Nothing in it that JSON could not hold; without its members an assertion would name nobody, and admit nobody.
        let json = serde_json::to_string(&named).unwrap_or_default();
        let members = json.strip_prefix('{').and_then(|json| json.strip_suffix('}')).unwrap_or_default().into();
        Self { members, until: Some(claims.exp) }
    }
}

/// Checks the assertion on a request that came in at `now`; any of `keys` may have signed it.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub fn verify(
    text: &str,
    keys: &[AssertionKey],
    parties: Parties<'_>,
    request: Forwarded<'_>,
    now: Timestamp,
    skew_max: Duration,
) -> Result<Assertion, AssertionError> {
    if text.len() > ASSERTION_BYTES_MAX {
        return Err(AssertionError::TooLarge);
    }
    let jws = UnverifiedJws::parse(text)?;
    if jws.typ() != Some(TYP) {
        return Err(AssertionError::Type);
    }
    let signed = keys.iter().map(|key| jws.verify_hs256(&key.0));
    let payload = signed.reduce(Result::or).unwrap_or(Err(JwsError::Signature))?;
    let bound: Bound<'_> = jws::object(&payload).ok_or(AssertionError::Claims)?;
    if (&*bound.iss, &*bound.aud) != (parties.issuer, parties.upstream) {
        return Err(AssertionError::Parties);
    }
    let issued = Timestamp::from_secs(bound.iat);
    if now.has_reached(Timestamp::from_secs(bound.exp)) || bound.exp > issued.saturating_add(LIFETIME).as_secs() {
        return Err(AssertionError::Expired);
    }
    if issued > now.saturating_add(skew_max) {
        return Err(AssertionError::NotYetValid);
    }
    if bound.htm != request.method || bound.tgt != target_hash(request) {
        return Err(AssertionError::Request);
    }
    let token = match &bound.sub {
        Some(IgnoredAny) => {
            let named: Named<'_> = jws::object(&payload).ok_or(AssertionError::Claims)?;
            Some(AccessToken::asserted(named.into_claims(&bound)))
        }
        None => None,
    };
    Ok(Assertion { token, host: bound.host.into_owned() })
}

impl Named<'_> {
    fn into_claims(self, bound: &Bound<'_>) -> Claims {
        Claims {
            iss: bound.iss.clone().into_owned(),
            sub: self.sub.into_owned(),
            aud: Audience::One(bound.aud.clone().into_owned()),
            exp: bound.exp,
            iat: bound.iat,
            nbf: None,
            // It is bound to its request, and so needs no name of its own.
            jti: String::new(),
            client_id: self.client_id.into_owned(),
            sid: self.sid,
            tid: self.tid.map(Cow::into_owned),
            ver: self.ver,
            roles: self.roles.into_owned(),
            scope: self.scope.map(Cow::into_owned),
            acr: self.acr.map(Cow::into_owned),
            amr: self.amr.into_owned(),
            auth_time: self.auth_time,
        }
    }
}

/// SHA-256 of path and query, in base64url: as short for a long query as for none, and nothing of it is told.
fn target_hash(request: Forwarded<'_>) -> String {
    let hash = Sha256::new().chain_update(request.path.as_bytes()).chain_update(request.query.as_bytes()).finalize();
    Base64UrlUnpadded::encode_string(&hash)
}

fn is_empty<T>(list: &[T]) -> bool {
    list.is_empty()
}

#[cfg(test)]
mod tests;
