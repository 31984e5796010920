//! Makes the tokens of a live session.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use shared::{
    id::SessionId,
    refresh::Generation,
    session::{Live, Session},
    time::Timestamp,
    token::{Claims, Issue, TOKEN_BYTES_MAX, spread},
};

use super::{Service, ServiceError};
use crate::shell;

/// An access token and the refresh token that goes with it.
pub struct Tokens {
    /// Signed JWT (RFC 9068).
    pub access_token: String,
    /// Seconds until the access token expires.
    pub expires_in: u64,
    /// Opaque.
    pub refresh_token: String,
    /// The scope of the access token.
    pub scope: Option<String>,
}

impl Service {
    /// The tokens of a live session; `scope` narrows that of the session.
    pub(super) fn tokens(
        &self,
        live: &Live<'_>,
        id: &SessionId,
        generation: Generation,
        scope: Option<String>,
        now: Timestamp,
    ) -> Result<Tokens, ServiceError> {
        let jti = Base64UrlUnpadded::encode_string(&shell::random()?);
        let client = self.clients.get(&live.session().client_id);
        let longest = client.and_then(|client| client.access_ttl()).unwrap_or(self.access_ttl);
        let lifetime = spread(longest, self.access_ttl_spread_percent, id);
        let issue = Issue { issuer: &self.issuer, audience: &self.audience, jti: &jti, lifetime };
        let claims = Claims { scope: self.scope_of(live.session(), scope), ..Claims::mint(live, id, &issue, now) };
        let json = serde_json::to_vec(&claims).map_err(|_| ServiceError::Library)?;
        let ring = self.keys.current();
        let signing = ring.signing(self.keys.policy().algorithm, now, |key| self.feed.has_revoked(key));
        let access_token = signing.ok_or(ServiceError::NoSigningKey)?.key.sign(&json)?;
        if access_token.len() > TOKEN_BYTES_MAX {
            return Err(ServiceError::TokenTooLarge(TOKEN_BYTES_MAX));
        }
        Ok(Tokens {
            access_token,
            expires_in: claims.exp.saturating_sub(claims.iat),
            refresh_token: self.peppers.issue(id, generation, &live.session().seed),
            scope: claims.scope,
        })
    }

    /// What is given of `asked`, or of all that was granted: as much as the client may still have (RFC 6749 §3.3).
    pub(super) fn scope_of(&self, session: &Session, asked: Option<String>) -> Option<String> {
        let scope = asked.or_else(|| session.scope.clone())?;
        match self.clients.get(&session.client_id) {
            Some(client) => client.limit(&scope),
            None => Some(scope),
        }
    }
}
