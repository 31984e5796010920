//! Token vectors: which access tokens count and which do not, kept once for every place that checks tokens.
//!
//! A vector is a good token with one thing changed, under the requirement that says what becomes of it. Under each requirement
//! there are tokens that count and tokens that do not.

mod claims;
mod form;
mod signatures;

use std::{
    ops::Range,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};
use shared::token::TokenError;

/// A token and what becomes of it.
#[derive(Debug, Clone)]
pub struct Vector {
    /// The requirement.
    pub id: &'static str,
    /// What is special about the token.
    pub name: String,
    /// The token.
    pub token: String,
    /// Why it does not count, if it does not.
    pub refused: Option<TokenError>,
}

/// Whose tokens the vectors are: an issuer's keys, and the claims of a good token of its.
pub struct Forge {
    /// The `kid` of [`Self::ed25519`].
    pub kid: String,
    /// Signs all but a few.
    pub ed25519: Ed25519KeyPair,
    /// Signs those for ES256, under the `kid` `es`; without it there are none of these.
    pub es256: Option<EcdsaKeyPair>,
    /// The claims of a token that counts now.
    pub claims: Value,
    /// Now, Unix seconds.
    pub now: u64,
    /// An address that nobody may ask for keys.
    pub elsewhere: String,
}

/// Every vector, for a checker that trusts these keys.
pub fn vectors(forge: &Forge) -> Vec<Vector> {
    let mut table = Table { forge, vectors: Vec::new() };
    form::add(&mut table);
    claims::add(&mut table);
    signatures::add(&mut table);
    table.vectors
}

/// The vectors so far.
struct Table<'a> {
    forge: &'a Forge,
    vectors: Vec<Vector>,
}

impl Table<'_> {
    fn counts(&mut self, id: &'static str, name: impl Into<String>, token: String) {
        self.vectors.push(Vector { id, name: name.into(), token, refused: None });
    }

    fn refused(&mut self, id: &'static str, name: impl Into<String>, token: String, why: TokenError) {
        self.vectors.push(Vector { id, name: name.into(), token, refused: Some(why) });
    }
}

impl Forge {
    /// One with keys of its own, for a checker that expects this issuer and audience.
    ///
    /// # Errors
    ///
    /// The library makes no key.
    pub fn new(issuer: &str, audience: &str, elsewhere: &str) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": issuer, "sub": "alice", "aud": audience, "exp": now + 300, "iat": now, "jti": "j", "client_id": "web",
            "sid": "AAAAAAAAAAAAAAAAAAAAAA", "ver": [1, 1, 0, 1], "roles": ["member"], "scope": "read", "auth_time": now,
        });
        Ok(Self {
            kid: "ed".to_owned(),
            ed25519: Ed25519KeyPair::generate()?,
            es256: Some(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?),
            claims,
            now,
            elsewhere: elsewhere.to_owned(),
        })
    }

    /// Its public keys.
    pub fn jwks(&self) -> String {
        let x = encode(self.ed25519.public_key());
        let mut keys = vec![json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x })];
        keys.extend(self.es256.as_ref().map(|key| {
            let point = key.public_key().as_ref();
            let part = |range| encode(point.get::<Range<usize>>(range).unwrap_or_default());
            json!({ "kty": "EC", "crv": "P-256", "kid": "es", "x": part(1..33), "y": part(33..65) })
        }));
        json!({ "keys": keys }).to_string()
    }

    fn header(&self) -> Value {
        json!({ "typ": "at+jwt", "alg": "Ed25519", "kid": self.kid })
    }

    fn good(&self) -> String {
        self.token(self.header().to_string(), self.claims.to_string())
    }

    /// A good token with one member of the header set, or taken away by `None`.
    fn with_header(&self, name: &str, value: Option<Value>) -> String {
        self.token(with(self.header(), name, value).to_string(), self.claims.to_string())
    }

    /// A good token with one claim set, or taken away by `None`.
    fn with_claim(&self, name: &str, value: Option<Value>) -> String {
        self.token(self.header().to_string(), with(self.claims.clone(), name, value).to_string())
    }

    /// A good token with one claim that is written like this.
    fn with_text_claim(&self, name: &str, text: &str) -> String {
        let rest = with(self.claims.clone(), name, None).to_string();
        self.token(self.header().to_string(), rest.replacen('{', &format!("{{\"{name}\":{text},"), 1))
    }

    /// Signed by the key, whatever header and payload say.
    fn token(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        self.signed(&format!("{}.{}", encode(header), encode(payload)))
    }

    /// With the signature of the key over a text as it is.
    fn signed(&self, text: &str) -> String {
        format!("{text}.{}", encode(self.ed25519.sign(text.as_bytes())))
    }
}

fn with(mut object: Value, name: &str, value: Option<Value>) -> Value {
    if let Some(members) = object.as_object_mut() {
        match value {
            Some(value) => members.insert(name.to_owned(), value),
            None => members.remove(name),
        };
    }
    object
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
}

/// `r ‖ s` over a text.
fn es256(key: &EcdsaKeyPair, text: &str) -> Vec<u8> {
    key.sign(&SystemRandom::new(), text.as_bytes()).map(|signature| signature.as_ref().to_vec()).unwrap_or_default()
}
