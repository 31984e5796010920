//! What can be wrong with a signature.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::json;
use shared::token::TokenError;

use super::{Table, encode, es256, with};

/// The order of the group of Ed25519, least significant byte first (RFC 8032 §5.1).
const ED25519_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The order of the group of P-256, most significant byte first (SEC 2 §2.4.2).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// A point of order 8 of edwards25519.
const SMALL_ORDER_POINT: [u8; 32] = [
    0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53,
    0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
];

pub(super) fn add(table: &mut Table<'_>) {
    changed_bytes(table);
    ed25519(table);
    p256(table);
}

/// Sampled, since each is checked in every place; every single byte is flipped beside the check itself.
fn changed_bytes(table: &mut Table<'_>) {
    let forge = table.forge;
    let good = forge.good();
    table.counts("TOK-16", "as it was signed", good.clone());
    let payload_at = good.find('.').map_or(0, |at| at + 1);
    let signature_at = good.rfind('.').map_or(0, |at| at + 1);
    for at in (payload_at..signature_at - 2).step_by(29).chain((signature_at..good.len() - 1).step_by(13)) {
        let (before, after) = good.split_at(at);
        let other = if after.starts_with('A') { 'B' } else { 'A' };
        let token = format!("{before}{other}{}", after.get(1..).unwrap_or_default());
        table.refused("TOK-16", format!("another character at {at}"), token, TokenError::Signature);
    }
    let Ok(stranger) = Ed25519KeyPair::from_seed_unchecked(&[99; 32]) else { return };
    let (text, signature) = good.rsplit_once('.').unwrap_or_default();
    let by_stranger = format!("{text}.{}", encode(stranger.sign(text.as_bytes())));
    table.refused("TOK-16", "signed by another key under this kid", by_stranger, TokenError::Signature);
    let header = encode(forge.header().to_string());
    let richer = encode(with(forge.claims.clone(), "roles", Some(json!(["admin", "root"]))).to_string());
    let token = format!("{header}.{richer}.{signature}");
    table.refused("TOK-16", "the signature of other claims", token, TokenError::Signature);
}

fn ed25519(table: &mut Table<'_>) {
    let good = table.forge.good();
    let (text, signature) = good.rsplit_once('.').unwrap_or_default();
    let signature = Base64UrlUnpadded::decode_vec(signature).unwrap_or_default();
    let (r, s) = signature.split_at(32);
    let identity = [&[1_u8][..], &[0; 31]].concat();
    let mut cases = vec![
        ("S + L", [r, &sum(s, &ED25519_ORDER)].concat()),
        ("S is L", [r, &ED25519_ORDER[..]].concat()),
        ("R and S exchanged", [s, r].concat()),
        ("nothing but zero", vec![0; 64]),
        ("nothing but ones", vec![255; 64]),
        ("R is the neutral element, S is 0", [&identity[..], &[0; 32]].concat()),
        ("R is of small order", [&SMALL_ORDER_POINT[..], s].concat()),
        ("R is of small order, S is 0", [&SMALL_ORDER_POINT[..], &[0; 32]].concat()),
        ("R is not canonical", [&[0xed_u8][..], &[0xff; 30], &[0x7f], s].concat()),
        ("a byte too few", signature.get(..63).unwrap_or_default().to_vec()),
        ("a byte too many", [&signature[..], &[0]].concat()),
        ("half of it", r.to_vec()),
        ("twice", [&signature[..], &signature[..]].concat()),
    ];
    let mut high = signature.clone();
    if let Some(last) = high.last_mut() {
        *last |= 0x80;
    }
    cases.push(("the highest bit of S", high));
    for (name, signature) in cases {
        table.refused(
            "TOK-21",
            format!("Ed25519, {name}"),
            format!("{text}.{}", encode(signature)),
            TokenError::Signature,
        );
    }
    table.counts("TOK-21", "Ed25519", good);
}

fn p256(table: &mut Table<'_>) {
    let forge = table.forge;
    let Some(key) = &forge.es256 else { return };
    let header = json!({ "typ": "at+jwt", "alg": "ES256", "kid": "es" }).to_string();
    let text = format!("{}.{}", encode(header), encode(forge.claims.to_string()));
    let signature = es256(key, &text);
    let (r, s) = signature.split_at(32);
    let token = |signature: &[u8]| format!("{text}.{}", encode(signature));
    table.counts("TOK-21", "ES256", token(&signature));
    // RFC 7518 §3.4 asks for no particular one of the two; tokens are remembered by all of their bytes.
    table.counts("TOK-21", "ES256, the other S of the same signature", token(&[r, &p256_minus(s)].concat()));
    for (name, signature) in [
        ("R is 0", [&[0; 32][..], s].concat()),
        ("S is 0", [r, &[0; 32]].concat()),
        ("nothing but zero", vec![0; 64]),
        ("R is the order", [&P256_ORDER[..], s].concat()),
        ("S is the order", [r, &P256_ORDER].concat()),
        ("R and S are 1", [&[0; 31][..], &[1], &[0; 31], &[1]].concat()),
        ("R and S exchanged", [s, r].concat()),
        ("a byte too few", signature.get(1..).unwrap_or_default().to_vec()),
        ("a byte too many", [&[0], &signature[..]].concat()),
        ("as DER", der(r, s)),
    ] {
        table.refused("TOK-21", format!("ES256, {name}"), token(&signature), TokenError::Signature);
    }
}

/// Least significant byte first, without the last carry.
fn sum(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut carry = 0;
    let add = |(a, b): (&u8, &u8)| {
        let sum = u16::from(*a) + u16::from(*b) + carry;
        carry = sum >> 8;
        sum.to_le_bytes()[0]
    };
    a.iter().zip(b).map(add).collect()
}

/// The order of P-256 less `number`, most significant byte first.
fn p256_minus(number: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let subtract = |(a, b): (&u8, &u8)| {
        let difference = i16::from(*a) - i16::from(*b) - borrow;
        borrow = i16::from(difference < 0);
        difference.to_le_bytes()[0]
    };
    let mut bytes: Vec<u8> = P256_ORDER.iter().rev().zip(number.iter().rev()).map(subtract).collect();
    bytes.reverse();
    bytes
}

/// ECDSA-Sig-Value of RFC 3279 §2.2.3, which JOSE does not use.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| [&[2, 33, 0][..], number].concat();
    [&[0x30, 70][..], &integer(r), &integer(s)].concat()
}
