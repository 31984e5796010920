//! Refresh tokens: opaque to everyone but the origin, self-checking, never stored.
//!
//! Wire format: `rt_` ‖ base64url(session id 16 ‖ generation u32 ‖ HMAC-SHA256(pepper, session id ‖ generation ‖ seed) 32).
//! The record holds only generation and seed and the pepper never reaches the store, so the store leaks no credential, any
//! old generation is recognised as exactly that, and a successor can be computed again.

use alloc::{format, string::String};
use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::id::{ClientId, SessionId};

const PREFIX: &str = "rt_";
const BYTES: usize = 16 + 4 + 32;

/// Length of a refresh token's text in bytes.
pub const TEXT_LEN: usize = PREFIX.len() + (BYTES * 4).div_ceil(3);

/// The secret that refresh tokens are authenticated with. Kept out of the store.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl Pepper {
    /// From 32 bytes of key material.
    pub fn new(bytes: &[u8; 32]) -> Option<Self> {
        Hmac::new_from_slice(bytes).ok().map(Self)
    }

    fn mac(&self, session: &SessionId, generation: Generation, seed: &Seed) -> Hmac<Sha256> {
        self.0.clone().chain_update(session.as_bytes()).chain_update(generation.0.to_be_bytes()).chain_update(seed.0)
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

/// Counts the rotations of a session's refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// The next one; none after 2³² rotations, when the session has to end.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// Random bytes of a session, so that its tokens cannot be made for another session with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Seed(pub [u8; 16]);

/// Where a refresh came from: client and user agent, as a truncated hash. Tells a retry from a thief.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClientContext([u8; 8]);

impl ClientContext {
    /// Of a client and the user agent it named.
    pub fn new(client: &ClientId, user_agent: Option<&str>) -> Self {
        let digest = Sha256::new()
            .chain_update(b"portcullis client context 1")
            .chain_update(client.as_str().as_bytes())
            .chain_update([0])
            .chain_update(user_agent.unwrap_or_default().as_bytes())
            .finalize();
        let mut context = [0; 8];
        for (to, from) in context.iter_mut().zip(digest) {
            *to = from;
        }
        Self(context)
    }
}

/// A refresh token as it was presented; nothing in it counts before [`Self::is_authentic`].
pub struct PresentedToken {
    session: SessionId,
    generation: Generation,
    mac: [u8; 32],
}

impl PresentedToken {
    /// Reads a token's text; none if it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; BYTES];
        let text = text.strip_prefix(PREFIX).filter(|_| text.len() == TEXT_LEN)?;
        let decoded = Base64UrlUnpadded::decode(text, &mut bytes).ok()?;
        let (session, rest) = decoded.split_first_chunk()?;
        let (generation, mac) = rest.split_first_chunk()?;
        Some(Self {
            session: SessionId::from_random(*session),
            generation: Generation(u32::from_be_bytes(*generation)),
            mac: mac.try_into().ok()?,
        })
    }

    /// The session that the token says it belongs to: for looking it up, not for believing it.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The generation, if the origin made this token for a session with this seed. Takes the same time either way.
    pub fn generation(&self, pepper: &Pepper, seed: &Seed) -> Option<Generation> {
        let mac = pepper.mac(&self.session, self.generation, seed);
        mac.verify_slice(&self.mac).is_ok().then_some(self.generation)
    }
}

/// Makes the refresh token of a session and generation.
pub fn issue(pepper: &Pepper, session: &SessionId, generation: Generation, seed: &Seed) -> String {
    let mac: [u8; 32] = pepper.mac(session, generation, seed).finalize().into_bytes().into();
    let mut bytes = [0; BYTES];
    let parts = session.as_bytes().iter().copied().chain(generation.0.to_be_bytes()).chain(mac);
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = from;
    }
    format!("{PREFIX}{}", Base64UrlUnpadded::encode_string(&bytes))
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use proptest::prelude::*;

    use super::*;

    const SEED: Seed = Seed([3; 16]);

    fn pepper() -> Pepper {
        Pepper::new(&[9; 32]).unwrap()
    }

    fn token() -> String {
        issue(&pepper(), &SessionId::from_random([7; 16]), Generation(5), &SEED)
    }

    #[test]
    fn a_token_reads_back_and_is_the_same_each_time() {
        assert_eq!(token().len(), TEXT_LEN);
        assert_eq!(token(), token());
        let read = PresentedToken::parse(&token()).unwrap();
        assert_eq!(read.session(), &SessionId::from_random([7; 16]));
        assert_eq!(read.generation(&pepper(), &SEED), Some(Generation(5)));
    }

    /// REF-07, REF-08: neither session nor generation nor MAC can be changed, and another seed or pepper accepts nothing.
    #[test]
    fn no_changed_token_is_authentic() {
        let text = token();
        for at in PREFIX.len()..text.len() {
            for other in ["A", "B", "_"] {
                let mut changed = text.clone();
                changed.replace_range(at..=at, other);
                if changed != text {
                    let accepted = PresentedToken::parse(&changed).and_then(|token| token.generation(&pepper(), &SEED));
                    assert_eq!(accepted, None, "{at}");
                }
            }
        }
        let read = PresentedToken::parse(&text).unwrap();
        assert_eq!(read.generation(&pepper(), &Seed([4; 16])), None);
        assert_eq!(read.generation(&Pepper::new(&[8; 32]).unwrap(), &SEED), None);
    }

    #[test]
    fn a_context_tells_clients_and_agents_apart() {
        let client: ClientId = "web".parse().unwrap();
        let other: ClientId = "app".parse().unwrap();
        let context = ClientContext::new(&client, Some("Firefox"));
        assert_eq!(context, ClientContext::new(&client, Some("Firefox")));
        assert_ne!(context, ClientContext::new(&client, None));
        assert_ne!(context, ClientContext::new(&other, Some("Firefox")));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(rt_)?[A-Za-z0-9_=-]{0,80}") {
            if let Some(token) = PresentedToken::parse(&text) {
                prop_assert_eq!(token.session().to_string().len(), SessionId::TEXT_LEN);
            }
        }
    }
}
