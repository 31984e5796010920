//! The signature check alone, by everything that could do it inside workerd.

use ::origin::config::SigningAlgorithm;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64ct::{Base64, Encoding as _};
use hyper::StatusCode;

use crate::{
    client::{get, send_all},
    report::{Report, Table, figure},
    stats::{median, range, ratio},
    tokens::Mint,
    workerd::{Worker, Workerd},
};

/// Checks per request: what the request itself costs is taken off.
const CHECKS: u32 = 50;

const REQUESTS: u32 = 40;

const HOW: [(&str, &str); 3] = [
    ("subtle", "crypto.subtle, awaited"),
    ("node", "node:crypto, synchronous"),
    ("wasm", "ed25519-dalek in Wasm, synchronous"),
];

/// Adds the table of signature checks.
///
/// # Errors
///
/// workerd fails, or a check refuses a good signature.
pub(super) async fn measure(report: &mut Report, rounds: u32) -> anyhow::Result<()> {
    let token = Mint::new(SigningAlgorithm::Ed25519)?.mint(1)?.remove(0);
    // As long as what is signed of a token, but under a key whose bytes are at hand.
    let message = token.rsplit_once('.').map_or(token.as_str(), |(signed, _)| signed);
    let key = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?.as_ref())?;
    let worker = Worker::with_wasm("signature.mjs")?
        .with("KEY", Base64::encode_string(key.public_key().as_ref()))
        .with("MESSAGE", Base64::encode_string(message.as_bytes()))
        .with("SIGNATURE", Base64::encode_string(key.sign(message.as_bytes()).as_ref()));
    let workerd = worker.start()?;
    let mut costs = HOW.map(|_| Vec::new());
    for round in 0..=rounds {
        let bare = turn(&workerd, "/none/0").await?;
        for (costs, (how, _)) in costs.iter_mut().zip(HOW) {
            let cost = turn(&workerd, &format!("/{how}/{CHECKS}")).await?;
            if round > 0 {
                costs.push((cost - bare) / f64::from(CHECKS));
            }
        }
    }
    let title =
        format!("Ed25519 check of {} bytes, {CHECKS} in a request, the request itself taken off", message.len());
    let mut table = Table::new(title, ["", "µs a check", "rounds from, to", "of crypto.subtle"]);
    let [subtle, ..] = &costs;
    for (costs, (_, name)) in costs.iter().zip(HOW) {
        let (median, (low, high)) = (median(costs), range(costs));
        table.row([
            name.to_owned(),
            figure(median),
            format!("{}, {}", figure(low), figure(high)),
            figure(ratio(costs, subtle)),
        ]);
    }
    report.table(table);
    Ok(())
}

/// Microseconds per request.
pub(super) async fn turn(workerd: &Workerd, path: &str) -> anyhow::Result<f64> {
    let requests = (0..REQUESTS).map(|_| get(path, "none")).collect::<Result<Vec<_>, _>>()?;
    let before = workerd.process.cpu()?;
    send_all(workerd.address("main")?, 1, requests, StatusCode::NO_CONTENT).await?;
    Ok(workerd.process.cpu()?.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(REQUESTS))
}
