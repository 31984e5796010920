//! Shows and ends sessions.

use metrics::counter;
use shared::{
    codec::Record as _,
    id::{SessionId, SubjectId},
    revocation::{FloorKey, ScopeKind, Version},
    session::{EndReason, NotLive, Session},
    time::Timestamp,
};

use super::{
    Changed, RECORD_MARGIN, Service, ServiceError,
    write::{Change, Target},
};
use crate::{shell, store::Key, telemetry::metrics::REVOCATIONS};

/// The most sessions of a subject that are listed.
const LISTED_MAX: usize = 1_000;

/// A session as it is now.
pub struct SessionState {
    /// Which.
    pub id: SessionId,
    /// Its record.
    pub session: Session,
    /// Why it is over; none while it is open.
    pub over: Option<&'static str>,
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

    /// The open sessions of a subject, at most 1000.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn sessions_of(&self, subject: SubjectId) -> Result<Vec<SessionState>, ServiceError> {
        let now = shell::now();
        let ids = self.store.index_list(&subject, LISTED_MAX).await?;
        let keys: Vec<Key> = ids.iter().copied().map(Key::Session).collect();
        let mut open = Vec::new();
        for (id, stored) in ids.into_iter().zip(self.store.load_many(&keys).await?) {
            let Some(stored) = stored else { continue };
            let state = self.state(id, &stored, now).await?;
            if state.over.is_none() {
                open.push(state);
            }
        }
        Ok(open)
    }

    /// Ends a session; fine if it is ended already, whose reason stays.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], an unknown reason, or the store.
    pub async fn revoke_session(&self, id: SessionId, reason: Option<String>) -> Result<Changed, ServiceError> {
        let reason = parse_reason(reason.as_deref())?;
        let now = shell::now();
        let target = Target { key: Key::Session(id), scope: ScopeKind::Session, floor_key: FloorKey::session(&id) };
        let rule = |session: Option<Session>, _| {
            let record = session.ok_or(ServiceError::NotFound)?.ended(reason, now);
            Ok(Change { raise: record.as_ref().map(|_| Version::ENDED), record, stands: Version::ENDED })
        };
        let kept_until = |session: &Session| Some(session.expires_at.saturating_add(RECORD_MARGIN));
        let (changed, session) = self.change(&target, now, rule, kept_until).await?;
        if let Some(session) = session {
            self.store.index_remove(&session.subject, &id).await?;
        }
        counter!(REVOCATIONS, "scope" => ScopeKind::Session.name()).increment(1);
        tracing::info!(event = "session_ended", session = %id, reason = ?reason);
        Ok(changed)
    }

    async fn state(&self, id: SessionId, stored: &[u8], now: Timestamp) -> Result<SessionState, ServiceError> {
        let session = Session::decode(stored).map_err(ServiceError::Record)?;
        let over = match self.around(&id, &session, now).await? {
            Some(around) => session.live(around.as_surroundings(), now).err().map(name),
            None => Some("subject_unknown"),
        };
        Ok(SessionState { id, session, over })
    }
}

fn parse_reason(text: Option<&str>) -> Result<EndReason, ServiceError> {
    match text {
        None | Some("revoked") => Ok(EndReason::Revoked),
        Some("signed_out") => Ok(EndReason::SignedOut),
        Some("replaced") => Ok(EndReason::Replaced),
        Some(_) => Err(ServiceError::Invalid("reason must be signed_out, revoked or replaced")),
    }
}

fn name(reason: NotLive) -> &'static str {
    match reason {
        NotLive::Ended(EndReason::SignedOut) => "signed_out",
        NotLive::Ended(EndReason::Revoked) | NotLive::UnderFloor => "revoked",
        NotLive::Ended(EndReason::TokenReuse) => "token_reuse",
        NotLive::Ended(EndReason::Replaced) => "replaced",
        NotLive::Idle => "idle",
        NotLive::Expired => "expired",
        NotLive::EndedForAll => "all_sessions_ended",
        NotLive::SubjectDisabled => "subject_disabled",
    }
}
