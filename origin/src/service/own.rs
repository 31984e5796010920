//! What the user of a session may see and do, on the word of its access token: list the devices, end one, sign out.

use shared::{
    id::{SessionId, SubjectId, TenantId},
    session::{EndReason, Initiator},
    time::Timestamp,
    token::Claims,
};

use super::{
    Service, ServiceError,
    introspect::{ActiveToken, Viewer},
    sessions::SessionPage,
};
use crate::{shell, store::Indexed};

/// Why a user's wish is not granted.
#[derive(Debug)]
pub enum OwnError {
    /// The access token counts for nothing.
    Token,
    /// The user did not authenticate within this many seconds (ASVS 7.5.2).
    NotRecent(u64),
    /// Everything else.
    Service(ServiceError),
}

impl From<ServiceError> for OwnError {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

/// A user who holds an access token that counts.
pub struct User(Box<Claims>);

impl User {
    /// Who.
    pub fn subject(&self) -> &SubjectId {
        &self.0.sub
    }

    /// Of which organisation.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.0.tid.as_ref()
    }

    /// The session that asks.
    pub fn session(&self) -> SessionId {
        self.0.sid
    }
}

impl Service {
    /// The user of an access token, by the records and floors as they are now.
    ///
    /// # Errors
    ///
    /// [`OwnError::Token`], or the store.
    pub async fn user(&self, token: &str) -> Result<User, OwnError> {
        match self.introspect(token, &Viewer::Management).await? {
            Some(ActiveToken::Access(claims)) => Ok(User(claims)),
            Some(ActiveToken::Refresh(_)) | None => Err(OwnError::Token),
        }
    }

    /// A page of the open sessions of the user, and the one that asks.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn own_sessions(
        &self,
        user: &User,
        after: Option<Indexed>,
        max: usize,
    ) -> Result<(SessionPage, SessionId), OwnError> {
        Ok((self.sessions_of(&user.0.sub, after, max).await?, user.0.sid))
    }

    /// Ends the session that asks.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn sign_out(&self, user: &User) -> Result<(), OwnError> {
        self.revoke_session(user.0.sid, EndReason::SignedOut, Initiator::User).await?;
        Ok(())
    }

    /// Ends a session of the user (SES-09).
    ///
    /// # Errors
    ///
    /// The user has not authenticated lately; the session is unknown, or another user's, which is the same to this one; the
    /// store.
    pub async fn end_own(&self, user: &User, id: SessionId) -> Result<(), OwnError> {
        let authenticated = user.0.auth_time.map_or(Timestamp::EPOCH, Timestamp::from_secs);
        if shell::now().has_reached(authenticated.saturating_add(self.recent_auth)) {
            return Err(OwnError::NotRecent(self.recent_auth.as_secs()));
        }
        if self.session(id).await?.session.subject != user.0.sub {
            return Err(ServiceError::NotFound.into());
        }
        self.revoke_session(id, EndReason::SignedOut, Initiator::User).await?;
        Ok(())
    }
}
