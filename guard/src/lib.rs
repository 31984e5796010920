//! The gate's decision, natively, before the handlers of a Rust service: a Tower layer for axum, hyper and others.
//!
//! A request shows who it is from by the gate's assertion ([`shared::assertion`]), or by an access token of its own; what
//! [`Accepts`] allows. Either is judged by the same [`shared::decision::decide`] as at the gate, under a route policy, with a
//! replica of the floors that a task of this process keeps up to date from the origin's feed. What passes carries an
//! [`Identity`] in its extensions, and the `Portcullis-` headers that say the same; those of a client never get through.
//!
//! Out of scope: renewing a browser's session, which is the gate's.
//!
//! Invariant (I1): no request with a session passes under a floor that was acknowledged longer ago than its route's bound.
//! Invariant: before the first sync nothing is known, so routes that deny when stale answer 503; see [`Guard::ready`].

mod follow;
mod judge;
mod layer;
mod refusal;
mod settings;

use std::sync::Arc;

pub use shared::{
    assertion::AssertionKey,
    keys::PublicKey,
    policy::Policy,
    policy_text::{PolicyTextError, parse as parse_policy},
    token::Claims,
};

use self::{follow::Follower, judge::Judge};
pub use self::{
    layer::{GuardLayer, Guarded},
    settings::{Accepts, Gate, PolicySource, Scheme, Settings, SettingsError},
};

/// Who a request is from, in its extensions; anonymous requests have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What the access token says. As the gate asserts it, `aud`, `iat` and `exp` are those of the assertion, and `jti` is empty.
    pub claims: Claims,
    /// How the request showed it.
    pub shown_by: ShownBy,
}

/// How a request showed who it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownBy {
    /// By the gate's assertion.
    Assertion,
    /// By an access token.
    Token,
}

/// Follows the feed of an origin and judges requests by it. Copies share one replica; the last one to go stops following.
#[derive(Clone)]
pub struct Guard {
    judge: Arc<Judge>,
}

impl Guard {
    /// Begins to follow the feed; within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// The first setting that is wrong, by name.
    pub fn start(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let follower = Follower::start(&settings)?;
        Ok(Self { judge: Arc::new(Judge::new(settings, follower)) })
    }

    /// Waits until the replica holds every floor of some moment, and so can judge.
    pub async fn ready(&self) {
        self.judge.follower().ready().await;
    }

    /// Whether the replica can judge.
    pub fn is_ready(&self) -> bool {
        self.judge.follower().is_ready()
    }

    /// The layer; put it around the router, so that what it judges is the path of the request as it came.
    pub fn layer(&self) -> GuardLayer {
        GuardLayer::new(Arc::clone(&self.judge))
    }
}
