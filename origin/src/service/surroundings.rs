//! What a session depends on besides its own record: its subject and its tenant, from a short-lived cache.
//!
//! A cached copy under the local floor is stale and read again; a record under its floor (a crash between log and
//! record, a store that was put back) is written at the floor's height before a token is made from it, since the floor will
//! be forgotten one day. If the floor lies in a later era than the record, that ends the sessions of before.

use std::sync::Arc;

use metrics::counter;
use shared::{
    codec::Record as _,
    id::{SessionId, SubjectId, TenantId},
    revocation::{FloorKey, ScopeKind, Version},
    session::{Policy, Session, Surroundings},
    subject::{Subject, Versions},
    time::Timestamp,
};

use super::{
    Service, ServiceError,
    everyone::everyone_or_first,
    write::{Change, Target},
};
use crate::{store::Key, telemetry::metrics::CACHE_LOOKUPS};

/// The records and floors around one session.
pub(super) struct Around {
    id: SessionId,
    subject: Arc<Subject>,
    tenant: Option<Versions>,
    everyone: Versions,
    policy: Policy,
    session_floor: Version,
    subject_floor: Version,
    tenant_floor: Version,
    everyone_floor: Version,
}

/// The records of the wider scopes of one session.
pub(super) struct Wider<'a> {
    pub(super) subject: Arc<Subject>,
    pub(super) tenant: Option<(&'a TenantId, Versions)>,
    pub(super) everyone: Versions,
}

impl Around {
    /// As the rules take it.
    pub(super) fn as_surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            id: &self.id,
            subject: &self.subject,
            tenant: self.tenant.as_ref(),
            everyone: &self.everyone,
            policy: &self.policy,
            session_floor: self.session_floor,
            subject_floor: self.subject_floor,
            tenant_floor: self.tenant_floor,
            everyone_floor: self.everyone_floor,
        }
    }
}

impl Service {
    /// What surrounds a session; none if its subject has no record. A session that was opened under a higher version than
    /// a cached record has tells that there is a newer one.
    pub(super) async fn around(
        &self,
        id: &SessionId,
        session: &Session,
        now: Timestamp,
    ) -> Result<Option<Around>, ServiceError> {
        let Some(around) = self.cached_around(id, session, now).await? else { return Ok(None) };
        let is_behind = session.subject_version > around.subject.versions.version
            || session.everyone_version > around.everyone.version
            || around.tenant.is_some_and(|tenant| session.tenant_version > tenant.version);
        if !is_behind {
            return Ok(Some(around));
        }
        self.read_wider(&session.subject, session.tenant.as_ref()).await?;
        self.cached_around(id, session, now).await
    }

    async fn cached_around(
        &self,
        id: &SessionId,
        session: &Session,
        now: Timestamp,
    ) -> Result<Option<Around>, ServiceError> {
        let Some(subject) = self.subject_record(&session.subject, now).await? else { return Ok(None) };
        let tenant = match &session.tenant {
            Some(tenant) => Some(self.tenant_record(tenant, now).await?),
            None => None,
        };
        let tenant = session.tenant.as_ref().zip(tenant);
        let wider = Wider { subject, tenant, everyone: self.everyone_record(now).await? };
        Ok(Some(self.around_with(id, &session.subject, wider)))
    }

    /// Reads subject, tenant and everyone anew, so that a session which is opened or changed after a command was
    /// acknowledged, by whichever origin, is opened or changed under what that command wrote.
    pub(super) async fn read_wider(&self, subject: &SubjectId, tenant: Option<&TenantId>) -> Result<(), ServiceError> {
        let mut keys = vec![Key::Everyone, Key::Subject(subject.clone())];
        keys.extend(tenant.cloned().map(Key::Tenant));
        let mut stored = self.store.load_many(&keys).await?.into_iter();
        let everyone = everyone_or_first(stored.next().flatten().as_deref())?;
        // Another request of this process may have written a higher version since.
        if self.everyone.get(&()).is_none_or(|cached| cached.version <= everyone.version) {
            self.everyone.insert((), everyone);
        }
        if let Some(bytes) = stored.next().flatten() {
            let read = Subject::decode(&bytes).map_err(ServiceError::Record)?;
            if self.subjects.get(subject).is_none_or(|cached| cached.versions.version <= read.versions.version) {
                self.keep_subject(subject, read);
            }
        }
        if let (Some(id), Some(bytes)) = (tenant, stored.next().flatten()) {
            let read = Versions::decode(&bytes).map_err(ServiceError::Record)?;
            if self.tenants.get(id).is_none_or(|cached| cached.version <= read.version) {
                self.keep_tenant(id, read);
            }
        }
        Ok(())
    }

    /// Adds the floors to records that are at hand.
    pub(super) fn around_with(&self, id: &SessionId, subject: &SubjectId, wider: Wider<'_>) -> Around {
        let lowest = |key: FloorKey| self.feed.lowest(&key);
        Around {
            id: *id,
            policy: self.policy,
            session_floor: lowest(FloorKey::session(id)),
            subject_floor: lowest(FloorKey::subject(subject)),
            tenant_floor: wider.tenant.map_or(Version::NONE, |(tenant, _)| lowest(FloorKey::tenant(tenant))),
            everyone_floor: lowest(FloorKey::everyone()),
            subject: wider.subject,
            tenant: wider.tenant.map(|(_, versions)| versions),
            everyone: wider.everyone,
        }
    }

    /// A subject's record, not under its floor; none if there is none.
    pub(super) async fn subject_record(
        &self,
        id: &SubjectId,
        now: Timestamp,
    ) -> Result<Option<Arc<Subject>>, ServiceError> {
        let floor = self.feed.lowest(&FloorKey::subject(id));
        if let Some(cached) = looked_up("subject", self.subjects.get(id), |cached| cached.versions.version >= floor) {
            return Ok(Some(cached));
        }
        let Some(bytes) = self.store.load(&Key::Subject(id.clone())).await? else { return Ok(None) };
        let mut subject = Subject::decode(&bytes).map_err(ServiceError::Record)?;
        if subject.versions.version < floor {
            let healed = self.change(&subject_target(id), now, heal_subject, |_| None).await?;
            let (_, Some(healed)) = healed else { return Ok(None) };
            subject = healed;
        }
        Ok(Some(self.keep_subject(id, subject)))
    }

    /// Holds a record that was just written or read.
    pub(super) fn keep_subject(&self, id: &SubjectId, subject: Subject) -> Arc<Subject> {
        let subject = Arc::new(subject);
        self.subjects.insert(id.clone(), Arc::clone(&subject));
        subject
    }

    /// A tenant's record, made now if there is none, not under its floor.
    pub(super) async fn tenant_record(&self, id: &TenantId, now: Timestamp) -> Result<Versions, ServiceError> {
        let floor = self.feed.lowest(&FloorKey::tenant(id));
        if let Some(cached) = looked_up("tenant", self.tenants.get(id), |cached| cached.version >= floor) {
            return Ok(cached);
        }
        let (_, versions) = self.change(&tenant_target(id), now, heal_tenant, |_| None).await?;
        let versions = versions.unwrap_or_else(|| Versions::new(floor));
        self.tenants.insert(id.clone(), versions);
        Ok(versions)
    }

    /// Holds a record that was just written or read.
    pub(super) fn keep_tenant(&self, id: &TenantId, versions: Versions) {
        self.tenants.insert(id.clone(), versions);
    }
}

/// What a cache holds, if it is not under its floor; counted.
pub(super) fn looked_up<T>(cache: &'static str, held: Option<T>, is_fresh: impl FnOnce(&T) -> bool) -> Option<T> {
    let is_fresh = held.as_ref().map(is_fresh);
    let outcome = match is_fresh {
        Some(true) => "hit",
        Some(false) => "stale",
        None => "miss",
    };
    counter!(CACHE_LOOKUPS, "cache" => cache, "outcome" => outcome).increment(1);
    held.filter(|_| is_fresh == Some(true))
}

pub(super) fn subject_target(id: &SubjectId) -> Target {
    Target { key: Key::Subject(id.clone()), scope: ScopeKind::Subject, floor_key: FloorKey::subject(id) }
}

pub(super) fn tenant_target(id: &TenantId) -> Target {
    Target { key: Key::Tenant(id.clone()), scope: ScopeKind::Tenant, floor_key: FloorKey::tenant(id) }
}

fn heal_subject(subject: Option<Subject>, floor: Version) -> Result<Change<Subject>, ServiceError> {
    let record = subject.and_then(|subject| subject.healed(floor));
    Ok(Change { record, raise: None, stands: floor })
}

fn heal_tenant(versions: Option<Versions>, floor: Version) -> Result<Change<Versions>, ServiceError> {
    let record = match versions {
        None => Some(Versions::new(floor)),
        Some(versions) if versions.version < floor => Some(versions.healed(floor)),
        Some(_) => None,
    };
    Ok(Change { record, raise: None, stands: floor })
}
