//! What only the owner of an installation or a client knows, for tests that act as one of them, or look for it elsewhere.

use std::collections::HashMap;

use ::origin::{
    config::{Config, secrets::MasterKey},
    keys::Sealer,
    server::open_store,
    store::Key,
};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};

use crate::{MASTER_KEY, eventually};

/// The shortest piece of a credential that is looked for, in bytes.
const PIECE_BYTES: usize = 16;

/// The signing keys of a stopped origin, as they lie in its store once they are unsealed: `tokens` and `feed`, PKCS#8 in
/// base64url.
///
/// # Errors
///
/// The store does not open, or holds no keys of [`MASTER_KEY`].
pub async fn private_keys(config: &Config) -> anyhow::Result<Value> {
    // The origin before may still hold the lock of the file.
    let store = eventually("the store", async || open_store(config).await.ok()).await?;
    let sealed = store.load(&Key::Keys).await?.unwrap_or_default();
    let opened = Sealer::new(&MasterKey::new(MASTER_KEY))?.open("signing keys", &sealed)?;
    Ok(serde_json::from_slice(&opened)?)
}

/// By which a client with this key shows the origin who it is (`private_key_jwt`, RFC 7523 §2.2), for a minute.
pub fn assertion(client: &str, issuer: &str, key: &Ed25519KeyPair, jti: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let part = |value: Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let claims = json!({ "iss": client, "sub": client, "aud": issuer, "exp": now + 60, "jti": jti });
    let signed = format!("{}.{}", part(json!({ "alg": "Ed25519" })), part(claims));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", Base64UrlUnpadded::encode_string(signature.as_ref()))
}

/// What must be found nowhere: names for the failure and bytes, by the last of these, so that one pass looks for all of them.
#[derive(Default)]
pub struct Canaries(HashMap<[u8; PIECE_BYTES], Vec<(&'static str, Vec<u8>)>>);

impl Canaries {
    fn whole(&mut self, name: &'static str, bytes: &[u8]) {
        if let Some(end) = bytes.last_chunk() {
            self.0.entry(*end).or_default().push((name, bytes.to_vec()));
        }
    }

    /// Bytes that are secret, raw and in every alphabet, and every piece of these.
    pub fn add(&mut self, name: &'static str, secret: &[u8]) {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let spelled = [Base64UrlUnpadded::encode_string(secret), Base64::encode_string(secret), hex];
        for whole in spelled.iter().map(String::as_bytes).chain([secret]) {
            whole.chunks_exact(PIECE_BYTES).for_each(|piece| self.whole(name, piece));
        }
    }

    /// A secret text, and what it says if it is base64url.
    pub fn add_text(&mut self, name: &'static str, text: &str) {
        assert!(text.len() >= PIECE_BYTES, "{name}");
        self.add(name, text.as_bytes());
        self.add(name, &Base64UrlUnpadded::decode_vec(text).unwrap_or_default());
    }

    /// An access token or a client assertion: its claims as they travel, and what proves them.
    pub fn add_jwt(&mut self, name: &'static str, token: &str) {
        let mut parts = token.split('.').skip(1);
        let (claims, signature) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        assert!(claims.len() >= PIECE_BYTES, "{name}");
        self.whole(name, claims.as_bytes());
        self.add_text(name, signature);
    }

    /// A refresh token: of its bytes those that prove the ones before, which are the session's id and a number.
    pub fn add_refresh_token(&mut self, name: &'static str, token: &str) {
        self.whole(name, token.as_bytes());
        self.whole(name, token.get(30..).unwrap_or_default().as_bytes());
        let decoded = Base64UrlUnpadded::decode_vec(token.trim_start_matches("rt_")).unwrap_or_default();
        assert_eq!(decoded.len(), 52, "{name}");
        self.add(name, decoded.get(20..).unwrap_or_default());
    }

    /// Both tokens of an answer.
    pub fn add_tokens(&mut self, answer: &Value) {
        let text = |name: &str| answer[name].as_str().unwrap_or_default();
        self.add_jwt("an access token", text("access_token"));
        self.add_refresh_token("a refresh token", text("refresh_token"));
    }

    /// The name of one that is there.
    pub fn found_in(&self, bytes: &[u8]) -> Option<&'static str> {
        bytes.windows(PIECE_BYTES).enumerate().find_map(|(at, end)| {
            let (before, candidates) = (bytes.get(..at + PIECE_BYTES)?, self.0.get(end)?);
            candidates.iter().find(|(_, canary)| before.ends_with(canary)).map(|(name, _)| *name)
        })
    }

    /// Fails if one is there, or nothing at all.
    pub fn assert_absent(&self, place: &str, bytes: impl AsRef<[u8]>) {
        assert!(bytes.as_ref().len() > 40, "{place} was written to");
        assert_eq!(self.found_in(bytes.as_ref()), None, "I10: in {place}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_found_in_every_alphabet() {
        let secret = b"0123456789abcdefFEDCBA9876543210";
        let mut canaries = Canaries::default();
        canaries.add("one", secret);
        canaries.add_refresh_token("two", &format!("rt_{}", Base64UrlUnpadded::encode_string(&[7; 52])));
        for (place, found) in [
            ("xx0123456789abcdefxx".to_owned(), Some("one")),
            ("xxFEDCBA9876543210".to_owned(), Some("one")),
            (Base64::encode_string(secret), Some("one")),
            (Base64UrlUnpadded::encode_string(&[7; 24]), Some("two")),
            ("xx0123456789abcdexx".to_owned(), None),
            ("0".to_owned(), None),
        ] {
            assert_eq!(canaries.found_in(place.as_bytes()), found, "{place}");
        }
    }
}
