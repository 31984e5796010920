//! What is written to the log about the life of sessions, in the words of the OWASP logging vocabulary (LOG-02).
//!
//! Invariant (I10, LOG-03): a session appears as a keyed hash of its id; tokens, devices and fields never appear.
//! Invariant (LOG-04): every other value is of a closed set, a number, or an identifier of visible ASCII.

use std::fmt;

use aws_lc_rs::hmac;
use shared::{
    id::{SessionId, SubjectId, TenantId},
    session::{EndReason, Initiator, NotLive, ReuseClass, Session},
};

/// Bytes of a tag: enough to tell the sessions of one log apart.
const TAG_BYTES: usize = 8;

/// Makes tags that stand for session ids, the same ones on every origin of a deployment.
pub(super) struct Tags(hmac::Key);

impl Tags {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    pub(super) fn of(&self, id: &SessionId) -> Tag {
        let mut tag = [0; TAG_BYTES];
        let mac = hmac::sign(&self.0, id.as_bytes());
        for (to, from) in tag.iter_mut().zip(mac.as_ref()) {
            *to = *from;
        }
        Tag(tag)
    }
}

/// Stands for a session id in a log.
pub(super) struct Tag([u8; TAG_BYTES]);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

pub(super) fn created(tag: &Tag, session: &Session, replaces: Option<&Tag>) {
    let (subject, client, tier) = (&session.subject, session.client_id.as_str(), session.tier.name());
    match replaces {
        Some(old) => tracing::info!(event = "session_created", session = %tag, %subject, client, tier, replaces = %old),
        None => tracing::info!(event = "session_created", session = %tag, %subject, client, tier),
    }
    tracing::info!(event = "authn_token_created", session = %tag, %subject, client);
}

pub(super) fn renewed(tag: &Tag, session: &Session, outcome: &'static str) {
    let subject = &session.subject;
    tracing::info!(event = "session_renewed", session = %tag, %subject, outcome, generation = session.generation.0);
}

/// A session that is over was used. When time or policy ended it, this is where that is noticed.
pub(super) fn used_after_end(tag: &Tag, session: &Session, why: NotLive) {
    let (subject, reason) = (&session.subject, why.name());
    match why {
        NotLive::Idle | NotLive::Expired => {
            tracing::info!(event = "session_expired", session = %tag, %subject, reason);
        }
        NotLive::Policy(limit) => {
            let (limit, tier) = (limit.name(), session.tier.name());
            tracing::info!(event = "session_expired", session = %tag, %subject, reason, limit, tier);
        }
        NotLive::Ended(_) | NotLive::UnderFloor | NotLive::EndedForAll | NotLive::SubjectDisabled => {}
    }
    tracing::warn!(event = "session_use_after_expire", session = %tag, %subject, reason);
}

pub(super) fn ended(tag: &Tag, session: &Session, reason: EndReason, by: Initiator) {
    let (subject, reason_name, by) = (&session.subject, reason.name(), by.name());
    if reason == EndReason::SignedOut {
        tracing::info!(event = "session_logout", session = %tag, %subject, by);
    }
    tracing::info!(event = "authn_token_revoked", scope = "session", session = %tag, %subject, reason = reason_name, by);
}

pub(super) fn reused(tag: &Tag, session: &Session, class: ReuseClass) {
    tracing::warn!(event = "authn_token_reuse", session = %tag, subject = %session.subject, class = class.name());
}

pub(super) fn excess(subject: &SubjectId, outcome: &'static str, sessions_max: u8) {
    tracing::warn!(event = "excess_sessions_exceeded", %subject, outcome, sessions_max);
}

pub(super) fn scope_changed(tag: &Tag, session: &Session) {
    tracing::info!(event = "privilege_permissions_changed", session = %tag, subject = %session.subject, what = "scope");
}

pub(super) fn roles_changed(subject: &SubjectId) {
    tracing::info!(event = "privilege_permissions_changed", %subject, what = "roles");
}

pub(super) fn subject_changed(subject: &SubjectId, command: &'static str) {
    tracing::info!(event = "authn_token_revoked", scope = "subject", %subject, reason = command);
}

pub(super) fn subject_enabled(subject: &SubjectId) {
    tracing::info!(event = "subject_enabled", %subject);
}

pub(super) fn tenant_revoked(tenant: &TenantId) {
    tracing::info!(event = "authn_token_revoked", scope = "tenant", %tenant, reason = "revoke_sessions");
}

pub(super) fn everyone_changed(command: &'static str) {
    tracing::warn!(event = "authn_token_revoked", scope = "everyone", reason = command);
}

pub(super) fn keys_rotated() {
    tracing::info!(event = "keys_rotated");
}

pub(super) fn key_revoked(kid: &str) {
    tracing::warn!(event = "authn_token_revoked", scope = "signing_key", kid, reason = "revoke_key");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LOG-03: the tag is no prefix of the id, and another deployment has other tags.
    #[test]
    fn a_tag_is_stable_and_keyed() {
        let id = SessionId::from_random([5; 16]);
        let tag = Tags::new(&[1; 32]).of(&id).to_string();
        assert_eq!((tag.len(), &tag), (16, &Tags::new(&[1; 32]).of(&id).to_string()));
        assert_ne!(tag, Tags::new(&[2; 32]).of(&id).to_string());
        assert_ne!(tag, Tags::new(&[1; 32]).of(&SessionId::from_random([6; 16])).to_string());
    }
}
