//! Rotates refresh tokens.

use metrics::counter;
use shared::{
    codec::Record as _,
    id::{ClientId, SessionId},
    refresh::{ClientContext, PresentedToken},
    revocation::{FloorKey, Version},
    session::{EndReason, NotLive, RefreshError, Refreshed, ReuseClass, Session},
    time::Timestamp,
};

use super::{ATTEMPTS, RECORD_MARGIN, Service, ServiceError, Tokens, write::encode};
use crate::{
    shell,
    store::{Key, Swapped},
    telemetry::metrics::{COMMIT_CONFLICTS, REFRESHES},
};

/// A refresh as it was asked for.
pub struct RefreshRequest {
    /// The refresh token, unchecked.
    pub token: String,
    /// The client that says it holds it.
    pub client: ClientId,
    /// A scope within the granted one.
    pub scope: Option<String>,
}

impl Service {
    /// Answers with the next tokens of the session: two calls to the store while subject and tenant are cached.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvalidGrant`] for every cause that lies in the token or session. After a failure of the store
    /// the same token may be sent again.
    pub async fn refresh(&self, request: RefreshRequest) -> Result<Tokens, ServiceError> {
        let outcome = self.try_refresh(&request).await;
        let label = match &outcome {
            Ok((_, label)) => label,
            Err(ServiceError::InvalidGrant | ServiceError::InvalidScope) => "refused",
            Err(_) => return outcome.map(|(tokens, _)| tokens),
        };
        counter!(REFRESHES, "outcome" => label).increment(1);
        outcome.map(|(tokens, _)| tokens)
    }

    async fn try_refresh(&self, request: &RefreshRequest) -> Result<(Tokens, &'static str), ServiceError> {
        let now = shell::now();
        let presented = PresentedToken::parse(&request.token).ok_or(ServiceError::InvalidGrant)?;
        let id = *presented.session();
        let key = Key::Session(id);
        let mut reason = EndReason::Revoked;
        for _ in 0..ATTEMPTS {
            let stored = self.store.load(&key).await?.ok_or(ServiceError::InvalidGrant)?;
            let session = Session::decode(&stored).map_err(ServiceError::Record)?;
            let generation = presented.generation(&self.pepper, &session.seed).ok_or(ServiceError::InvalidGrant)?;
            let scope = narrowed(&session, request.scope.as_deref())?;
            let around = self.around(&id, &session, now).await?.ok_or(ServiceError::InvalidGrant)?;
            let around = around.as_surroundings();
            let live = match session.live(around, now) {
                Ok(live) => live,
                Err(NotLive::UnderFloor) => {
                    self.write_end(&id, &session, &stored, reason, now).await?;
                    return Err(ServiceError::InvalidGrant);
                }
                Err(_) => return Err(ServiceError::InvalidGrant),
            };
            let context = ClientContext::new(&request.client, None);
            match live.refresh(generation, &request.client, context, &self.lifetimes, now) {
                Ok(Refreshed::Repeated(generation)) => {
                    return Ok((self.tokens(&live, &id, generation, scope, now)?, "repeated"));
                }
                Ok(Refreshed::Rotated { session: next, healed }) => {
                    let live = next.live(around, now).map_err(|_| ServiceError::InvalidGrant)?;
                    let tokens = self.tokens(&live, &id, next.generation, scope, now)?;
                    let kept_until = next.expires_at.saturating_add(RECORD_MARGIN);
                    if self.store.swap(&key, Some(&stored), &encode(&*next)?, Some(kept_until)).await? == Swapped::Done
                    {
                        return Ok((tokens, if healed { "healed" } else { "rotated" }));
                    }
                    counter!(COMMIT_CONFLICTS).increment(1);
                }
                Err(RefreshError::WrongClient | RefreshError::Exhausted) => return Err(ServiceError::InvalidGrant),
                Err(RefreshError::Reuse { session: ended, class }) => {
                    let floor = self.floor(FloorKey::session(&id), Version::ENDED, now);
                    self.raise(&[floor]).await?;
                    // Said once it is certain; another writer that comes first changes nothing about it.
                    reason = EndReason::TokenReuse;
                    counter!(REFRESHES, "outcome" => "reused").increment(1);
                    tracing::warn!(event = "refresh_token_reuse", session = %id, class = class_name(class));
                    let kept_until = ended.expires_at.saturating_add(RECORD_MARGIN);
                    if self.store.swap(&key, Some(&stored), &encode(&*ended)?, Some(kept_until)).await? == Swapped::Done
                    {
                        return Err(ServiceError::InvalidGrant);
                    }
                    counter!(COMMIT_CONFLICTS).increment(1);
                }
            }
        }
        Err(ServiceError::Contended)
    }

    /// Writes into the record what its floor says already.
    async fn write_end(
        &self,
        id: &SessionId,
        session: &Session,
        stored: &[u8],
        reason: EndReason,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let Some(ended) = session.ended(reason, now) else { return Ok(()) };
        let kept_until = ended.expires_at.saturating_add(RECORD_MARGIN);
        // A conflict is another writer; whatever it wrote stands under the same floor.
        self.store.swap(&Key::Session(*id), Some(stored), &encode(&ended)?, Some(kept_until)).await?;
        Ok(())
    }
}

/// The scope of the new token: the one asked for, if all of it was granted (RFC 6749 §6).
fn narrowed(session: &Session, asked: Option<&str>) -> Result<Option<String>, ServiceError> {
    let Some(asked) = asked else { return Ok(None) };
    let granted = session.scope.as_deref().unwrap_or_default();
    let within = asked.split(' ').all(|token| granted.split(' ').any(|granted| granted == token && !token.is_empty()));
    if within { Ok(Some(asked.to_owned())) } else { Err(ServiceError::InvalidScope) }
}

fn class_name(class: ReuseClass) -> &'static str {
    match class {
        ReuseClass::LateRetry => "late_retry",
        ReuseClass::Ancestor => "ancestor",
        ReuseClass::OtherClient => "other_client",
    }
}
