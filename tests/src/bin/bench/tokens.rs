//! Access tokens as the origin mints them, made here so that there can be as many as a round needs.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ::origin::{config::SigningAlgorithm, keys::TokenKey};
use anyhow::Context as _;
use shared::{
    revocation::Version,
    token::{Audience, Claims},
};

/// `iss` of the tokens.
pub(crate) const ISSUER: &str = "https://id.bench.example";

/// `aud` of the tokens.
pub(crate) const AUDIENCE: &str = "portcullis";

/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// A key and what was signed with it so far.
pub(crate) struct Mint {
    key: TokenKey,
    minted: AtomicU64,
}

impl Mint {
    /// Draws a key.
    ///
    /// # Errors
    ///
    /// The library has no randomness.
    pub(crate) fn new(algorithm: SigningAlgorithm) -> anyhow::Result<Self> {
        let key = TokenKey::from_pkcs8(algorithm, &TokenKey::generate(algorithm)?)?;
        Ok(Self { key, minted: AtomicU64::new(0) })
    }

    /// The public key as a JWKS.
    ///
    /// # Errors
    ///
    /// None that can happen.
    pub(crate) fn jwks(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::json!({ "keys": [serde_json::to_value(self.key.jwk())?] }))
    }

    /// The next `count` tokens, each of another subject and session.
    ///
    /// # Errors
    ///
    /// The library fails.
    pub(crate) fn mint(&self, count: usize) -> anyhow::Result<Vec<String>> {
        (0..count).map(|_| self.mint_one()).collect()
    }

    fn mint_one(&self) -> anyhow::Result<String> {
        let number = self.minted.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
        let mut session = [0; 16];
        session[8..].copy_from_slice(&number.to_be_bytes());
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: format!("user-{number:08}").parse()?,
            aud: Audience::One(AUDIENCE.to_owned()),
            exp: (now + LIFETIME).as_secs(),
            iat: now.as_secs(),
            nbf: None,
            jti: format!("{number:022}"),
            client_id: "web".parse()?,
            sid: shared::id::SessionId::from_random(session),
            tid: Some("acme".parse()?),
            ver: [Version::INITIAL; 4],
            roles: vec!["member".parse()?, "editor".parse()?],
            scope: Some("read write".to_owned()),
            acr: None,
            amr: vec!["pwd".to_owned()],
            auth_time: Some(now.as_secs()),
        };
        Ok(self.key.sign(&serde_json::to_vec(&claims)?)?)
    }
}
