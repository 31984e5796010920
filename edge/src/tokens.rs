//! Access tokens that were verified already.
//!
//! A signature costs a hundred times what the rest of a check does. Kept is only what cannot change with time: that the
//! signature was good, the claims, and what an application is told of them. Expiry, floors and policy are looked at on every
//! use.
//!
//! Invariant: an entry is found by every byte of its token, and was verified under the key set that counts now.

use core::{cell::OnceCell, num::NonZeroUsize};

use lru::LruCache;
use shared::{
    assertion::Asserted,
    identity,
    keys::KeySet,
    replica::Replica,
    token::{AccessToken, Before, Expected, TOKEN_BYTES_MAX, TokenError},
};

use crate::verify::Runtime;

/// Verified tokens that are kept: about 2 KiB each, so at most some 16 MiB.
const TOKENS_MAX: NonZeroUsize = match NonZeroUsize::new(8_192) {
    Some(number) => number,
    None => NonZeroUsize::MIN,
};

/// How long a floor that a token taught is kept beyond the token.
const LEARN_MARGIN: core::time::Duration = core::time::Duration::from_secs(60);

/// The identity of nobody, in the form of [`Known::identity`].
pub(crate) const NO_IDENTITY: &str = "\n\n\n\n\n";

/// A verified token.
pub(crate) struct Known {
    /// The token.
    pub(crate) token: AccessToken,
    /// Subject, session, tenant, roles and version: the values of the identity headers, each with a line break after it.
    pub(crate) identity: String,
    /// The same for an assertion, once there was one.
    asserted: OnceCell<Asserted>,
    /// Whether it came before.
    pub(crate) is_again: bool,
    /// Whether the replica has learned what the token proves; it forgets that only after the token has expired.
    taught: bool,
}

impl Known {
    /// What an assertion says of it.
    pub(crate) fn asserted(&self) -> &Asserted {
        self.asserted.get_or_init(|| Asserted::of(self.token.claims()))
    }

    /// Raises the floors that the token proves, once. Only for a token in its time.
    pub(crate) fn teach(&mut self, replica: &mut Replica) {
        if !self.taught {
            self.token.teach(replica, LEARN_MARGIN);
            self.taught = true;
        }
    }
}

/// The verified tokens of an instance; the one that was not used for longest makes room.
pub(crate) struct Tokens {
    known: LruCache<String, Known>,
    before: Before,
}

impl Tokens {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { known: LruCache::new(TOKENS_MAX), before: Before::default() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// Forgets all: another key set counts now.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }

    /// The token, verified now or before.
    ///
    /// # Errors
    ///
    /// What is wrong with it, apart from time and floors.
    pub(crate) fn verified(
        &mut self,
        text: &str,
        keys: &KeySet,
        expected: Expected<'_>,
    ) -> Result<&mut Known, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        let mut is_again = true;
        let Self { known, before } = self;
        let known = known.try_get_or_insert_mut_ref(text, || {
            is_again = false;
            let token = AccessToken::verify_after(text, before, keys, &Runtime, expected)?;
            let identity = identity::lines(token.claims());
            Ok::<_, TokenError>(Known { identity, asserted: OnceCell::new(), token, is_again, taught: false })
        })?;
        known.is_again = is_again;
        Ok(known)
    }
}
