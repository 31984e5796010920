//! Ends the session of a token on the word of the client that holds it (RFC 7009).

use shared::{
    codec::Record as _,
    id::{SessionId, TenantId},
    refresh::PresentedToken,
    session::{EndReason, Initiator, Session},
    token::Expected,
};

use super::{Service, ServiceError};
use crate::{clients::Client, shell, store::Key};

/// A session that was ended, now or before.
pub struct Revoked {
    /// Which.
    pub session: SessionId,
    /// Of which organisation.
    pub tenant: Option<TenantId>,
}

impl Service {
    /// Ends the session of a refresh token, of any generation, or of an access token in its time. Fine for a token that
    /// counts for nothing.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvalidGrant`] for a token of another client; the store.
    pub async fn revoke_token(&self, token: &str, client: &Client) -> Result<Option<Revoked>, ServiceError> {
        let session = match PresentedToken::parse(token) {
            Some(presented) => self.session_of_refresh_token(&presented, client).await?,
            None => self.session_of_access_token(token, client)?,
        };
        let Some((session, tenant)) = session else { return Ok(None) };
        match self.revoke_session(session, EndReason::SignedOut, Initiator::User).await {
            Ok(_) => Ok(Some(Revoked { session, tenant })),
            // A session whose record is gone has ended.
            Err(ServiceError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn session_of_refresh_token(
        &self,
        presented: &PresentedToken,
        client: &Client,
    ) -> Result<Option<(SessionId, Option<TenantId>)>, ServiceError> {
        let id = *presented.session();
        let Some(stored) = self.store.load(&Key::Session(id)).await? else { return Ok(None) };
        let session = Session::decode(&stored).map_err(ServiceError::Record)?;
        if self.peppers.generation(presented, &session.seed).is_none() {
            return Ok(None);
        }
        if session.client_id == client.id { Ok(Some((id, session.tenant))) } else { Err(ServiceError::InvalidGrant) }
    }

    fn session_of_access_token(
        &self,
        token: &str,
        client: &Client,
    ) -> Result<Option<(SessionId, Option<TenantId>)>, ServiceError> {
        let expected = Expected { issuer: &self.issuer, audience: &self.audience };
        let Some(token) = self.verified.check(token, &self.keys.current(), expected) else { return Ok(None) };
        if token.check_time(shell::now(), self.skew_max).is_err() {
            return Ok(None);
        }
        let claims = token.claims();
        if claims.client_id == client.id {
            Ok(Some((claims.sid, claims.tid.clone())))
        } else {
            Err(ServiceError::InvalidGrant)
        }
    }
}
