//! The route policy that gates get with the feed, instead of the one that they were built with: the copy of this process, and
//! the one in the store that all origins share.
//!
//! Invariant: a policy replaces only an older one, here, at hubs and at gates. So a version is at least the time at which it was
//! made, in Unix milliseconds: a store that lost what hubs have seen does not stand in the way of the next one.
//! Invariant: what is kept was checked, so gates take it.

use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use shared::{
    policy::PolicyBytesError,
    policy_text::{self, PolicyTextError},
    time::Timestamp,
};

use crate::store::{
    AnyStore, Key, StoreError,
    agreed::{self, ATTEMPTS, Form},
};

/// The longest text of a policy, in bytes.
pub const POLICY_BYTES_MAX: usize = 48 * 1024;

/// The name of a policy in its errors.
const NAME: &str = "policy";

/// Why the policy cannot be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoliciesError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The text is no policy; nothing was changed.
    #[error("{0}; nothing was changed")]
    Text(#[from] PolicyTextError),
    /// The text is too long.
    #[error("a policy may have {POLICY_BYTES_MAX} bytes; nothing was changed")]
    TooLarge,
    /// What the store holds is none.
    #[error("the policy in the store is not in a form that this version reads")]
    Record,
    /// Somebody else kept writing.
    #[error("the policy changed {ATTEMPTS} times while it was written; nothing was changed")]
    Contended,
}

/// As it is stored: JSON.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u64,
    /// Version of the signing keys since which the feed key signs that the frame was made with.
    feed_since: u64,
    /// None where the policy counts that the gates were built with.
    text: Option<String>,
}

/// The policy that counts.
#[derive(Default)]
pub struct CurrentPolicy {
    record: Record,
    encoded: Vec<u8>,
}

impl CurrentPolicy {
    /// 0 if there never was one.
    pub fn version(&self) -> u64 {
        self.record.version
    }

    /// The text; none where the policy counts that the gates were built with.
    pub fn text(&self) -> Option<&str> {
        self.record.text.as_deref()
    }

    /// The body of its frame.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    fn new(record: Record) -> Result<Self, PoliciesError> {
        let encoded = match &record.text {
            None => Vec::new(),
            Some(text) if text.len() > POLICY_BYTES_MAX => return Err(PoliciesError::TooLarge),
            Some(text) => policy_text::parse(NAME, text)?.encode()?,
        };
        Ok(Self { record, encoded })
    }
}

/// JSON.
struct Json;

impl Form for Json {
    type Value = Arc<CurrentPolicy>;
    type Error = PoliciesError;

    const KEY: Key = Key::Policy;

    fn version(policy: &Arc<CurrentPolicy>) -> u64 {
        policy.version()
    }

    fn read(&self, bytes: &[u8]) -> Result<Arc<CurrentPolicy>, PoliciesError> {
        let record = serde_json::from_slice(bytes).map_err(|_| PoliciesError::Record)?;
        Ok(Arc::new(CurrentPolicy::new(record)?))
    }

    fn write(&self, policy: &Arc<CurrentPolicy>) -> Result<Vec<u8>, PoliciesError> {
        serde_json::to_vec(&policy.record).map_err(|_| PoliciesError::Record)
    }

    fn contended() -> PoliciesError {
        PoliciesError::Contended
    }
}

impl From<PolicyBytesError> for PoliciesError {
    fn from(_: PolicyBytesError) -> Self {
        Self::Record
    }
}

/// The policy, followed and changed.
pub struct Policies {
    store: Arc<AnyStore>,
    /// None as long as nobody has set a policy.
    held: RwLock<Option<Held>>,
}

type Held = agreed::Copy<Arc<CurrentPolicy>>;

impl Policies {
    /// Reads the one in the store.
    ///
    /// # Errors
    ///
    /// [`PoliciesError`].
    pub async fn open(store: Arc<AnyStore>) -> Result<Self, PoliciesError> {
        let policies = Self { store, held: RwLock::default() };
        policies.change(|_| None).await?;
        Ok(policies)
    }

    /// The policy, as far as this process knows.
    pub fn current(&self) -> Arc<CurrentPolicy> {
        self.held().map_or_else(Arc::default, |held| held.value)
    }

    /// Takes in what other origins changed; whether that is something new. A store that lost the policy gets ours back, and one
    /// that was signed with the feed key of before `feed_since` is given out anew.
    ///
    /// # Errors
    ///
    /// [`PoliciesError`]; the policy that was held stays.
    pub async fn follow(&self, feed_since: u64) -> Result<bool, PoliciesError> {
        let before = self.current().version();
        let renewed = |held: Option<&Record>| {
            let held = held.filter(|held| held.feed_since < feed_since)?;
            Some(Record { version: held.version.saturating_add(1), feed_since, ..held.clone() })
        };
        Ok(self.change(renewed).await?.version() != before)
    }

    /// Has gates judge by this policy from now on; without a text by the one that they were built with.
    ///
    /// # Errors
    ///
    /// [`PoliciesError`]; nothing was changed, or the call may be repeated.
    pub async fn set(
        &self,
        text: Option<String>,
        feed_since: u64,
        now: Timestamp,
    ) -> Result<Arc<CurrentPolicy>, PoliciesError> {
        let next = Record { version: now.as_millis(), feed_since, text };
        // Before anything is asked of the store: what is wrong changes nothing.
        CurrentPolicy::new(next.clone())?;
        let above = |held: Option<&Record>| match held {
            None => Some(next.clone()),
            Some(held) if held.text == next.text => None,
            Some(held) => {
                let version = next.version.max(held.version.saturating_add(1));
                Some(Record { version, ..next.clone() })
            }
        };
        self.change(above).await
    }

    async fn change(
        &self,
        rule: impl Fn(Option<&Record>) -> Option<Record> + Sync,
    ) -> Result<Arc<CurrentPolicy>, PoliciesError> {
        let rule = |held: Option<&Arc<CurrentPolicy>>| {
            let next = rule(held.map(|held| &held.record));
            next.map(|record| CurrentPolicy::new(record).map(Arc::new)).transpose()
        };
        if let Some(next) = agreed::commit(&self.store, &Json, self.held().as_ref(), &rule).await? {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            if held.as_ref().is_none_or(|held| next.value.version() >= held.value.version()) {
                *held = Some(next);
            }
        }
        Ok(self.current())
    }

    fn held(&self) -> Option<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faulty::FaultyStore;

    const POLICY: &str = "[upstreams]\napp = \"self\"\n[[routes]]\nid = \"a\"\npath = \"/*\"\nupstream = \"app\"\n";

    fn now(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[tokio::test]
    async fn a_policy_is_kept_followed_and_given_up() {
        let store = Arc::new(AnyStore::new(FaultyStore::new()));
        let (one, other) = (Policies::open(Arc::clone(&store)).await.unwrap(), Policies::open(store).await.unwrap());
        assert_eq!((one.current().version(), one.follow(0).await), (0, Ok(false)));

        let set = one.set(Some(POLICY.to_owned()), 0, now(1_000)).await.unwrap();
        assert_eq!((set.version(), set.text()), (1_000, Some(POLICY)));
        assert_eq!(other.follow(0).await, Ok(true));
        assert_eq!((other.current().text(), other.follow(0).await), (Some(POLICY), Ok(false)));
        let again = one.set(Some(POLICY.to_owned()), 0, now(2_000)).await.unwrap();
        assert_eq!(again.version(), 1_000, "nothing new");

        // A clock that was set back does not make a version fall.
        let given_up = other.set(None, 0, now(10)).await.unwrap();
        assert_eq!((given_up.version(), given_up.text(), given_up.encoded()), (1_001, None, &[][..]));
        assert_eq!((one.follow(0).await, one.current().text()), (Ok(true), None));
    }

    #[tokio::test]
    async fn what_is_wrong_changes_nothing() {
        let store = Arc::new(AnyStore::new(FaultyStore::new()));
        let policies = Policies::open(store).await.unwrap();
        policies.set(Some(POLICY.to_owned()), 0, now(1_000)).await.unwrap();
        let wrong = policies.set(Some(POLICY.replace("/*", "/a*")), 0, now(2_000)).await.err().unwrap();
        assert!(wrong.to_string().starts_with("policy:5: routes[0].path"), "{wrong}");
        let large = policies.set(Some(" ".repeat(POLICY_BYTES_MAX + 1)), 0, now(2_000)).await.err();
        assert_eq!(large, Some(PoliciesError::TooLarge));
        assert_eq!((policies.follow(0).await, policies.current().version()), (Ok(false), 1_000));
    }

    #[tokio::test]
    async fn a_store_that_lost_it_gets_it_back_and_another_feed_key_gives_it_out_anew() {
        let policies = Policies::open(Arc::new(AnyStore::new(FaultyStore::new()))).await.unwrap();
        policies.set(Some(POLICY.to_owned()), 0, now(1_000)).await.unwrap();
        let emptied = Policies { store: Arc::new(AnyStore::new(FaultyStore::new())), ..policies };
        assert_eq!(emptied.follow(0).await, Ok(false));
        let read = Policies::open(Arc::clone(&emptied.store)).await.unwrap();
        assert_eq!((read.current().version(), read.current().text()), (1_000, Some(POLICY)));
        assert_eq!(emptied.follow(7).await, Ok(true));
        assert_eq!((emptied.current().version(), emptied.follow(7).await), (1_001, Ok(false)));
    }
}
