//! Changes of a live session: another scope, other volatile fields.

use metrics::counter;
use shared::{
    id::SessionId,
    revocation::{ScopeKind, Version},
    session::{Fields, Session, Surroundings},
};

use super::{
    Changed, Service, ServiceError, events,
    open::check_texts,
    sessions::{kept_until, session_target},
    write::Change,
};
use crate::{shell, telemetry::metrics::REVOCATIONS};

/// The volatile fields of a session, as they are now.
pub struct FieldsState {
    /// Names and values.
    pub fields: Fields,
    /// Counts their writes.
    pub revision: u32,
}

impl Service {
    /// Gives a session another scope: its tokens fall under a floor, and the next refresh brings ones with the new scope.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], [`ServiceError::Over`], a malformed scope, or the store.
    pub async fn set_scope(&self, id: SessionId, scope: Option<String>) -> Result<Changed, ServiceError> {
        check_texts(scope.as_deref(), None, &[])?;
        let now = shell::now();
        let (session, around) = self.live_session(&id, now).await?;
        self.check_client(&session.client_id, scope.as_deref())?;
        let rule = |session: Option<Session>, floor: Version| {
            let session = session.ok_or(ServiceError::NotFound)?;
            let around = Surroundings { session_floor: floor, ..around.as_surroundings() };
            let live = session.live(around, now).map_err(ServiceError::Over)?;
            let [stands, ..] = live.versions();
            let record = live.with_scope(scope.clone());
            Ok(Change { raise: record.as_ref().map(|session| session.version), record, stands })
        };
        let (changed, session) = self.change(&session_target(&id), now, rule, kept_until).await?;
        if let Some(session) = session.filter(|_| changed.written) {
            counter!(REVOCATIONS, "scope" => ScopeKind::Session.name()).increment(1);
            events::scope_changed(&self.tags.of(&id), &session);
        }
        Ok(changed)
    }

    /// The volatile fields of a session.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], [`ServiceError::Over`], or the store.
    pub async fn fields(&self, id: SessionId) -> Result<FieldsState, ServiceError> {
        let now = shell::now();
        let (session, _) = self.live_session(&id, now).await?;
        Ok(FieldsState { fields: session.fields, revision: session.fields_revision })
    }

    /// Replaces the volatile fields of a session, if they still have the revision `expected`.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`], [`ServiceError::Over`], [`ServiceError::Fields`] for another revision, or the store.
    pub async fn set_fields(&self, id: SessionId, fields: Fields, expected: u32) -> Result<FieldsState, ServiceError> {
        let now = shell::now();
        let (_, around) = self.live_session(&id, now).await?;
        let rule = |session: Option<Session>, floor: Version| {
            let session = session.ok_or(ServiceError::NotFound)?;
            let around = Surroundings { session_floor: floor, ..around.as_surroundings() };
            let live = session.live(around, now).map_err(ServiceError::Over)?;
            let record = live.with_fields(&fields, expected)?;
            Ok(Change { record, raise: None, stands: floor })
        };
        let (_, session) = self.change(&session_target(&id), now, rule, kept_until).await?;
        let session = session.ok_or(ServiceError::NotFound)?;
        Ok(FieldsState { fields: session.fields, revision: session.fields_revision })
    }
}
