//! The whole deployment as one scope: one floor concerns the tokens of everyone.

use metrics::counter;
use shared::{
    codec::Record as _,
    revocation::{FloorKey, ScopeKind, Version},
    subject::Versions,
    time::Timestamp,
};

use super::{
    Changed, Service, ServiceError, events,
    surroundings::looked_up,
    write::{Change, Target},
};
use crate::{shell, store::Key, telemetry::metrics::REVOCATIONS};

/// What is done to everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EveryoneCommand {
    /// Every session ends.
    EndSessions,
    /// Sessions go on, but every token has to be renewed, by the roles and the policy that hold now.
    RenewTokens,
}

impl EveryoneCommand {
    fn apply(self, versions: Versions, floor: Version) -> Versions {
        match self {
            Self::EndSessions => versions.sessions_ended(floor),
            Self::RenewTokens => versions.raised(floor),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::EndSessions => "revoke_sessions",
            Self::RenewTokens => "renew_tokens",
        }
    }
}

impl Service {
    /// Ends everyone's sessions, or has everyone's tokens renewed, with one floor; may be repeated.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn change_everyone(&self, command: EveryoneCommand) -> Result<Changed, ServiceError> {
        let rule = |versions: Option<Versions>, floor| {
            let versions = command.apply(versions.unwrap_or_else(first), floor);
            Ok(Change { record: Some(versions), raise: Some(versions.version), stands: floor })
        };
        let (changed, versions) = self.change(&target(), shell::now(), rule, |_| None).await?;
        if let Some(versions) = versions {
            self.everyone.insert((), versions);
        }
        counter!(REVOCATIONS, "scope" => ScopeKind::Everyone.name()).increment(1);
        events::everyone_changed(command.name());
        Ok(changed)
    }

    /// The record of everyone, not under its floor.
    pub(super) async fn everyone_record(&self, now: Timestamp) -> Result<Versions, ServiceError> {
        let floor = self.feed.lowest(&FloorKey::everyone());
        if let Some(cached) = looked_up("everyone", self.everyone.get(&()), |cached| cached.version >= floor) {
            return Ok(cached);
        }
        let stored = self.store.load(&Key::Everyone).await?;
        let mut versions = everyone_or_first(stored.as_deref())?;
        if versions.version < floor {
            versions = self.change(&target(), now, heal, |_| None).await?.1.unwrap_or(versions);
        }
        self.everyone.insert((), versions);
        Ok(versions)
    }
}

/// A record that was read; nobody writes one before the first command.
pub(super) fn everyone_or_first(stored: Option<&[u8]>) -> Result<Versions, ServiceError> {
    stored.map_or_else(|| Ok(first()), |bytes| Versions::decode(bytes).map_err(ServiceError::Record))
}

fn first() -> Versions {
    Versions::new(Version::NONE)
}

fn target() -> Target {
    Target { key: Key::Everyone, scope: ScopeKind::Everyone, floor_key: FloorKey::everyone() }
}

/// After a crash between log and record, or when the store was put back: the floor says whether sessions were ended.
fn heal(versions: Option<Versions>, floor: Version) -> Result<Change<Versions>, ServiceError> {
    let versions = versions.unwrap_or_else(first);
    let record = (versions.version < floor).then(|| versions.healed(floor));
    Ok(Change { record, raise: None, stands: floor })
}
