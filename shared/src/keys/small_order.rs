//! Points of small order of edwards25519: as public keys they have signatures that nobody needs a private key for.
//!
//! All that a reader takes for one of them is listed in Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs", table 1:
//! y is 0, 1, -1 or one of two others, and three of these have a second form above the prime.

/// y of the points of order 8, least significant byte first.
const ORDER_8: [[u8; 32]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Whether the bytes are read as a point whose order divides 8.
pub(super) fn is_of_small_order(point: &[u8; 32]) -> bool {
    let mut y = *point;
    // The sign of x.
    y[31] &= 0x7f;
    let [first, middle @ .., last] = &y;
    match (first, last) {
        (0 | 1, 0) => middle.iter().all(|byte| *byte == 0),
        (0xec..=0xee, 0x7f) => middle.iter().all(|byte| *byte == 0xff),
        _ => ORDER_8.contains(&y),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::keys::{KeyError, KeySet, PublicKey};

    fn y(first: u8, middle: u8, last: u8) -> [u8; 32] {
        let mut y = [middle; 32];
        (y[0], y[31]) = (first, last);
        y
    }

    /// TOK-21: whoever trusts such a key trusts everyone, so none is taken for a key.
    #[test]
    fn a_key_of_small_order_would_let_anyone_sign_and_is_refused() {
        let weak = [
            y(0, 0, 0),
            y(1, 0, 0),
            y(0xec, 0xff, 0x7f),
            y(0xed, 0xff, 0x7f),
            y(0xee, 0xff, 0x7f),
            ORDER_8[0],
            ORDER_8[1],
        ];
        for mut key in weak {
            for sign in [0, 0x80] {
                key[31] = key[31] & 0x7f | sign;
                let set = KeySet::new([("a".into(), PublicKey::Ed25519(key))]);
                assert_eq!(set, Err(KeyError::Weak), "{key:02x?}");
            }
        }
        let mut nothing = [0; 64];
        nothing[0] = 1;
        let neutral = UnparsedPublicKey::new(&ED25519, y(1, 0, 0));
        assert!(neutral.verify(b"any message", &nothing).is_ok(), "R is the neutral element, S is 0");
        for good in [y(2, 0, 0), y(0xeb, 0xff, 0x7f), y(1, 0, 1), [0x11; 32]] {
            assert!(KeySet::new([("a".into(), PublicKey::Ed25519(good))]).is_ok(), "{good:02x?}");
        }
    }
}
