//! The runtime's own signature check, behind the port that `shared` asks for.

use shared::keys::{Algorithm, PublicKey, VerifySignature};
use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen(module = "/src/verify.js")]
extern "C" {
    fn verify(algorithm: u8, key: &[u8], message: &[u8], signature: &[u8]) -> bool;
}

/// Checks with `node:crypto` of the runtime, synchronously.
pub(crate) struct Runtime;

impl VerifySignature for Runtime {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let algorithm = match key.algorithm() {
            Algorithm::Ed25519 => 1,
            Algorithm::Es256 => 2,
        };
        signature.len() == 64 && verify(algorithm, key.as_bytes(), message, signature)
    }
}
