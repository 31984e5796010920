//! Rotation of the refresh token: what becomes of a generation that is presented (design, the table of section 3).

use alloc::boxed::Box;

use super::{EndReason, Initiator, Live, Session};
use crate::{
    id::ClientId,
    refresh::{ClientContext, Generation},
    revocation::Version,
    time::Timestamp,
};

/// A repeat or a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// The record that has to be written before the answer; `healed` if the store had lost a rotation.
    Rotated {
        /// The session with its next generation.
        session: Box<Session>,
        /// Whether the token was of a later generation than the record.
        healed: bool,
    },
    /// The same successor once more; nothing changes.
    Repeated(Generation),
}

/// Kinds of reuse, told apart in events and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReuseClass {
    /// The token before, from the same client, after the retry window.
    LateRetry,
    /// An older token, from the same client.
    Ancestor,
    /// An old token from another client context.
    OtherClient,
}

impl ReuseClass {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::LateRetry, Self::Ancestor, Self::OtherClient];

    /// The name in events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LateRetry => "late_retry",
            Self::Ancestor => "ancestor",
            Self::OtherClient => "other_client",
        }
    }
}

/// Why a refresh is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshError {
    /// The token belongs to another client (REF-07). Nothing changes.
    WrongClient,
    /// The generations are used up. Nothing changes; the session runs out.
    Exhausted,
    /// An old token was used again (RFC 9700 §4.14.2): the record as ended, to be written with its floor.
    Reuse {
        /// The ended session.
        session: Box<Session>,
        /// What kind of reuse it was.
        class: ReuseClass,
    },
}

impl Live<'_> {
    /// Presents an authentic refresh token of generation `presented`.
    ///
    /// # Errors
    ///
    /// Another client, no generation left, or reuse, which ends the session.
    pub fn refresh(
        &self,
        presented: Generation,
        client: &ClientId,
        context: ClientContext,
        now: Timestamp,
    ) -> Result<Refreshed, RefreshError> {
        let session = self.session;
        if *client != session.client_id {
            return Err(RefreshError::WrongClient);
        }
        if presented >= session.generation {
            let generation = presented.next().ok_or(RefreshError::Exhausted)?;
            let healed = presented > session.generation;
            return Ok(Refreshed::Rotated { session: Box::new(self.rotated(generation, context, now)), healed });
        }
        let is_previous = presented.next() == Some(session.generation);
        let same_client = context == session.context;
        let window_end = session.rotated_at.saturating_add(self.around.policy.retry_window);
        if is_previous && same_client && !now.has_reached(window_end) {
            return Ok(Refreshed::Repeated(session.generation));
        }
        let class = match (is_previous, same_client) {
            (_, false) => ReuseClass::OtherClient,
            (true, true) => ReuseClass::LateRetry,
            (false, true) => ReuseClass::Ancestor,
        };
        // A live session is open, so it can be ended.
        let ended = session.ended(EndReason::TokenReuse, Initiator::System, now).unwrap_or_else(|| session.clone());
        Err(RefreshError::Reuse { session: Box::new(ended), class })
    }

    /// The version is written at the height of its floor, which will be forgotten one day.
    fn rotated(&self, generation: Generation, context: ClientContext, now: Timestamp) -> Session {
        let session = self.session;
        let now = Timestamp::from_secs(now.as_secs()).max(session.rotated_at);
        let idle = self.around.policy.lifetimes(session.tier).idle;
        let [version, ..]: [Version; 4] = self.versions();
        Session {
            version,
            generation,
            context,
            rotated_at: now,
            idle_expires_at: now.saturating_add(idle).min(session.expires_at),
            ..session.clone()
        }
    }
}
