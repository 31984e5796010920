//! Changes subjects and tenants.

use std::sync::Arc;

use metrics::counter;
use shared::{
    id::{Role, SessionId, SubjectId, TenantId},
    revocation::{FloorKey, ScopeKind, Version},
    subject::{Subject, SubjectError, Versions},
};

use super::{
    Changed, Service, ServiceError, events,
    surroundings::{subject_target, tenant_target},
    write::Change,
};
use crate::{shell, telemetry::metrics::REVOCATIONS};

/// What is done to a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Ends all its sessions.
    RevokeSessions,
    /// Ends all its sessions but this one, whose tokens have to be renewed.
    RevokeOthers(SessionId),
    /// Ends all its sessions, and lets it open none.
    Disable,
    /// Lets it open sessions again.
    Enable,
    /// Replaces its roles.
    SetRoles(Vec<Role>),
}

impl Command {
    /// `kept` is the version of the subject that the session to keep was opened under.
    fn apply(&self, subject: &Subject, kept: Version, floor: Version) -> Result<Option<Subject>, ServiceError> {
        Ok(match self {
            Self::RevokeSessions => Some(subject.with_sessions_ended(floor)),
            Self::RevokeOthers(id) => Some(subject.with_others_ended(*id, kept, floor)?),
            Self::Disable => subject.disabled(floor),
            Self::Enable => subject.enabled(floor),
            Self::SetRoles(roles) => subject.with_roles(roles.clone(), floor)?,
        })
    }
}

impl Service {
    /// A subject's record.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`]; the store.
    pub async fn subject(&self, id: SubjectId) -> Result<Arc<Subject>, ServiceError> {
        self.subjects.invalidate(&id);
        self.subject_record(&id, shell::now()).await?.ok_or(ServiceError::NotFound)
    }

    /// Changes a subject.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotFound`] if it never had a session, too many roles, a session to keep that is over, or the store.
    pub async fn change_subject(&self, id: SubjectId, command: Command) -> Result<Changed, ServiceError> {
        let kept = match &command {
            Command::RevokeOthers(session) => self.version_of_kept(&id, session).await?,
            _ => Version::NONE,
        };
        let now = shell::now();
        let record_first = matches!(command, Command::RevokeOthers(_));
        let rule = |subject: Option<Subject>, floor| {
            let subject = subject.ok_or(ServiceError::NotFound)?;
            let changed = command.apply(&subject, kept, floor)?;
            let version = changed.as_ref().map(|changed| changed.versions.version);
            let raise = version.filter(|version| *version > subject.versions.version && !record_first);
            let stands = version.unwrap_or_else(|| subject.versions.current(floor));
            Ok(Change { record: changed, raise, stands })
        };
        self.feed.check_room(1)?;
        let (mut changed, subject) = self.change(&subject_target(&id), now, rule, |_| None).await?;
        if let Some(subject) = subject {
            if record_first {
                // A floor alone would end the session that is to be kept: only the record says which one that is.
                let floor = self.floor(FloorKey::subject(&id), subject.versions.version, now);
                changed.cursor = self.raise(&[floor]).await.map_err(ServiceError::after_a_write)?;
            }
            self.keep_subject(&id, subject);
        }
        if !changed.written {
            return Ok(changed);
        }
        counter!(REVOCATIONS, "scope" => ScopeKind::Subject.name()).increment(1);
        match command {
            Command::SetRoles(_) => events::roles_changed(&id),
            Command::Enable => events::subject_enabled(&id),
            _ => events::subject_changed(&id, command.name()),
        }
        Ok(changed)
    }

    /// The version of the subject that a live session of it was opened under.
    async fn version_of_kept(&self, subject: &SubjectId, kept: &SessionId) -> Result<Version, ServiceError> {
        match self.live_session(kept, shell::now()).await {
            Ok((session, _)) if session.subject == *subject => Ok(session.subject_version),
            Ok(_) | Err(ServiceError::NotFound | ServiceError::Over(_)) => Err(SubjectError::KeptIsOver.into()),
            Err(error) => Err(error),
        }
    }

    /// Ends every session of a tenant; a tenant that was not known is noted, since sessions may just be opening.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn revoke_tenant(&self, id: TenantId) -> Result<Changed, ServiceError> {
        let rule = |versions: Option<Versions>, floor| {
            let versions = versions.unwrap_or_else(|| Versions::new(floor)).sessions_ended(floor);
            Ok(Change { record: Some(versions), raise: Some(versions.version), stands: floor })
        };
        let (changed, versions) = self.change(&tenant_target(&id), shell::now(), rule, |_| None).await?;
        if let Some(versions) = versions {
            self.keep_tenant(&id, versions);
        }
        counter!(REVOCATIONS, "scope" => ScopeKind::Tenant.name()).increment(1);
        events::tenant_revoked(&id);
        Ok(changed)
    }
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::RevokeSessions => "revoke_sessions",
            Self::RevokeOthers(_) => "revoke_others",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::SetRoles(_) => "set_roles",
        }
    }
}
