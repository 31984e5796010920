//! Ends the session of a token on the word of the client that holds it (RFC 7009).

use shared::{
    codec::Record as _,
    id::SessionId,
    refresh::PresentedToken,
    session::{EndReason, Initiator, Session},
    token::{AccessToken, Expected},
};

use super::{Service, ServiceError};
use crate::{clients::Client, keys::Verifier, shell, store::Key};

impl Service {
    /// Ends the session of a refresh token, of any generation, or of an access token in its time. Fine for a token that
    /// counts for nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvalidGrant`] for a token of another client; the store.
    pub async fn revoke_token(&self, token: &str, client: &Client) -> Result<(), ServiceError> {
        let session = match PresentedToken::parse(token) {
            Some(presented) => self.session_of_refresh_token(&presented, client).await?,
            None => self.session_of_access_token(token, client)?,
        };
        let Some(session) = session else { return Ok(()) };
        match self.revoke_session(session, EndReason::SignedOut, Initiator::User).await {
            // A session whose record is gone has ended.
            Ok(_) | Err(ServiceError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn session_of_refresh_token(
        &self,
        presented: &PresentedToken,
        client: &Client,
    ) -> Result<Option<SessionId>, ServiceError> {
        let id = *presented.session();
        let Some(stored) = self.store.load(&Key::Session(id)).await? else { return Ok(None) };
        let session = Session::decode(&stored).map_err(ServiceError::Record)?;
        if self.peppers.generation(presented, &session.seed).is_none() {
            return Ok(None);
        }
        if session.client_id == client.id { Ok(Some(id)) } else { Err(ServiceError::InvalidGrant) }
    }

    fn session_of_access_token(&self, token: &str, client: &Client) -> Result<Option<SessionId>, ServiceError> {
        let expected = Expected { issuer: &self.issuer, audience: &self.audience };
        let Ok(token) = AccessToken::verify(token, self.keys.current().key_set(), &Verifier, expected) else {
            return Ok(None);
        };
        if token.check_time(shell::now(), self.skew_max).is_err() {
            return Ok(None);
        }
        let claims = token.claims();
        if claims.client_id == client.id { Ok(Some(claims.sid)) } else { Err(ServiceError::InvalidGrant) }
    }
}
