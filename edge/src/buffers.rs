//! The memory that the entry module and the gate share: a request goes in, what belongs to the verdict comes out, without a
//! copy or a conversion by the generated glue.
//!
//! Invariant: both buffers are made once per instance and never move or grow.

use std::cell::{Cell, RefCell};

use shared::time::Timestamp;
use wasm_bindgen::{JsValue, prelude::wasm_bindgen};

/// Method, URL and the headers that count: a URL of 16 KiB, cookies of 8 KiB and room for the rest.
const INPUT_BYTES_MAX: usize = 32 * 1024;

/// Identity headers and the cookies that go on to the application.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// What most answers have room in.
const SAID_BYTES: usize = 256;

struct Buffers {
    input: Box<[u8]>,
    output: Box<[u8]>,
}

thread_local! {
    // A box, so that its place does not depend on where the instance keeps its thread locals.
    static NUMBERS: Box<[Cell<f64>; 2]> = Box::default();
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        input: vec![0; INPUT_BYTES_MAX].into_boxed_slice(),
        output: vec![0; OUTPUT_BYTES_MAX].into_boxed_slice(),
    });
}

/// A page of linear memory.
const PAGE_BYTES: usize = 64 * 1024;

/// The memory of this instance, a `WebAssembly.Memory`.
#[wasm_bindgen]
pub fn linear_memory() -> JsValue {
    wasm_bindgen::memory()
}

/// The bytes of the linear memory: all that this instance ever needed at once.
pub(crate) fn memory_bytes() -> usize {
    core::arch::wasm32::memory_size::<0>().saturating_mul(PAGE_BYTES)
}

/// `[address, length]` of the input, then of the output, in bytes of [`linear_memory`], then the address of two numbers (f64):
/// until when the last request may be allowed again without being judged (exclusively, ms of the Unix epoch, 0 for not at all),
/// and one that is another one once something changed that ends all of these allowances.
#[wasm_bindgen]
pub fn buffers() -> Vec<u32> {
    let place = |bytes: &[u8]| [bytes.as_ptr().addr(), bytes.len()].map(|number| u32::try_from(number).unwrap_or(0));
    let numbers = NUMBERS.with(|numbers| numbers.as_ptr().addr());
    BUFFERS.with_borrow(|Buffers { input, output }| {
        place(input).into_iter().chain(place(output)).chain([u32::try_from(numbers).unwrap_or(0)]).collect()
    })
}

/// Says until when the last request may be allowed again without being judged.
#[expect(clippy::cast_precision_loss, reason = "whole and exact for longer than there will be requests")]
pub(crate) fn tell_until(until: Timestamp) {
    NUMBERS.with(|numbers| numbers[0].set(until.as_millis() as f64));
}

/// Says the number of the state under which requests are allowed.
#[expect(clippy::cast_precision_loss, reason = "whole and exact for longer than an instance can live")]
pub(crate) fn tell_changes(changes: u64) {
    NUMBERS.with(|numbers| numbers[1].set(changes as f64));
}

/// Reads the first `length` bytes of the input as text, answers, and puts the answer's text into the output. None if the
/// input is no text, or the answer has no room.
pub(crate) fn exchange<T>(length: u32, answer: impl FnOnce(&str, &mut String) -> T) -> Option<(T, u16)> {
    BUFFERS.with_borrow_mut(|Buffers { input, output }| {
        let text = input.get(..usize::try_from(length).ok()?)?;
        let mut said = String::with_capacity(SAID_BYTES);
        let verdict = answer(core::str::from_utf8(text).ok()?, &mut said);
        output.get_mut(..said.len())?.copy_from_slice(said.as_bytes());
        Some((verdict, u16::try_from(said.len()).ok()?))
    })
}
