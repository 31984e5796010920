//! Access tokens: signed JWTs of RFC 9068, checked without a clock.
//!
//! Checking has two halves, since the first may be cached and the second may not: [`AccessToken::verify`] (form, key,
//! signature, issuer, audience) and, on every use, [`AccessToken::check_time`] and [`AccessToken::revoked_by`].
//!
//! Out of scope: making the signature (the origin's shell), roles and routes (see the decision).
//!
//! Invariant: claims exist only behind a valid signature (TOK-16). Keys never come from a token (TOK-09); the algorithm is
//! the key's own (TOK-02, TOK-03).

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};
use core::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use crate::{
    id::{ClientId, Role, SessionId, SubjectId, TenantId},
    jws::{self, JwsError, LastHeader, UnverifiedJws},
    keys::{KeySet, VerifySignature},
    replica::Replica,
    revocation::{FloorKey, Floors, ScopeKind, Version},
    session::Live,
    time::Timestamp,
};

/// The longest access token in bytes: two cookies of this size and their names stay under what servers accept by default.
pub const TOKEN_BYTES_MAX: usize = 1_200;

/// `typ` of an access token (RFC 9068 §2.1), without the optional `application/`.
pub const TYP: &str = "at+jwt";

/// Claims of an access token (RFC 9068 §2.2, RFC 9470 §6.1 and those of this project).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// Subject.
    pub sub: SubjectId,
    /// Audience.
    pub aud: Audience,
    /// Expiry, Unix seconds; expired from then on.
    pub exp: u64,
    /// When it was issued, Unix seconds.
    pub iat: u64,
    /// Not valid before, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Unique id of the token.
    pub jti: String,
    /// Client that the session was opened by.
    pub client_id: ClientId,
    /// Session.
    pub sid: SessionId,
    /// Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<TenantId>,
    /// Versions of session, subject, tenant and everyone; 0 for a tenant that is not there.
    pub ver: [Version; 4],
    /// Roles of the subject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// Space-separated scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Authentication context class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Authentication methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// When the user authenticated, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<u64>,
}

/// One audience or several (RFC 7519 §4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Audience {
    /// A single one.
    One(String),
    /// Several.
    Many(Vec<String>),
}

// By itself the reader would read the value twice.
impl<'de> Deserialize<'de> for Audience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Audience;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an audience or a list of them")
            }

            fn visit_str<E: de::Error>(self, one: &str) -> Result<Audience, E> {
                Ok(Audience::One(one.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, many: A) -> Result<Audience, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(many)).map(Audience::Many)
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

impl Audience {
    /// Whether `audience` is among them.
    pub fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

/// What the shell adds to a session's facts when a token is made.
#[derive(Debug, Clone, Copy)]
pub struct Issue<'a> {
    /// Issuer identifier.
    pub issuer: &'a str,
    /// Audience.
    pub audience: &'a str,
    /// Unique id, drawn for this token (TOK-25).
    pub jti: &'a str,
    /// Lifetime of the token; a session that ends sooner shortens it.
    pub lifetime: Duration,
}

impl Claims {
    /// The claims of a token for a live session.
    pub fn mint(live: &Live<'_>, id: &SessionId, issue: &Issue<'_>, now: Timestamp) -> Self {
        let session = live.session();
        let exp = now.saturating_add(issue.lifetime).min(live.ends_at());
        Self {
            iss: issue.issuer.to_string(),
            sub: session.subject.clone(),
            aud: Audience::One(issue.audience.to_string()),
            exp: exp.as_secs(),
            iat: now.as_secs(),
            nbf: None,
            jti: issue.jti.to_string(),
            client_id: session.client_id.clone(),
            sid: *id,
            tid: session.tenant.clone(),
            ver: live.versions(),
            roles: live.subject().roles.clone(),
            scope: session.scope.clone(),
            acr: session.acr.clone(),
            amr: session.amr.clone(),
            auth_time: Some(session.auth_time.as_secs()),
        }
    }
}

/// Why a token is refused. Clients learn `invalid_token` and no more (RFC 6750 §3.1); this is for metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("an access token may have at most {TOKEN_BYTES_MAX} bytes")]
    TooLarge,
    /// Not three parts of strict base64url (TOK-05, TOK-06, TOK-19), or not JSON of the expected form (TOK-07, TOK-17).
    #[error("not a compact JWT")]
    Malformed,
    /// Another kind of JWT (TOK-01, TOK-18).
    #[error("typ must be at+jwt")]
    Type,
    /// A critical extension, none of which is understood (TOK-08).
    #[error("critical header parameters are not supported")]
    Critical,
    /// An algorithm that is not allowed, or not the key's (TOK-02, TOK-03).
    #[error("the algorithm is not the one of the key")]
    Algorithm,
    /// No trusted key has this `kid` (TOK-10).
    #[error("no trusted key has this kid")]
    UnknownKey,
    /// The signature is not one of the key (TOK-16, TOK-21).
    #[error("the signature is wrong")]
    Signature,
    /// A claim is missing or of another type (TOK-13, TOK-15).
    #[error("a claim is missing or malformed")]
    Claims,
    /// Another issuer (TOK-11).
    #[error("iss is another issuer")]
    Issuer,
    /// Not meant for this audience (TOK-12).
    #[error("aud does not hold this audience")]
    Audience,
    /// `now >= exp` (TOK-13).
    #[error("the token has expired")]
    Expired,
    /// `iat` or `nbf` lies ahead by more than the clock skew (TOK-14, TOK-15).
    #[error("the token is not valid yet")]
    NotYetValid,
}

/// Whose tokens are accepted, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The issuer, compared exactly.
    pub issuer: &'a str,
    /// The audience that must be among those of the token.
    pub audience: &'a str,
}

/// What the token had that was read before, for the next one that has the same.
#[derive(Debug, Default)]
pub struct Before {
    header: LastHeader,
    tenant: Option<(TenantId, FloorKey)>,
}

impl Before {
    fn tenant(&mut self, tenant: &TenantId) -> FloorKey {
        match &self.tenant {
            Some((before, key)) if before == tenant => *key,
            _ => self.tenant.insert((tenant.clone(), FloorKey::tenant(tenant))).1,
        }
    }
}

/// An access token whose signature, issuer and audience were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    claims: Claims,
    session: FloorKey,
    subject: FloorKey,
    tenant: Option<FloorKey>,
    everyone: FloorKey,
    /// None if the gate has checked the signature, and with it the key.
    signing_key: Option<FloorKey>,
}

impl AccessToken {
    /// Reads a token and checks everything about it that does not change with time.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn verify(
        text: &str,
        keys: &KeySet,
        verifier: &impl VerifySignature,
        expected: Expected<'_>,
    ) -> Result<Self, TokenError> {
        Self::verify_after(text, &mut Before::default(), keys, verifier, expected)
    }

    /// As [`Self::verify`], and cheaper if the token before had the same header and tenant.
    ///
    /// # Errors
    ///
    /// As [`Self::verify`].
    pub fn verify_after(
        text: &str,
        before: &mut Before,
        keys: &KeySet,
        verifier: &impl VerifySignature,
        expected: Expected<'_>,
    ) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        let jws = UnverifiedJws::parse_after(text, &mut before.header)?;
        let typ = jws.typ().ok_or(TokenError::Malformed)?;
        let kid = jws.kid().ok_or(TokenError::Malformed)?;
        if !is_access_token_type(typ) {
            return Err(TokenError::Type);
        }
        jws.algorithm()?;
        let key = keys.get(kid).ok_or(TokenError::UnknownKey)?;
        let payload = jws.verify(key.key(), verifier)?;
        let claims: Claims = jws::object(&payload).ok_or(TokenError::Claims)?;
        if claims.iss != expected.issuer {
            return Err(TokenError::Issuer);
        }
        if !claims.aud.contains(expected.audience) {
            return Err(TokenError::Audience);
        }
        let tenant = claims.tid.as_ref().map(|tenant| before.tenant(tenant));
        Ok(Self::of(claims, tenant, Some(key.scope())))
    }

    /// A token that the gate has checked, as an assertion tells it.
    pub(crate) fn asserted(claims: Claims) -> Self {
        let tenant = claims.tid.as_ref().map(FloorKey::tenant);
        Self::of(claims, tenant, None)
    }

    fn of(claims: Claims, tenant: Option<FloorKey>, signing_key: Option<FloorKey>) -> Self {
        Self {
            session: FloorKey::session(&claims.sid),
            subject: FloorKey::subject(&claims.sub),
            tenant,
            everyone: FloorKey::everyone(),
            signing_key,
            claims,
        }
    }

    /// The claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Whether the token is in its time at `now`: expired from `exp` on; `iat` and `nbf` may lie ahead by `skew_max`.
    ///
    /// # Errors
    ///
    /// [`TokenError::Expired`] or [`TokenError::NotYetValid`].
    pub fn check_time(&self, now: Timestamp, skew_max: Duration) -> Result<(), TokenError> {
        if now.has_reached(Timestamp::from_secs(self.claims.exp)) {
            return Err(TokenError::Expired);
        }
        let valid_from = Timestamp::from_secs(self.claims.iat.max(self.claims.nbf.unwrap_or(0)));
        if valid_from > now.saturating_add(skew_max) { Err(TokenError::NotYetValid) } else { Ok(()) }
    }

    /// The narrowest scope whose floor revokes the token; none if no floor does.
    pub fn revoked_by(&self, floors: &Floors) -> Option<ScopeKind> {
        self.scopes().find(|(_, key, version)| floors.revokes(key, *version)).map(|(kind, ..)| kind)
    }

    /// Raises the floors that this token proves, until tokens of their time have expired. Only for a token in its time.
    pub fn teach(&self, replica: &mut Replica, margin: Duration) {
        // An older token of the same scope was issued before this one and lives hardly longer than it; for one that does, the
        // feed brings the floor itself, which is kept longer.
        let forget_at = Timestamp::from_secs(self.claims.exp).saturating_add(margin);
        for (kind, key, version) in self.scopes() {
            if kind != ScopeKind::SigningKey {
                replica.learn(key, version, forget_at);
            }
        }
    }

    fn scopes(&self) -> impl Iterator<Item = (ScopeKind, FloorKey, Version)> {
        let [session, subject, tenant, everyone] = self.claims.ver;
        [
            Some((ScopeKind::Session, self.session, session)),
            Some((ScopeKind::Subject, self.subject, subject)),
            self.tenant.map(|key| (ScopeKind::Tenant, key, tenant)),
            Some((ScopeKind::Everyone, self.everyone, everyone)),
            self.signing_key.map(|key| (ScopeKind::SigningKey, key, Version::INITIAL)),
        ]
        .into_iter()
        .flatten()
    }
}

/// How long the access tokens of a session live: less than `longest` by a part of `percent` (at most 100) that the id of the
/// session decides, so that sessions which were opened together are not renewed together.
pub fn spread(longest: Duration, percent: u64, session: &SessionId) -> Duration {
    let [.., a, b, c, d] = *session.as_bytes();
    let part = u128::from(u32::from_be_bytes([a, b, c, d]));
    let less_ms = (longest.as_millis().saturating_mul(percent.min(100).into()).saturating_mul(part) / 100) >> 32;
    longest.saturating_sub(Duration::from_millis(u64::try_from(less_ms).unwrap_or(0)))
}

/// RFC 9068 §4: `at+jwt`, with or without `application/`; media types are compared without case (RFC 7515 §4.1.9).
fn is_access_token_type(typ: &str) -> bool {
    let prefix = "application/";
    let short = match typ.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => typ.get(prefix.len()..).unwrap_or_default(),
        _ => typ,
    };
    short.eq_ignore_ascii_case(TYP)
}

impl From<JwsError> for TokenError {
    fn from(error: JwsError) -> Self {
        match error {
            JwsError::Malformed => Self::Malformed,
            JwsError::Critical => Self::Critical,
            JwsError::Algorithm => Self::Algorithm,
            JwsError::Signature => Self::Signature,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
