//! The making of an assertion alone, and what signing it would cost in other ways.

use ::origin::config::SigningAlgorithm;
use anyhow::Context as _;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use portcullis_tests::ASSERTION_KEY;

use super::signature::turn;
use crate::{
    report::{Report, Table, figure},
    stats::{median, range},
    tokens::Mint,
    workerd::Worker,
};

/// Assertions per request: what the request itself costs is taken off.
const MADE: u32 = 100;

/// What of an assertion is signed, in bytes, as a rule.
const SIGNED_BYTES: u32 = 480;

const HOW: [(&str, &str); 4] = [
    ("wasm", "all of it in Wasm, as the gate does"),
    ("hmac", "HMAC-SHA-256 alone, crypto.subtle, awaited"),
    ("node", "HMAC-SHA-256 alone, node:crypto, synchronous"),
    ("ed25519", "Ed25519 alone, crypto.subtle, awaited"),
];

/// Adds the table of assertions.
///
/// # Errors
///
/// workerd fails, or nothing is signed.
pub(super) async fn measure(report: &mut Report, rounds: u32) -> anyhow::Result<()> {
    let token = Mint::new(SigningAlgorithm::Ed25519)?.mint(1)?.remove(0);
    let claims = token.split('.').nth(1).and_then(|part| Base64UrlUnpadded::decode_vec(part).ok());
    let claims = String::from_utf8(claims.context("the token has no claims")?)?;
    let worker = Worker::with_wasm("assertion.mjs")?
        .with("KEY", ASSERTION_KEY)
        .with("CLAIMS", claims)
        .with("BYTES", SIGNED_BYTES);
    let workerd = worker.start()?;
    let mut costs = HOW.map(|_| Vec::new());
    for round in 0..=rounds {
        let bare = turn(&workerd, "/none/0").await?;
        for (costs, (how, _)) in costs.iter_mut().zip(HOW) {
            let cost = turn(&workerd, &format!("/{how}/{MADE}")).await?;
            if round > 0 {
                costs.push((cost - bare) / f64::from(MADE));
            }
        }
    }
    let title = format!("An assertion, {MADE} in a request, the request itself taken off");
    let mut table = Table::new(title, ["", "µs each", "rounds from, to"]);
    for (costs, (_, name)) in costs.iter().zip(HOW) {
        let (low, high) = range(costs);
        table.row([name.to_owned(), figure(median(costs)), format!("{}, {}", figure(low), figure(high))]);
    }
    report.table(table);
    Ok(())
}
