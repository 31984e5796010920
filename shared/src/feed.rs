//! Feed frames: how floors, token keys and the route policy travel from the origin to hubs and gates.
//!
//! Wire format, all numbers big-endian:
//!
//! ```text
//! magic "PCF1" ‖ kind u8 ‖ 0 u8 ‖ part u16 ‖ parts u16 ‖ 0 u16 ‖ body length u32 ‖ epoch u64 ‖ after u64 ‖ upto u64 ‖ as_of u64 ms
//! ‖ body ‖ Ed25519 signature of the feed key over all before it (64 bytes)
//! ```
//!
//! A delta's body is the floors of `(after, upto]`, 28 bytes each; without any it is a heartbeat. A snapshot is `parts`
//! frames of the same epoch, `upto` and `as_of`. A keys frame holds a [`KeySet`]; `upto` is the version of the set. A
//! policy frame holds the bytes of a [`Policy`], or none where gates go back to the one that they were built with; `upto` is its
//! version. An urgent frame holds floors that were taken out of their order, so that they overtake what a slow link still has to
//! carry: with the log up to where the receiver stands it brings every floor of [wide](crate::revocation::FloorKey::is_wide)
//! scopes up to `upto`; it moves neither position nor freshness. Frames may follow each other without anything between them.
//!
//! Invariant: lengths are checked before anything is allocated; nothing of a frame counts before its signature was checked.

use alloc::vec::Vec;
use core::fmt;

use crate::{
    keys::{KeySet, PublicKey, VerifySignature},
    policy::{Policy, PolicyBytesError},
    revocation::Floor,
    time::Timestamp,
};

/// Length of a frame's header in bytes.
pub const HEADER_LEN: usize = 48;

/// Length of a frame's signature in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// The largest frame in bytes: well under what a Worker may receive, and merged in a few milliseconds.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// The most floors that one frame holds.
pub const FRAME_FLOORS_MAX: usize = (FRAME_BYTES_MAX - HEADER_LEN - SIGNATURE_LEN) / Floor::ENCODED_LEN;

const MAGIC: [u8; 4] = *b"PCF1";

/// Identity of a store's floor log; a later log has a higher epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Position in a floor log: how many floors were appended so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a frame brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// The floors of `(after, upto]`.
    Delta,
    /// A part of all live floors.
    Snapshot,
    /// The token keys.
    Keys,
    /// The route policy.
    Policy,
    /// Floors that overtake others.
    Urgent,
}

/// The fields of a frame besides body and signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame brings.
    pub kind: FrameKind,
    /// Which part of a snapshot this is, from 0; 0 for other kinds.
    pub part: u16,
    /// How many parts the snapshot has; 1 for other kinds.
    pub parts: u16,
    /// The log that `after` and `upto` are positions of.
    pub epoch: Epoch,
    /// Position before the first floor; 0 for all but deltas.
    pub after: Cursor,
    /// Position of the last floor; for keys and policy their version.
    pub upto: Cursor,
    /// The store's clock, read before the head of the log: every floor acknowledged before lies at or before `upto`.
    pub as_of: Timestamp,
}

/// Why bytes are no frame that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than the frame says it has.
    #[error("the frame is cut off")]
    Truncated,
    /// Does not begin with the magic, or a reserved field is not zero.
    #[error("not a frame of this version")]
    NotAFrame,
    /// More than [`FRAME_BYTES_MAX`].
    #[error("a frame may have at most {FRAME_BYTES_MAX} bytes")]
    TooLarge,
    /// Fields that contradict each other.
    #[error("the fields of the frame contradict each other")]
    Inconsistent,
    /// No pinned key signed it.
    #[error("the signature is not one of a pinned feed key")]
    Signature,
}

/// A frame whose signature has not been checked yet.
#[derive(Debug, Clone, Copy)]
pub struct UnverifiedFrame<'a> {
    header: Header,
    bytes: &'a [u8],
}

/// A frame that a feed key signed.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    header: Header,
    bytes: &'a [u8],
}

impl<'a> UnverifiedFrame<'a> {
    /// Takes the first frame off `bytes`; what follows it comes back beside it.
    ///
    /// # Errors
    ///
    /// The bytes are cut off, no frame, too large, or contradict themselves.
    pub fn split(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), FrameError> {
        let (header, _) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(FrameError::Truncated)?;
        let (header, body_len) = decode_header(header)?;
        let length = HEADER_LEN.saturating_add(body_len).saturating_add(SIGNATURE_LEN);
        let (frame, rest) = bytes.split_at_checked(length).ok_or(FrameError::Truncated)?;
        Ok((Self { header, bytes: frame }, rest))
    }

    /// Checks the signature against the pinned feed keys.
    ///
    /// # Errors
    ///
    /// [`FrameError::Signature`] if none of them made it.
    pub fn verify(self, verifier: &impl VerifySignature, keys: &[PublicKey]) -> Result<Frame<'a>, FrameError> {
        let (signed, signature) = self.bytes.split_last_chunk::<SIGNATURE_LEN>().ok_or(FrameError::Truncated)?;
        if keys.iter().any(|key| verifier.verify(key, signed, signature)) {
            Ok(Frame { header: self.header, bytes: self.bytes })
        } else {
            Err(FrameError::Signature)
        }
    }
}

impl<'a> Frame<'a> {
    /// The fields.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The whole frame, signature included, to be stored or handed on.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The floors; none for keys and policy.
    pub fn floors(&self) -> impl Iterator<Item = Floor> + 'a {
        let body = match self.header.kind {
            FrameKind::Keys | FrameKind::Policy => &[],
            FrameKind::Delta | FrameKind::Snapshot | FrameKind::Urgent => self.body(),
        };
        body.as_chunks().0.iter().map(Floor::decode)
    }

    /// The token keys; none for another kind, or if the set is malformed.
    pub fn keys(&self) -> Option<KeySet> {
        match self.header.kind {
            FrameKind::Keys => KeySet::decode(self.body()).ok(),
            _ => None,
        }
    }

    /// The policy, checked; none within it where the policy of the build counts again.
    ///
    /// # Errors
    ///
    /// The frame is of another kind, or its policy is malformed or wrong.
    pub fn policy(&self) -> Result<Option<Policy>, PolicyBytesError> {
        match (self.header.kind, self.body()) {
            (FrameKind::Policy, []) => Ok(None),
            (FrameKind::Policy, body) => Policy::decode(body).map(Some),
            _ => Err(PolicyBytesError::Malformed),
        }
    }

    /// Whether this is a delta without floors.
    pub fn is_heartbeat(&self) -> bool {
        self.header.kind == FrameKind::Delta && self.body().is_empty()
    }

    fn body(&self) -> &'a [u8] {
        let end = self.bytes.len().saturating_sub(SIGNATURE_LEN);
        self.bytes.get(HEADER_LEN..end).unwrap_or_default()
    }
}

/// The frames that follow each other in `bytes`, checked one after another; the first that is not good is the last.
pub fn frames<'a>(
    bytes: &'a [u8],
    verifier: &impl VerifySignature,
    keys: &[PublicKey],
) -> impl Iterator<Item = Result<Frame<'a>, FrameError>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (frame, after) = match UnverifiedFrame::split(rest) {
            Ok((frame, after)) => (frame.verify(verifier, keys), after),
            Err(error) => (Err(error), &[][..]),
        };
        rest = if frame.is_ok() { after } else { &[] };
        Some(frame)
    })
}

/// Makes a frame of `header` and `body`; `sign` makes the 64-byte signature over what it is given.
///
/// # Errors
///
/// The body is too large for one frame, or `sign` fails.
pub fn assemble<E>(
    header: &Header,
    body: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<[u8; SIGNATURE_LEN], E>,
) -> Result<Vec<u8>, AssembleError<E>> {
    let length = HEADER_LEN.saturating_add(body.len()).saturating_add(SIGNATURE_LEN);
    let body_len = u32::try_from(body.len()).map_err(|_| AssembleError::TooLarge)?;
    if length > FRAME_BYTES_MAX {
        return Err(AssembleError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[
        match header.kind {
            FrameKind::Delta => 1,
            FrameKind::Snapshot => 2,
            FrameKind::Keys => 3,
            FrameKind::Policy => 4,
            FrameKind::Urgent => 5,
        },
        0,
    ]);
    bytes.extend_from_slice(&header.part.to_be_bytes());
    bytes.extend_from_slice(&header.parts.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&body_len.to_be_bytes());
    for number in [header.epoch.0, header.after.0, header.upto.0, header.as_of.as_millis()] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes.extend_from_slice(body);
    let signature = sign(&bytes).map_err(AssembleError::Sign)?;
    bytes.extend_from_slice(&signature);
    Ok(bytes)
}

/// Why a frame cannot be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError<E> {
    /// More than [`FRAME_BYTES_MAX`] bytes; floors belong in several frames.
    #[error("a frame may have at most {FRAME_BYTES_MAX} bytes")]
    TooLarge,
    /// The signature could not be made.
    #[error("the frame cannot be signed")]
    Sign(E),
}

/// The body of a delta, a snapshot part or an urgent frame.
pub fn encode_floors(floors: &[Floor]) -> Vec<u8> {
    floors.iter().flat_map(Floor::encode).collect()
}

fn decode_header(bytes: &[u8; HEADER_LEN]) -> Result<(Header, usize), FrameError> {
    let mut fields = Fields(bytes);
    let magic: [u8; 4] = fields.take()?;
    let [kind, reserved] = fields.take()?;
    let part = u16::from_be_bytes(fields.take()?);
    let parts = u16::from_be_bytes(fields.take()?);
    let padding: [u8; 2] = fields.take()?;
    let body_len = u32::from_be_bytes(fields.take()?);
    let kind = match kind {
        1 => FrameKind::Delta,
        2 => FrameKind::Snapshot,
        3 => FrameKind::Keys,
        4 => FrameKind::Policy,
        5 => FrameKind::Urgent,
        _ => return Err(FrameError::NotAFrame),
    };
    if magic != MAGIC || reserved != 0 || padding != [0, 0] {
        return Err(FrameError::NotAFrame);
    }
    let body_len = usize::try_from(body_len).map_err(|_| FrameError::TooLarge)?;
    if body_len > FRAME_BYTES_MAX.saturating_sub(HEADER_LEN).saturating_sub(SIGNATURE_LEN) {
        return Err(FrameError::TooLarge);
    }
    let header = Header {
        kind,
        part,
        parts,
        epoch: Epoch(u64::from_be_bytes(fields.take()?)),
        after: Cursor(u64::from_be_bytes(fields.take()?)),
        upto: Cursor(u64::from_be_bytes(fields.take()?)),
        as_of: Timestamp::from_millis(u64::from_be_bytes(fields.take()?)),
    };
    if is_consistent(&header, body_len) { Ok((header, body_len)) } else { Err(FrameError::Inconsistent) }
}

fn is_consistent(header: &Header, body_len: usize) -> bool {
    let floors = body_len.checked_div(Floor::ENCODED_LEN).unwrap_or(0);
    let whole = floors.saturating_mul(Floor::ENCODED_LEN) == body_len;
    match header.kind {
        FrameKind::Delta => {
            let span = header.upto.0.checked_sub(header.after.0);
            whole && (header.part, header.parts) == (0, 1) && span == u64::try_from(floors).ok()
        }
        FrameKind::Snapshot => whole && header.part < header.parts && header.after == Cursor(0),
        FrameKind::Urgent => whole && (header.part, header.parts) == (0, 1) && header.after == Cursor(0),
        FrameKind::Keys | FrameKind::Policy => (header.part, header.parts) == (0, 1) && header.after == Cursor(0),
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok(*field)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::revocation::{FloorKey, Version};

    /// Stands in for Ed25519: the signature is the sum of the bytes, repeated.
    pub(crate) struct Sums;

    pub(crate) fn sum(message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let sum = message.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let mut signature = [0; SIGNATURE_LEN];
        for chunk in signature.chunks_exact_mut(8) {
            chunk.copy_from_slice(&sum.to_be_bytes());
        }
        signature
    }

    impl VerifySignature for Sums {
        fn verify(&self, _: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
            sum(message) == signature
        }
    }

    pub(crate) const KEY: [PublicKey; 1] = [PublicKey::Ed25519([1; 32])];

    pub(crate) fn frame(header: &Header, body: &[u8]) -> Vec<u8> {
        assemble::<()>(header, body, |bytes| Ok(sum(bytes))).unwrap()
    }

    /// One part of a snapshot, or an urgent frame.
    pub(crate) fn of_kind(kind: FrameKind, (part, parts): (u16, u16), upto: u64, floors: &[Floor]) -> Vec<u8> {
        let (epoch, after, upto) = (Epoch(1), Cursor(0), Cursor(upto));
        let header = Header { kind, part, parts, epoch, after, upto, as_of: Timestamp::from_millis(50) };
        frame(&header, &encode_floors(floors))
    }

    pub(crate) fn delta(epoch: u64, after: u64, floors: &[Floor], as_of: u64) -> Vec<u8> {
        let header = Header {
            kind: FrameKind::Delta,
            part: 0,
            parts: 1,
            epoch: Epoch(epoch),
            after: Cursor(after),
            upto: Cursor(after + floors.len() as u64),
            as_of: Timestamp::from_millis(as_of),
        };
        frame(&header, &encode_floors(floors))
    }

    fn some_floor() -> Floor {
        Floor { key: FloorKey::signing_key("k"), lowest: Version::ENDED, forget_at: Timestamp::from_secs(9) }
    }

    #[test]
    fn a_frame_reads_back_and_a_heartbeat_has_112_bytes() {
        let bytes = delta(3, 5, &[some_floor()], 77);
        let (frame, rest) = UnverifiedFrame::split(&bytes).unwrap();
        assert!(rest.is_empty());
        let frame = frame.verify(&Sums, &KEY).unwrap();
        assert_eq!(frame.floors().collect::<Vec<_>>(), [some_floor()]);
        assert_eq!((frame.header().after, frame.header().upto), (Cursor(5), Cursor(6)));
        assert_eq!(frame.as_bytes(), bytes);
        let heartbeat = delta(3, 6, &[], 78);
        assert_eq!(heartbeat.len(), 112);
        let (heartbeat, _) = UnverifiedFrame::split(&heartbeat).unwrap();
        assert!(heartbeat.verify(&Sums, &KEY).unwrap().is_heartbeat());
    }

    #[test]
    fn what_is_not_a_frame_is_refused_before_anything_is_allocated() {
        let good = delta(3, 5, &[some_floor()], 77);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            UnverifiedFrame::split(&bytes).map(|_| ())
        };
        assert_eq!(with(47, 77), Ok(()), "the unchanged frame");
        assert_eq!(with(0, b'X'), Err(FrameError::NotAFrame));
        assert_eq!(with(4, 9), Err(FrameError::NotAFrame));
        assert_eq!(with(4, 5), Err(FrameError::Inconsistent), "an urgent frame after a position");
        assert_eq!(with(5, 1), Err(FrameError::NotAFrame));
        assert_eq!(with(12, 0xff), Err(FrameError::TooLarge));
        assert_eq!(with(15, 27), Err(FrameError::Inconsistent));
        assert_eq!(with(39, 7), Err(FrameError::Inconsistent), "two positions, one floor");
        assert_eq!(UnverifiedFrame::split(&good[..good.len() - 1]).map(|_| ()), Err(FrameError::Truncated));
        assert_eq!(UnverifiedFrame::split(&[]).map(|_| ()), Err(FrameError::Truncated));
    }

    #[test]
    fn a_frame_that_no_pinned_key_signed_is_refused() {
        let mut bytes = delta(3, 5, &[some_floor()], 77);
        bytes[HEADER_LEN] ^= 1;
        let (frame, _) = UnverifiedFrame::split(&bytes).unwrap();
        assert_eq!(frame.verify(&Sums, &KEY).map(|_| ()), Err(FrameError::Signature));
        let bytes = delta(3, 5, &[], 77);
        let (frame, _) = UnverifiedFrame::split(&bytes).unwrap();
        assert_eq!(frame.verify(&Sums, &[]).map(|_| ()), Err(FrameError::Signature));
    }

    #[test]
    fn frames_are_read_up_to_the_first_that_is_not_good() {
        let (one, two) = (delta(3, 5, &[some_floor()], 77), delta(3, 6, &[], 78));
        let read = |bytes: &[u8]| frames(bytes, &Sums, &KEY).map(|frame| frame.map(|_| ())).collect::<Vec<_>>();
        assert_eq!(read(&[]), []);
        assert_eq!(read(&[&one[..], &two].concat()), [Ok(()), Ok(())]);
        assert_eq!(read(&[&one[..], &two[1..]].concat()), [Ok(()), Err(FrameError::NotAFrame)]);
        let mut forged = one.clone();
        forged[HEADER_LEN] ^= 1;
        assert_eq!(read(&[&two[..], &forged, &two].concat()), [Ok(()), Err(FrameError::Signature)]);
    }

    #[test]
    fn a_body_over_the_limit_is_not_made_into_a_frame() {
        let bytes = delta(3, 0, &vec![some_floor(); FRAME_FLOORS_MAX], 1);
        assert!(UnverifiedFrame::split(&bytes).is_ok());
        let (unverified, _) = UnverifiedFrame::split(&bytes).unwrap();
        let header = unverified.header;
        let body = vec![0; FRAME_BYTES_MAX];
        assert_eq!(assemble::<()>(&header, &body, |bytes| Ok(sum(bytes))), Err(AssembleError::TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
            let mut bytes = bytes;
            if magic {
                bytes.splice(0..0, *b"PCF1\x01\x00");
            }
            if let Ok((frame, rest)) = UnverifiedFrame::split(&bytes) {
                prop_assert_eq!(frame.bytes.len() + rest.len(), bytes.len());
            }
        }
    }
}
