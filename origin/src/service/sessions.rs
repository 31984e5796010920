//! Shows and ends sessions.

use metrics::counter;
use shared::{
    codec::Record as _,
    id::{SessionId, SubjectId},
    revocation::{FloorKey, ScopeKind, Version},
    session::{EndReason, Initiator, NotLive, Session},
    time::Timestamp,
};

use super::{
    Changed, RECORD_MARGIN, Service, ServiceError, events,
    surroundings::Around,
    write::{Change, Target},
};
use crate::{
    shell,
    store::{Indexed, Key},
    telemetry::metrics::{REAUTHENTICATIONS_FORCED, REVOCATIONS, SESSIONS_ENDED},
};

/// A session as it is now.
pub struct SessionState {
    /// Which.
    pub id: SessionId,
    /// Its record.
    pub session: Session,
    /// Why it is over; none while it is open.
    pub over: Option<&'static str>,
}

/// Some of the open sessions of a subject.
pub struct SessionPage {
    /// The sessions, those that expire last first.
    pub sessions: Vec<SessionState>,
    /// After which the next page starts; none if this is the last.
    pub next: Option<Indexed>,
}

impl Service {
    /// A session by its id.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] if it never was, or was forgotten; the store.
    pub async fn session(&self, id: SessionId) -> Result<SessionState, ServiceError> {
        let stored = self.store.load(&Key::Session(id)).await?.ok_or(ServiceError::NotFound)?;
        self.state(id, &stored, shell::now()).await
    }

    /// The open sessions of a subject after one that was seen, at most `max`. A page may be short, or empty, before the
    /// last: sessions that a wider floor ended are still in the index.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn sessions_of(
        &self,
        subject: &SubjectId,
        after: Option<Indexed>,
        max: usize,
    ) -> Result<SessionPage, ServiceError> {
        let now = shell::now();
        let listed = self.store.index_list(subject, after, max).await?;
        let next = listed.last().filter(|_| listed.len() >= max).copied();
        let open = self.open_among(listed.iter().map(|entry| entry.session).collect(), now).await?;
        let sessions = open.into_iter().map(|(id, session)| SessionState { id, session, over: None }).collect();
        Ok(SessionPage { sessions, next })
    }

    /// Ends a session; fine if it is ended already, whose reason stays.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], or the store.
    pub async fn revoke_session(
        &self,
        id: SessionId,
        reason: EndReason,
        by: Initiator,
    ) -> Result<Changed, ServiceError> {
        let (changed, session) = self.end(&id, reason, by, shell::now()).await?;
        self.store.index_remove(&session.subject, &id).await?;
        counter!(REVOCATIONS, "scope" => ScopeKind::Session.name()).increment(1);
        Ok(changed)
    }

    /// Ends a session by its floor, then its record; whether this call did it is `written`.
    pub(super) async fn end(
        &self,
        id: &SessionId,
        reason: EndReason,
        by: Initiator,
        now: Timestamp,
    ) -> Result<(Changed, Session), ServiceError> {
        let rule = |session: Option<Session>, _| {
            let record = session.ok_or(ServiceError::NotFound)?.ended(reason, by, now);
            Ok(Change { raise: record.as_ref().map(|_| Version::ENDED), record, stands: Version::ENDED })
        };
        let (changed, session) = self.change(&session_target(id), now, rule, kept_until).await?;
        let session = session.ok_or(ServiceError::NotFound)?;
        if changed.written {
            counter!(SESSIONS_ENDED, "reason" => reason.name()).increment(1);
            events::ended(&self.tags.of(id), &session, reason, by);
        }
        Ok((changed, session))
    }

    /// Writes into the record of a session what only a floor or the policy says of it, so that neither another origin, nor a
    /// floor that is forgotten, nor a policy that is loosened revives what was refused once.
    pub(super) async fn write_over(
        &self,
        id: &SessionId,
        session: &Session,
        (why, under_floor): (NotLive, EndReason),
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        match why {
            NotLive::UnderFloor => {
                self.end(id, under_floor, Initiator::System, now).await?;
                self.unlist(id, &session.subject).await;
            }
            NotLive::Policy(limit) => {
                let (changed, _) = self.end(id, EndReason::Policy, Initiator::Policy, now).await?;
                self.unlist(id, &session.subject).await;
                if changed.written {
                    let (tier, limit) = (session.tier.name(), limit.name());
                    counter!(REAUTHENTICATIONS_FORCED, "tier" => tier, "limit" => limit).increment(1);
                }
            }
            NotLive::Ended(_) | NotLive::Idle | NotLive::Expired | NotLive::EndedForAll | NotLive::SubjectDisabled => {}
        }
        Ok(())
    }

    /// Takes a session that is over off the list of its subject. If that fails, the entry stays until the session would have
    /// expired; whoever lists passes over it.
    pub(super) async fn unlist(&self, id: &SessionId, subject: &SubjectId) {
        if let Err(error) = self.store.index_remove(subject, id).await {
            tracing::info!(event = "session_not_unlisted", session = %self.tags.of(id), reason = %error);
        }
    }

    /// Ends a session whose opening failed, so that nobody has its tokens, if the store lets it; else it runs out.
    pub(super) async fn abandon(&self, id: &SessionId, now: Timestamp) {
        match self.end(id, EndReason::Revoked, Initiator::System, now).await {
            Ok((_, session)) => self.unlist(id, &session.subject).await,
            Err(ServiceError::NotFound) => {}
            Err(error) => {
                tracing::info!(event = "session_abandoned", session = %self.tags.of(id), reason = %error);
            }
        }
    }

    /// A session that is alive, and what it depends on, as the store has it now.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], [`ServiceError::Over`], the store.
    pub(super) async fn live_session(&self, id: &SessionId, now: Timestamp) -> Result<(Session, Around), ServiceError> {
        let stored = self.store.load(&Key::Session(*id)).await?.ok_or(ServiceError::NotFound)?;
        let session = Session::decode(&stored).map_err(ServiceError::Record)?;
        self.read_wider(&session.subject, session.tenant.as_ref()).await?;
        let around = self.around(id, &session, now).await?.ok_or(ServiceError::NotFound)?;
        if let Err(why) = session.live(around.as_surroundings(), now) {
            self.write_over(id, &session, (why, EndReason::Revoked), now).await?;
            return Err(ServiceError::Over(why));
        }
        Ok((session, around))
    }

    /// Those of the given sessions that are open.
    pub(super) async fn open_among(
        &self,
        ids: Vec<SessionId>,
        now: Timestamp,
    ) -> Result<Vec<(SessionId, Session)>, ServiceError> {
        let keys: Vec<Key> = ids.iter().copied().map(Key::Session).collect();
        let mut open = Vec::new();
        for (id, stored) in ids.into_iter().zip(self.store.load_many(&keys).await?) {
            let Some(stored) = stored else { continue };
            let state = self.state(id, &stored, now).await?;
            if state.over.is_none() {
                open.push((id, state.session));
            }
        }
        Ok(open)
    }

    async fn state(&self, id: SessionId, stored: &[u8], now: Timestamp) -> Result<SessionState, ServiceError> {
        let session = Session::decode(stored).map_err(ServiceError::Record)?;
        let over = match self.around(&id, &session, now).await? {
            Some(around) => session.live(around.as_surroundings(), now).err(),
            None => return Ok(SessionState { id, session, over: Some("subject_unknown") }),
        };
        if let Some(NotLive::UnderFloor) = over {
            self.write_over(&id, &session, (NotLive::UnderFloor, EndReason::Revoked), now).await?;
        }
        let over = over.map(NotLive::name);
        Ok(SessionState { id, session, over })
    }
}

pub(super) fn session_target(id: &SessionId) -> Target {
    Target { key: Key::Session(*id), scope: ScopeKind::Session, floor_key: FloorKey::session(id) }
}

/// A record is kept a little longer than its session, so that its end can still be told.
pub(super) fn kept_until(session: &Session) -> Option<Timestamp> {
    Some(session.expires_at.saturating_add(RECORD_MARGIN))
}
