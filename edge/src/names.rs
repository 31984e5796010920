//! What the entry module has to know of headers and assertions: it stands in `shared` once, for gate and guard.

use shared::{assertion, identity};
use wasm_bindgen::prelude::wasm_bindgen;

/// How long an assertion counts, in milliseconds.
#[wasm_bindgen]
pub fn assertion_ms() -> u32 {
    u32::try_from(assertion::LIFETIME.as_millis()).unwrap_or(0)
}

/// In lower case, a line each: the headers of the identity in their order, that of the assertion, what all of these begin
/// with, and the headers that turn a request into another one. Names within a line are separated by spaces.
#[wasm_bindgen]
pub fn header_names() -> String {
    [&identity::HEADERS.join(" "), assertion::HEADER, identity::PREFIX, &identity::OVERRIDES.join(" ")].join("\n")
}
