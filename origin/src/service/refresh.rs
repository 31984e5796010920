//! Rotates refresh tokens.

use metrics::counter;
use shared::{
    codec::Record as _,
    id::{ClientId, SessionId},
    refresh::{ClientContext, PresentedToken},
    revocation::{FloorKey, Version},
    session::{EndReason, Initiator, Live, NotLive, RefreshError, Refreshed, ReuseClass, Session},
    time::Timestamp,
};

use super::{ATTEMPTS, Service, ServiceError, Tokens, events, sessions::kept_until, write::encode};
use crate::{
    failpoints, shell,
    store::{Key, Swapped, Written},
    telemetry::metrics::{COMMIT_CONFLICTS, REFRESHES, REUSES, SESSIONS_ENDED},
};

/// A refresh as it was asked for.
pub struct RefreshRequest {
    /// The refresh token, unchecked.
    pub token: String,
    /// The client that says it holds it.
    pub client: ClientId,
    /// A scope within the granted one.
    pub scope: Option<String>,
    /// What the client says it is; tells a retry from a thief.
    pub user_agent: Option<String>,
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
        let context = ClientContext::new(&request.client, request.user_agent.as_deref());
        let mut under_floor = EndReason::Revoked;
        for _ in 0..ATTEMPTS {
            let stored = self.store.load(&Key::Session(id)).await?.ok_or(ServiceError::InvalidGrant)?;
            let session = Session::decode(&stored).map_err(ServiceError::Record)?;
            let generation = self.peppers.generation(&presented, &session.seed).ok_or(ServiceError::InvalidGrant)?;
            let scope = narrowed(&session, request.scope.as_deref())?;
            let around = self.around(&id, &session, now).await?.ok_or(ServiceError::InvalidGrant)?;
            let around = around.as_surroundings();
            let live = match session.live(around, now) {
                Ok(live) => live,
                Err(why) => return self.refuse_over(&id, &session, (why, under_floor), now).await,
            };
            let swapped = match live.refresh(generation, &request.client, context, now) {
                Ok(Refreshed::Repeated(generation)) => {
                    self.store.confirm(Written::Record(&Key::Session(id))).await?;
                    return Ok((self.tokens(&live, &id, generation, scope, now)?, "repeated"));
                }
                Ok(Refreshed::Rotated { session: next, healed }) => {
                    let outcome = if healed { "healed" } else { "rotated" };
                    let live = next.live(around, now).map_err(|_| ServiceError::InvalidGrant)?;
                    self.write_rotated(&id, &stored, &live, scope, now).await?.map(|tokens| (tokens, outcome))
                }
                Err(RefreshError::WrongClient | RefreshError::Exhausted) => return Err(ServiceError::InvalidGrant),
                Err(RefreshError::Reuse { session: ended, class }) => {
                    under_floor = EndReason::TokenReuse;
                    if self.write_reused(&id, &stored, &ended, class, now).await? == Swapped::Done {
                        return Err(ServiceError::InvalidGrant);
                    }
                    None
                }
            };
            if let Some((tokens, outcome)) = swapped {
                events::renewed(&self.tags.of(&id), &session, outcome);
                return Ok((tokens, outcome));
            }
            counter!(COMMIT_CONFLICTS).increment(1);
        }
        Err(ServiceError::Contended)
    }

    /// The tokens of a session that was just rotated, once its record is written; none if another writer came first.
    async fn write_rotated(
        &self,
        id: &SessionId,
        stored: &[u8],
        live: &Live<'_>,
        scope: Option<String>,
        now: Timestamp,
    ) -> Result<Option<Tokens>, ServiceError> {
        let session = live.session();
        let tokens = self.tokens(live, id, session.generation, scope, now)?;
        let bytes = encode(session)?;
        failpoints::reached(failpoints::BEFORE_ROTATION);
        let swapped = self.store.swap(&Key::Session(*id), Some(stored), &bytes, kept_until(session)).await?;
        if swapped == Swapped::Done {
            failpoints::reached(failpoints::AFTER_ROTATION);
        }
        Ok((swapped == Swapped::Done).then_some(tokens))
    }

    /// Ends a session whose old token was used: its floor first, then its record.
    async fn write_reused(
        &self,
        id: &SessionId,
        stored: &[u8],
        ended: &Session,
        class: ReuseClass,
        now: Timestamp,
    ) -> Result<Swapped, ServiceError> {
        self.raise(&[self.floor(FloorKey::session(id), Version::ENDED, now)]).await?;
        // Said once it is certain; another writer that comes first changes nothing about it.
        counter!(REFRESHES, "outcome" => "reused").increment(1);
        counter!(REUSES, "class" => class.name()).increment(1);
        let tag = self.tags.of(id);
        events::reused(&tag, ended, class);
        let swapped = self.store.swap(&Key::Session(*id), Some(stored), &encode(ended)?, kept_until(ended)).await?;
        if swapped == Swapped::Done {
            counter!(SESSIONS_ENDED, "reason" => EndReason::TokenReuse.name()).increment(1);
            events::ended(&tag, ended, EndReason::TokenReuse, Initiator::System);
            self.unlist(id, &ended.subject).await;
        }
        Ok(swapped)
    }

    /// Refuses the token of a session that is over.
    async fn refuse_over<T>(
        &self,
        id: &SessionId,
        session: &Session,
        (why, under_floor): (NotLive, EndReason),
        now: Timestamp,
    ) -> Result<T, ServiceError> {
        self.write_over(id, session, (why, under_floor), now).await?;
        events::used_after_end(&self.tags.of(id), session, why);
        Err(ServiceError::InvalidGrant)
    }
}

/// The scope of the new token: the one asked for, if all of it was granted (RFC 6749 §6).
fn narrowed(session: &Session, asked: Option<&str>) -> Result<Option<String>, ServiceError> {
    let Some(asked) = asked else { return Ok(None) };
    let granted = session.scope.as_deref().unwrap_or_default();
    let within = asked.split(' ').all(|token| granted.split(' ').any(|granted| granted == token && !token.is_empty()));
    if within { Ok(Some(asked.to_owned())) } else { Err(ServiceError::InvalidScope) }
}
