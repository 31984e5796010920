//! Changes of a live session: step-up into a new one, another scope, other volatile fields.

use alloc::{string::String, vec::Vec};

use super::{Device, Fields, Live, Open, OpenError, Session, Tier};
use crate::{
    refresh::{ClientContext, Seed},
    revocation::Version,
    time::Timestamp,
};

/// What an authentication on top of a session brought. Only here do `acr`, `amr` and `auth_time` move (STP-04, REF-10).
#[derive(Debug, Clone)]
pub struct StepUp {
    /// Random bytes, drawn for the new session.
    pub seed: Seed,
    /// Where the client is now.
    pub context: ClientContext,
    /// The tier of the new session; that of the old one if left out.
    pub tier: Option<Tier>,
    /// When the user authenticated, if not just now.
    pub auth_time: Option<Timestamp>,
    /// Authentication context class that was reached.
    pub acr: Option<String>,
    /// Authentication methods that were used.
    pub amr: Vec<String>,
    /// The scope of the new session; that of the old one if left out.
    pub scope: Option<String>,
    /// The device; that of the old session if left out.
    pub device: Option<Device>,
}

/// Why fields are not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldsConflict {
    /// Someone else wrote them since they were read.
    #[error("the fields were changed since; they have revision {current}")]
    Stale {
        /// The revision that they have.
        current: u32,
    },
    /// They were written 2³² times.
    #[error("the fields of this session were written too often")]
    Exhausted,
}

impl Live<'_> {
    /// The session that takes the place of this one: same subject and client, new seed, both lifetimes from the start
    /// (SP 800-63B-4 §5.2). The caller draws a new id and ends this one (SES-02).
    ///
    /// # Errors
    ///
    /// `auth_time` is out of range, or before that of this session.
    pub fn step_up(&self, command: StepUp, now: Timestamp) -> Result<Session, OpenError> {
        let old = self.session;
        let open = Open {
            subject: old.subject.clone(),
            tenant: old.tenant.clone(),
            client_id: old.client_id.clone(),
            tier: command.tier.unwrap_or(old.tier),
            seed: command.seed,
            context: command.context,
            auth_time: command.auth_time,
            acr: command.acr,
            amr: command.amr,
            scope: command.scope.or_else(|| old.scope.clone()),
            device: command.device.or_else(|| old.device.clone()),
        };
        let new = Session::open(open, &self.around, now)?;
        if new.auth_time < old.auth_time {
            return Err(OpenError::AuthTime);
        }
        Ok(Session { fields: old.fields.clone(), fields_revision: old.fields_revision, ..new })
    }

    /// With another scope and a higher version, so that tokens with the old one no longer count while the session goes
    /// on; none if it has exactly this scope, so that a repeat raises nothing.
    pub fn with_scope(&self, scope: Option<String>) -> Option<Session> {
        let [version, ..]: [Version; 4] = self.versions();
        (scope != self.session.scope).then(|| Session { scope, version: version.next(), ..self.session.clone() })
    }

    /// With other volatile fields, if those that it has are of revision `expected`; none if the same command was done
    /// already. Tokens are not concerned.
    ///
    /// # Errors
    ///
    /// The fields have another revision.
    pub fn with_fields(&self, fields: &Fields, expected: u32) -> Result<Option<Session>, FieldsConflict> {
        let session = self.session;
        let next = expected.checked_add(1).ok_or(FieldsConflict::Exhausted)?;
        if session.fields_revision == next && session.fields == *fields {
            return Ok(None);
        }
        if session.fields_revision != expected {
            return Err(FieldsConflict::Stale { current: session.fields_revision });
        }
        Ok(Some(Session { fields: fields.clone(), fields_revision: next, ..session.clone() }))
    }
}
