//! Access tokens that a test signs itself, for gates whose keys are pinned.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};

use crate::GateSettings;

const ISSUER: &str = "https://issuer.example";

/// An issuer without an origin.
pub struct TestIssuer {
    key: Ed25519KeyPair,
}

impl TestIssuer {
    /// With a key of its own.
    ///
    /// # Errors
    ///
    /// No random numbers.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { key: Ed25519KeyPair::generate()? })
    }

    /// A gate that believes it, and nobody else.
    pub fn settings(&self) -> GateSettings {
        let x = encode(self.key.public_key().as_ref());
        let keys = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": x }] });
        let settings = GateSettings::default().with("ISSUER", ISSUER).with("AUDIENCE", "app");
        settings.with("TRUSTED_JWKS", &keys.to_string())
    }

    /// An access token of a session, which expires after this time.
    ///
    /// # Errors
    ///
    /// The clock is wrong.
    pub fn token(&self, session: &str, lifetime: Duration) -> anyhow::Result<String> {
        self.token_of_version(1, session, lifetime)
    }

    /// As [`Self::token`], of a later version of the session.
    ///
    /// # Errors
    ///
    /// The clock is wrong.
    pub fn token_of_version(&self, version: u64, session: &str, lifetime: Duration) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": ISSUER, "sub": "alice", "aud": "app", "exp": now + lifetime.as_secs(), "iat": now, "jti": "j",
            "client_id": "web", "sid": session, "ver": [version, 1, 0, 1], "auth_time": now,
        });
        let header = json!({ "typ": "at+jwt", "alg": "EdDSA", "kid": "ed" });
        Ok(signed(&header, &claims, |message| self.key.sign(message).as_ref().to_vec()))
    }
}

/// A JWT of these parts.
pub fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    format!("{signed}.{}", encode(&sign(signed.as_bytes())))
}

fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}
