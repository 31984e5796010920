//! Signatures: real ones, or quick ones for runs by the thousand.

use std::sync::LazyLock;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use shared::{
    feed::{self, Header, SIGNATURE_LEN},
    keys::{KeySet, PublicKey, VerifySignature},
    revocation::Floor,
    token::Claims,
};

/// Key ids of the tokens; each counts until it is revoked.
pub(crate) const KIDS: [&str; 6] = ["k0", "k1", "k2", "k3", "k4", "k5"];

/// How frames and tokens are signed. One key serves for both, since nothing here tries to mix them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signatures {
    /// Ed25519.
    Real,
    /// A checksum, which keeps out what was damaged, and nobody who wants in.
    Quick,
}

static PAIR: LazyLock<Option<Ed25519KeyPair>> = LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).ok());

impl Signatures {
    pub(crate) fn key(self) -> PublicKey {
        let real = PAIR.as_ref().and_then(|pair| pair.public_key().as_ref().try_into().ok());
        PublicKey::Ed25519(real.unwrap_or([7; 32]))
    }

    pub(crate) fn token_keys(self) -> KeySet {
        KeySet::new(KIDS.map(|kid| (kid.to_owned(), self.key()))).unwrap_or_default()
    }

    pub(crate) fn frame(self, header: &Header, body: &[u8]) -> Vec<u8> {
        feed::assemble::<()>(header, body, |message| Ok(self.sign(message))).unwrap_or_default()
    }

    pub(crate) fn floors(self, header: &Header, floors: &[Floor]) -> Vec<u8> {
        self.frame(header, &feed::encode_floors(floors))
    }

    pub(crate) fn token(self, kid: &str, claims: &Claims) -> String {
        let encode = Base64UrlUnpadded::encode_string;
        let header = format!(r#"{{"typ":"at+jwt","alg":"Ed25519","kid":"{kid}"}}"#);
        let claims = serde_json::to_vec(claims).unwrap_or_default();
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(&claims));
        format!("{signed}.{}", encode(&self.sign(signed.as_bytes())))
    }

    fn sign(self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        match (self, PAIR.as_ref()) {
            (Self::Real, Some(pair)) => pair.sign(message).as_ref().try_into().unwrap_or([0; SIGNATURE_LEN]),
            _ => checksum(message),
        }
    }
}

impl VerifySignature for Signatures {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Real => UnparsedPublicKey::new(&ED25519, key.as_bytes()).verify(message, signature).is_ok(),
            Self::Quick => checksum(message) == signature,
        }
    }
}

fn checksum(message: &[u8]) -> [u8; SIGNATURE_LEN] {
    let sum = message.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let mut signature = [0; SIGNATURE_LEN];
    for chunk in signature.chunks_exact_mut(8) {
        chunk.copy_from_slice(&sum.to_be_bytes());
    }
    signature
}
