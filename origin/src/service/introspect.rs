//! Tells whether a token counts, by the records and floors as they are now (RFC 7662).

use std::sync::Arc;

use metrics::counter;
use shared::{
    codec::Record as _,
    id::{ClientId, SessionId, SubjectId, TenantId},
    refresh::PresentedToken,
    session::Session,
    subject::{Subject, Versions},
    time::Timestamp,
    token::{Claims, Expected},
};

use super::{
    Service, ServiceError,
    everyone::everyone_or_first,
    surroundings::{Around, Wider},
};
use crate::{clients::Client, shell, store::Key, telemetry::metrics::INTROSPECTIONS};

/// Who asks.
pub enum Viewer {
    /// Sees every token.
    Management,
    /// Sees its own tokens, or those of every client if the configuration says so.
    Client(Arc<Client>),
}

impl Viewer {
    fn sees(&self, owner: &ClientId) -> bool {
        match self {
            Self::Management => true,
            Self::Client(client) => client.introspects(owner),
        }
    }
}

/// A token that counts.
pub enum ActiveToken {
    /// The claims of an access token.
    Access(Box<Claims>),
    /// What a refresh token stands for.
    Refresh(Box<ActiveRefreshToken>),
}

/// What a refresh token stands for.
pub struct ActiveRefreshToken {
    /// Who made it.
    pub issuer: String,
    /// Its session.
    pub session_id: SessionId,
    /// From when on it is refused if the session is not refreshed before.
    pub expires_at: Timestamp,
    /// The scope that a refresh gives.
    pub scope: Option<String>,
    /// The record of the session.
    pub session: Session,
}

impl Service {
    /// A token that counts, as far as `viewer` may know; none for any other text. Reads the store, not the cache.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn introspect(&self, token: &str, viewer: &Viewer) -> Result<Option<ActiveToken>, ServiceError> {
        let active = match PresentedToken::parse(token) {
            Some(presented) => self.check_refresh_token(&presented, viewer).await?.map(ActiveToken::Refresh),
            None => self.check_access_token(token, viewer).await?.map(ActiveToken::Access),
        };
        counter!(INTROSPECTIONS, "active" => if active.is_some() { "true" } else { "false" }).increment(1);
        Ok(active)
    }

    async fn check_access_token(&self, token: &str, viewer: &Viewer) -> Result<Option<Box<Claims>>, ServiceError> {
        let now = shell::now();
        let expected = Expected { issuer: &self.issuer, audience: &self.audience };
        let Some(token) = self.verified.check(token, &self.keys.current(), expected) else { return Ok(None) };
        let claims = token.claims();
        if token.check_time(now, self.skew_max).is_err() || !viewer.sees(&claims.client_id) {
            return Ok(None);
        }
        // All at once: a session is of the subject and tenant that its tokens name.
        let keys: Vec<_> =
            std::iter::once(Key::Session(claims.sid)).chain(wider(&claims.sub, claims.tid.as_ref())).collect();
        let mut stored = self.store.load_many(&keys).await?.into_iter();
        let Some(session) = stored.next().flatten() else { return Ok(None) };
        let session = Session::decode(&session).map_err(ServiceError::Record)?;
        if (&session.subject, &session.tenant) != (&claims.sub, &claims.tid) {
            return Ok(None);
        }
        let Some(around) = self.stored_around(&claims.sid, &session, stored)? else { return Ok(None) };
        let counts = session.live(around.as_surroundings(), now).is_ok_and(|live| live.versions() == claims.ver)
            && self.feed.with_floors(|floors| token.revoked_by(floors)).is_none();
        Ok(counts.then(|| Box::new(claims.clone())))
    }

    /// The newest token of a session counts; the one before it is good for a repeated request only.
    async fn check_refresh_token(
        &self,
        presented: &PresentedToken,
        viewer: &Viewer,
    ) -> Result<Option<Box<ActiveRefreshToken>>, ServiceError> {
        let now = shell::now();
        let id = *presented.session();
        let Some(stored) = self.store.load(&Key::Session(id)).await? else { return Ok(None) };
        let session = Session::decode(&stored).map_err(ServiceError::Record)?;
        let generation = self.peppers.generation(presented, &session.seed);
        if generation.is_none_or(|generation| generation < session.generation) || !viewer.sees(&session.client_id) {
            return Ok(None);
        }
        let keys: Vec<_> = wider(&session.subject, session.tenant.as_ref()).collect();
        let stored = self.store.load_many(&keys).await?;
        let Some(around) = self.stored_around(&id, &session, stored)? else { return Ok(None) };
        let Ok(live) = session.live(around.as_surroundings(), now) else { return Ok(None) };
        let expires_at = live.ends_at();
        Ok(Some(Box::new(ActiveRefreshToken {
            issuer: self.issuer.clone(),
            session_id: id,
            expires_at,
            scope: self.scope_of(&session, None),
            session,
        })))
    }

    /// What surrounds a session, of the records that are kept under the keys of [`wider`].
    fn stored_around(
        &self,
        id: &SessionId,
        session: &Session,
        stored: impl IntoIterator<Item = Option<Vec<u8>>>,
    ) -> Result<Option<Around>, ServiceError> {
        let mut stored = stored.into_iter();
        let Some(subject) = stored.next().flatten() else { return Ok(None) };
        let subject = Subject::decode(&subject).map_err(ServiceError::Record)?;
        let everyone = everyone_or_first(stored.next().flatten().as_deref())?;
        let tenant = stored.next().flatten().map(|bytes| Versions::decode(&bytes)).transpose();
        let tenant = session.tenant.as_ref().zip(tenant.map_err(ServiceError::Record)?);
        Ok(Some(self.around_with(id, &session.subject, Wider { subject: subject.into(), tenant, everyone })))
    }
}

/// Where the records are that a session depends on besides its own.
fn wider(subject: &SubjectId, tenant: Option<&TenantId>) -> impl Iterator<Item = Key> {
    [Key::Subject(subject.clone()), Key::Everyone].into_iter().chain(tenant.cloned().map(Key::Tenant))
}
