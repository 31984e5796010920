//! Subject and tenant records: standing, roles, version, and from which version on sessions count.
//!
//! Rules, as pure functions of (record, command): a change of roles raises the version, so that old tokens no longer
//! count while sessions live on; ending all sessions raises `sessions_floor` with it. The floor of the scope in the log
//! may be ahead of the record after a crash between the two writes, so every command takes it and rises above both.
//!
//! Ending all sessions but one spares that one by name, in the same write: its record stays as it is, and the next end of
//! all sessions ends it too.
//!
//! Invariant (I4): version and `sessions_floor` never fall. A record has no lifetime: forgetting one would forget its roles.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::{
    id::{ROLES_MAX, Role, SessionId, TenantId},
    revocation::Version,
};

/// Whether a subject may have sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It may.
    Active,
    /// It may not: nothing opens, nothing refreshes.
    Disabled,
}

/// Versions of a subject or tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Goes into tokens; older tokens are refused by the floor of the same height.
    pub version: Version,
    /// A session that was opened under a lower version is over. Not under the era of `version`.
    pub sessions_floor: Version,
}

impl Versions {
    /// Those of a new scope, above what the log already says of it.
    pub fn new(floor: Version) -> Self {
        let version = Version::INITIAL.max(floor);
        Self { version, sessions_floor: version }
    }

    /// The version for tokens that are made now: after a crash between log and record the log is ahead.
    pub fn current(&self, floor: Version) -> Version {
        self.version.max(floor)
    }

    /// At the height of the floor: a record that a crash left behind, or that the store lost and has an older one of. If the
    /// floor lies in a later era, sessions were ended in between.
    #[must_use]
    pub fn healed(self, floor: Version) -> Self {
        Self { version: self.current(floor), ..self }.within_era()
    }

    /// Old tokens no longer count.
    #[must_use]
    pub fn raised(self, floor: Version) -> Self {
        Self { version: self.current(floor).next(), ..self }.within_era()
    }

    fn within_era(self) -> Self {
        Self { sessions_floor: self.sessions_floor.max(self.version.era()), ..self }
    }

    /// Old tokens and old sessions no longer count.
    #[must_use]
    pub fn sessions_ended(self, floor: Version) -> Self {
        let version = self.current(floor).next_era();
        Self { version, sessions_floor: version }
    }

    /// Whether a session that was opened under `version` is still one.
    pub fn admits(&self, version: Version) -> bool {
        version >= self.sessions_floor
    }
}

/// What is kept of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The tenant it belongs to, for good.
    pub tenant: Option<TenantId>,
    /// Whether it may have sessions.
    pub standing: Standing,
    /// Its roles, sorted, each once.
    pub roles: Vec<Role>,
    /// Its versions.
    pub versions: Versions,
    /// The one session that was kept when all others were ended last.
    pub spared: Option<SessionId>,
}

/// Why a subject does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// More than [`ROLES_MAX`] roles.
    #[error("a subject may have at most {ROLES_MAX} roles")]
    TooManyRoles,
    /// It belongs to another tenant, or to none.
    #[error("the subject belongs to another tenant")]
    OtherTenant,
    /// The session that was to be kept is over.
    #[error("the session to keep is over, or belongs to another subject; nothing was ended")]
    KeptIsOver,
}

impl Subject {
    /// A subject that was not known before; `floor` is what the log says of its scope.
    ///
    /// # Errors
    ///
    /// Too many roles.
    pub fn new(tenant: Option<TenantId>, roles: Vec<Role>, floor: Version) -> Result<Self, SubjectError> {
        let versions = Versions::new(floor);
        Ok(Self { tenant, standing: Standing::Active, roles: normal(roles)?, versions, spared: None })
    }

    /// Whether the subject belongs to `tenant`.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn check_tenant(&self, tenant: Option<&TenantId>) -> Result<(), SubjectError> {
        if self.tenant.as_ref() == tenant { Ok(()) } else { Err(SubjectError::OtherTenant) }
    }

    /// With other roles; none if it has exactly these already, so that a repeat raises nothing.
    ///
    /// # Errors
    ///
    /// Too many roles.
    pub fn with_roles(&self, roles: Vec<Role>, floor: Version) -> Result<Option<Self>, SubjectError> {
        let roles = normal(roles)?;
        if roles == self.roles {
            return Ok(None);
        }
        Ok(Some(Self { roles, ..self.with_versions(self.versions.raised(floor)) }))
    }

    /// At the height of the floor (see [`Versions::healed`]); none if it is not under it.
    pub fn healed(&self, floor: Version) -> Option<Self> {
        (self.versions.version < floor).then(|| self.with_versions(self.versions.healed(floor)))
    }

    /// With all sessions of before ended.
    #[must_use]
    pub fn with_sessions_ended(&self, floor: Version) -> Self {
        self.with_versions(self.versions.sessions_ended(floor))
    }

    /// No session is spared when sessions are ended anew.
    fn with_versions(&self, versions: Versions) -> Self {
        let ends = versions.sessions_floor > self.versions.sessions_floor;
        Self { versions, spared: self.spared.filter(|_| !ends), ..self.clone() }
    }

    /// With all sessions of before ended but `kept`, which was opened under `version`; its tokens have to be renewed.
    ///
    /// # Errors
    ///
    /// [`SubjectError::KeptIsOver`].
    pub fn with_others_ended(&self, kept: SessionId, version: Version, floor: Version) -> Result<Self, SubjectError> {
        let now = self.with_versions(self.versions.healed(floor));
        if self.standing == Standing::Disabled || !now.admits(&kept, version) {
            return Err(SubjectError::KeptIsOver);
        }
        Ok(Self { spared: Some(kept), ..self.with_sessions_ended(floor) })
    }

    /// Whether a session that was opened under `version` is still one.
    pub fn admits(&self, session: &SessionId, version: Version) -> bool {
        self.versions.admits(version) || self.spared.as_ref() == Some(session)
    }

    /// Disabled, with all sessions ended for good; none if it is disabled already.
    pub fn disabled(&self, floor: Version) -> Option<Self> {
        let standing = Standing::Disabled;
        (self.standing != standing).then(|| Self { standing, ..self.with_sessions_ended(floor) })
    }

    /// Allowed to open sessions again; those of before stay ended. The version rises so that whoever holds the record of
    /// before notices. None if it is active already.
    pub fn enabled(&self, floor: Version) -> Option<Self> {
        let standing = Standing::Active;
        let versions = self.versions.raised(floor);
        (self.standing != standing).then(|| Self { standing, ..self.with_versions(versions) })
    }
}

fn normal(mut roles: Vec<Role>) -> Result<Vec<Role>, SubjectError> {
    roles.sort_unstable();
    roles.dedup();
    if roles.len() > ROLES_MAX { Err(SubjectError::TooManyRoles) } else { Ok(roles) }
}

#[cfg(test)]
mod tests {
    use std::{format, vec, vec::Vec};

    use super::*;

    fn roles(names: &[&str]) -> Vec<Role> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn subject() -> Subject {
        Subject::new(None, roles(&["member", "admin", "member"]), Version::NONE).unwrap()
    }

    #[test]
    fn a_change_of_roles_raises_the_version_and_ends_no_session() {
        let before = subject();
        let after = before.with_roles(roles(&["member"]), Version::NONE).unwrap().unwrap();
        assert_eq!(after.versions.version, Version::new(2));
        assert!(after.versions.admits(before.versions.version));
        assert_eq!(after.with_roles(roles(&["member"]), Version::new(2)), Ok(None), "a repeat raises nothing");
    }

    #[test]
    fn ending_all_sessions_ends_those_of_before_only() {
        let before = subject();
        let after = before.with_sessions_ended(Version::NONE);
        assert!(!after.versions.admits(before.versions.version));
        assert!(after.versions.admits(after.versions.version));
    }

    #[test]
    fn a_log_that_is_ahead_of_the_record_is_passed() {
        let after = subject().with_roles(vec![], Version::new(7)).unwrap().unwrap();
        assert_eq!(after.versions.version, Version::new(8));
        assert_eq!(subject().with_sessions_ended(Version::new(7)).versions.version, Version::NONE.next_era());
        assert_eq!(Subject::new(None, vec![], Version::new(5)).unwrap().versions.version, Version::new(5));
        assert_eq!(subject().versions.current(Version::new(9)), Version::new(9));
    }

    /// I4: a record that fell back ends the sessions that were ended since, and no others: the floor says which.
    #[test]
    fn a_record_that_fell_back_is_healed_by_its_floor() {
        let before = subject();
        let renewed = before.with_roles(vec![], Version::NONE).unwrap().unwrap().versions.version;
        let ended = before.with_sessions_ended(renewed);
        let later = ended.with_roles(vec![], Version::NONE).unwrap().unwrap();
        let opened = before.versions.version;
        let healed = |floor| before.healed(floor).unwrap();
        assert!(healed(renewed).versions.admits(opened), "roles changed, and nobody was signed out");
        for floor in [ended.versions.version, later.versions.version] {
            assert!(!healed(floor).versions.admits(opened));
            assert!(healed(floor).versions.admits(ended.versions.version), "sessions since then go on");
            assert_eq!(healed(floor).versions.version, floor);
        }
        assert_eq!(before.healed(opened), None);
    }

    /// The session that was kept once is over when all were ended since.
    #[test]
    fn a_record_that_fell_back_spares_nobody() {
        let kept = SessionId::from_random([1; 16]);
        let before = subject();
        let spared = before.with_others_ended(kept, before.versions.version, Version::NONE).unwrap();
        assert!(spared.admits(&kept, before.versions.version));
        let roles = spared.with_roles(vec![], Version::NONE).unwrap().unwrap();
        assert!(spared.healed(roles.versions.version).unwrap().admits(&kept, before.versions.version));
        let ended = spared.with_sessions_ended(Version::NONE).versions.version;
        assert!(!spared.healed(ended).unwrap().admits(&kept, before.versions.version));
        assert_eq!(spared.with_others_ended(kept, before.versions.version, ended), Err(SubjectError::KeptIsOver));
    }

    #[test]
    fn a_million_raises_fit_an_era() {
        let mut versions = Versions::new(Version::NONE);
        for _ in 0..(1 << 20) - 2 {
            versions = versions.raised(Version::NONE);
        }
        assert!(versions.admits(Version::INITIAL));
        assert!(!versions.raised(Version::NONE).admits(Version::INITIAL), "the record stays what its floor says");
        let last = Version::new(u64::MAX - 1);
        assert_eq!((last.next_era(), Version::ENDED.next_era()), (last, Version::ENDED));
        assert_eq!(Version::ENDED.era().next_era(), Version::ENDED.era());
    }

    #[test]
    fn disabling_ends_sessions_for_good_and_enabling_revives_none() {
        let before = subject();
        let disabled = before.disabled(Version::NONE).unwrap();
        assert_eq!(disabled.disabled(Version::NONE), None);
        let enabled = disabled.enabled(Version::NONE).unwrap();
        assert_eq!(enabled.standing, Standing::Active);
        assert!(!enabled.versions.admits(before.versions.version));
        assert!(enabled.versions.version > disabled.versions.version, "a record of before is told from this one");
        assert_eq!(enabled.enabled(Version::NONE), None);
    }

    #[test]
    fn limits_and_tenants_are_kept() {
        let many: Vec<Role> = (0..=ROLES_MAX).map(|n| format!("r{n}").parse().unwrap()).collect();
        assert_eq!(Subject::new(None, many, Version::NONE), Err(SubjectError::TooManyRoles));
        let acme: TenantId = "acme".parse().unwrap();
        assert_eq!(subject().check_tenant(Some(&acme)), Err(SubjectError::OtherTenant));
        assert_eq!(subject().check_tenant(None), Ok(()));
    }
}
