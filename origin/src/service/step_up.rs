//! A new authentication on top of a session: another session takes its place.
//!
//! Order of writes: the new record (nobody has its tokens yet) → the floor of the old session → the old record → the
//! answer. A crash leaves the old session alive and the new one known to nobody, or both dead; never two alive.

use shared::{
    id::SessionId,
    refresh::{ClientContext, Seed},
    revocation::Version,
    session::{Device, EndReason, Initiator, NotLive, StepUp, Surroundings, Tier},
    time::Timestamp,
};

use super::{
    Service, ServiceError, events,
    open::{Opened, check_texts},
};
use crate::shell;

/// What a login service says of someone who authenticated again.
#[derive(Debug, Clone)]
pub struct StepUpSession {
    /// The tier of the new session; that of the old one if left out.
    pub tier: Option<Tier>,
    /// The scope of the new session; that of the old one if left out.
    pub scope: Option<String>,
    /// Authentication context class that was reached.
    pub acr: Option<String>,
    /// Authentication methods that were used.
    pub amr: Vec<String>,
    /// When, if not just now.
    pub auth_time: Option<Timestamp>,
    /// The device; that of the old session if left out.
    pub device: Option<Device>,
}

impl Service {
    /// Opens the session that takes the place of `old`, which ends.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], [`ServiceError::Over`] if the old session is over or was stepped up by someone else,
    /// a value that is not allowed, or the store: then the old session lives on, or both are dead.
    pub async fn step_up(&self, old: SessionId, request: StepUpSession) -> Result<Opened, ServiceError> {
        check_texts(request.scope.as_deref(), request.acr.as_deref(), &request.amr)?;
        let now = shell::now();
        let (session, around) = self.live_session(&old, now).await?;
        self.check_client(&session.client_id, request.scope.as_deref())?;
        let live = session.live(around.as_surroundings(), now).map_err(ServiceError::Over)?;
        let id = SessionId::from_random(shell::random()?);
        let step_up = StepUp {
            seed: Seed(shell::random()?),
            context: ClientContext::new(&session.client_id, None),
            tier: request.tier,
            auth_time: request.auth_time,
            acr: request.acr,
            amr: request.amr,
            scope: request.scope,
            device: request.device,
        };
        let new = live.step_up(step_up, now)?;
        let around = Surroundings { id: &id, session_floor: Version::NONE, ..around.as_surroundings() };
        let live = new.live(around, now).map_err(ServiceError::Over)?;
        let tokens = self.tokens(&live, &id, new.generation, None, now)?;

        self.write_new(&id, &new).await?;
        let ended = self.end(&old, EndReason::Replaced, Initiator::System, now).await;
        if !matches!(&ended, Ok((changed, _)) if changed.written) {
            // Someone else ended the old session first, or the store failed: nobody gets the tokens of this one.
            self.abandon(&id, now).await;
            ended.map_err(ServiceError::after_a_write)?;
            return Err(ServiceError::Over(NotLive::Ended(EndReason::Replaced)));
        }
        self.unlist(&old, &new.subject).await;
        self.replace_on_roster(&old, &id, &new, now).await?;
        events::created(&self.tags.of(&id), &new, Some(&self.tags.of(&old)));
        Ok(Opened { session_id: id, expires_at: new.expires_at, tokens })
    }
}
