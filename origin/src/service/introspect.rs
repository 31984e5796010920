//! Tells whether an access token counts, by the records and floors as they are now (RFC 7662).

use metrics::counter;
use shared::{
    codec::Record as _,
    session::Session,
    subject::{Subject, Versions},
    token::{AccessToken, Claims, Expected},
};

use super::{Service, ServiceError};
use crate::{keys::Verifier, shell, store::Key, telemetry::metrics::INTROSPECTIONS};

impl Service {
    /// The claims of a token that counts; none for any other text. Reads the store, not the cache.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn introspect(&self, token: &str) -> Result<Option<Claims>, ServiceError> {
        let claims = self.check(token).await?;
        let active = if claims.is_some() { "true" } else { "false" };
        counter!(INTROSPECTIONS, "active" => active).increment(1);
        Ok(claims)
    }

    async fn check(&self, token: &str) -> Result<Option<Claims>, ServiceError> {
        let now = shell::now();
        let expected = Expected { issuer: &self.issuer, audience: &self.audience };
        let Ok(token) = AccessToken::verify(token, &self.token_keys, &Verifier, expected) else { return Ok(None) };
        if token.check_time(now, self.skew_max).is_err() {
            return Ok(None);
        }
        let claims = token.claims();
        let mut keys = vec![Key::Session(claims.sid), Key::Subject(claims.sub.clone())];
        keys.extend(claims.tid.clone().map(Key::Tenant));
        let mut stored = self.store.load_many(&keys).await?.into_iter();
        let (Some(session), Some(subject)) = (stored.next().flatten(), stored.next().flatten()) else {
            return Ok(None);
        };
        let session = Session::decode(&session).map_err(ServiceError::Record)?;
        let subject = Subject::decode(&subject).map_err(ServiceError::Record)?;
        let tenant = stored.next().flatten().map(|bytes| Versions::decode(&bytes)).transpose();
        let tenant = tenant.map_err(ServiceError::Record)?;
        let around = self.around_with(Some(&claims.sid), &claims.sub, subject.into(), claims.tid.as_ref().zip(tenant));
        let counts = match session.live(around.as_surroundings(), now) {
            Ok(live) => {
                live.versions() == claims.ver && self.feed.with_floors(|floors| token.revoked_by(floors)).is_none()
            }
            Err(_) => false,
        };
        Ok(counts.then(|| claims.clone()))
    }
}
