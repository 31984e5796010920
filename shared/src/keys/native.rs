//! Signature checks with aws-lc-rs, for everything that does not run at the edge.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};

use super::{PublicKey, VerifySignature};

/// Checks signatures natively.
#[derive(Debug, Clone, Copy)]
pub struct Verifier;

impl VerifySignature for Verifier {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let key = match key {
            PublicKey::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key.as_slice()),
            PublicKey::Es256(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.as_slice()),
        };
        key.verify(message, signature).is_ok()
    }
}
