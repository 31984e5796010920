//! What the benchmarks measure inside WebAssembly: a signature check of a library, the making of assertions, and the floors.

use ed25519_dalek::{Signature, VerifyingKey};
use shared::{
    assertion::{Asserted, AssertionKey, Forwarded, Parties},
    jws,
    revocation::{Floor, FloorKey, Floors, Version},
    time::Timestamp,
};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

/// Checks Ed25519 signatures of one key with `ed25519-dalek`.
#[wasm_bindgen]
pub struct Checker(VerifyingKey);

#[wasm_bindgen]
impl Checker {
    /// Takes the 32 bytes of the key.
    ///
    /// # Errors
    ///
    /// They are no key.
    #[wasm_bindgen(constructor)]
    pub fn new(key: &[u8]) -> Result<Self, JsError> {
        Ok(Self(VerifyingKey::try_from(key)?))
    }

    /// Whether `signature` is one of `message`, by the strict rules of RFC 8032.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

/// Makes assertions on one request, as the gate does.
#[wasm_bindgen]
pub struct Asserter {
    key: AssertionKey,
    asserted: Asserted,
}

#[wasm_bindgen]
impl Asserter {
    /// Takes the 64 digits of the key, and the claims of an access token as JSON.
    ///
    /// # Errors
    ///
    /// They are none.
    #[wasm_bindgen(constructor)]
    pub fn new(key: &str, claims: &str) -> Result<Self, JsError> {
        let claims = jws::object(claims.as_bytes()).ok_or_else(|| JsError::new("these are no claims"))?;
        Ok(Self { key: AssertionKey::from_hex(key)?, asserted: Asserted::of(&claims) })
    }

    /// The length of an assertion made at this time, in milliseconds.
    pub fn make(&self, now_ms: u32) -> usize {
        let parties = Parties { issuer: "https://id.example", upstream: "app" };
        let request = Forwarded { method: "GET", path: "/app/orders/4711", query: "?page=2&sort=date" };
        let now = Timestamp::from_millis(u64::from(now_ms));
        let made = self.key.assert(parties, request, "app.example", &self.asserted, now);
        made.map_or(0, |text| text.len())
    }
}

/// A set of floors by number, natively or in WebAssembly.
#[wasm_bindgen]
pub struct Many(Floors);

#[wasm_bindgen]
impl Many {
    /// A set of `count` floors.
    #[wasm_bindgen(constructor)]
    pub fn new(count: u32) -> Self {
        let mut many = Self(Floors::new());
        many.merge(0, count);
        many
    }

    /// Joins `count` floors from the `first` on.
    pub fn merge(&mut self, first: u32, count: u32) {
        for number in first..first.saturating_add(count) {
            let forget_at = Timestamp::from_secs(1);
            self.0.join(Floor { key: key(number), lowest: Version::INITIAL, forget_at });
        }
    }

    /// Looks up `count` floors from the `first` on; how many of them are there.
    pub fn look_up(&self, first: u32, count: u32) -> u32 {
        let numbers = first..first.saturating_add(count);
        numbers.fold(0, |found, number| found + u32::from(self.0.lowest(&key(number)) > Version::NONE))
    }

    /// The bytes that the set takes.
    pub fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }
}

/// Two rounds of SplitMix64: spread like the SHA-256 that real keys are cut from, in a few nanoseconds.
fn key(number: u32) -> FloorKey {
    let half = |salt: u64| {
        let mixed = (u64::from(number) ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    FloorKey::from_bytes((u128::from(half(1 << 40)) << 64 | u128::from(half(1 << 41))).to_be_bytes())
}
