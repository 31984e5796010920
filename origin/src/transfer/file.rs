//! The file: lines of `MAC SPACE JSON`, each of one thing, between a first line with the format and a last one with counts.
//!
//! ```text
//! 7Pq…22 characters… {"store":{"format":1,"epoch":…,"at_ms":…}}
//! …                  {"floor":"40 characters"}
//! …                  {"record":{"key":"…","value":"…","expires_at_ms":…}}
//! …                  {"session":{"subject":"alice","id":"…","expires_at_ms":…}}
//! …                  {"end":{"floors":1,"records":2,"sessions":1}}
//! ```
//!
//! Bytes are base64url. Every MAC (HMAC-SHA-256, first 128 bits, RFC 2104 section 5) covers its line and the MAC before it,
//! under a key derived from the master key: a line that is changed, added, left out, or moved shows at its place.

use std::{
    io::{BufRead, Read as _, Write},
    str::from_utf8,
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Deserialize, Serialize};
use shared::{
    feed::Epoch,
    id::{SessionId, SubjectId},
    revocation::Floor,
    time::Timestamp,
};

use super::Counts;
use crate::{
    keys::TransferKeys,
    store::{Kept, Key},
};

/// The format that is written, and the only one that is read.
pub(super) const FORMAT: u32 = 1;

/// The longest line in bytes: a segment of the audit trail, the largest value, is below a megabyte.
const LINE_BYTES_MAX: usize = 4 << 20;

const MAC_LEN: usize = 16;
const MAC_CHARS: usize = 22;

/// What the first MAC covers as the one before it.
const BEGINNING: [u8; MAC_LEN] = *b"portcullis-store";

type Mac = [u8; MAC_LEN];

/// What one line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Store { format: u32, epoch: Epoch64, at_ms: u64 },
    Floor(String),
    Record { key: String, value: String, expires_at_ms: Option<u64> },
    Session { subject: SubjectId, id: SessionId, expires_at_ms: u64 },
    End(Counts),
}

/// An epoch as text: JSON readers lose the end of such numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Epoch64(pub(super) Epoch);

impl TryFrom<String> for Epoch64 {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Epoch).map(Self)
    }
}

impl From<Epoch64> for String {
    fn from(epoch: Epoch64) -> Self {
        epoch.0.0.to_string()
    }
}

/// What is between the first line and the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Floor(Floor),
    Kept(Kept),
}

/// Why a file was not read. Lines are counted from 1, offsets in bytes from 0 and to the beginning of the line.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system failed.
    #[error("line {line} (offset {offset}): {source}")]
    Io {
        /// The line.
        line: u64,
        /// Its offset.
        offset: u64,
        /// What it said.
        source: std::io::Error,
    },
    /// Another version of this program wrote it, or another program.
    #[error("it has format {found}; this version reads format {FORMAT}")]
    Format {
        /// What its first line says.
        found: u32,
    },
    /// The first line is none of ours.
    #[error("it is no export of a store, or PORTCULLIS_MASTER_KEY is not the one that it was written with")]
    Strange,
    /// Not what was written.
    #[error("line {line} (offset {offset}) is not what was written there: the file was changed or damaged")]
    Changed {
        /// The line.
        line: u64,
        /// Its offset.
        offset: u64,
    },
    /// Authentic, and all the same not to be understood.
    #[error("line {line} (offset {offset}) holds what this version does not know")]
    Unknown {
        /// The line.
        line: u64,
        /// Its offset.
        offset: u64,
    },
    /// It ends before its last line.
    #[error("it ends at line {line} (offset {offset}), before its last line: the export or a copy was cut off")]
    Truncated {
        /// The line that is missing.
        line: u64,
        /// Where it should be.
        offset: u64,
    },
    /// Something follows the last line.
    #[error("line {line} (offset {offset}) follows the last line")]
    Trailing {
        /// The line.
        line: u64,
        /// Its offset.
        offset: u64,
    },
}

/// Writes lines.
pub(super) struct Writer<W> {
    to: W,
    key: hmac::Key,
    last: Mac,
    counts: Counts,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub(super) fn begin(to: W, keys: TransferKeys, epoch: Epoch, now: Timestamp) -> std::io::Result<Self> {
        let mut writer = Self { to, key: keys.first, last: BEGINNING, counts: Counts::default() };
        writer.line(&Line::Store { format: FORMAT, epoch: Epoch64(epoch), at_ms: now.as_millis() })?;
        Ok(writer)
    }

    pub(super) fn floor(&mut self, floor: &Floor) -> std::io::Result<()> {
        self.counts.floors = self.counts.floors.saturating_add(1);
        self.line(&Line::Floor(Base64UrlUnpadded::encode_string(&floor.encode())))
    }

    pub(super) fn kept(&mut self, kept: &Kept) -> std::io::Result<()> {
        match kept {
            Kept::Record { key, value, expires_at } => {
                self.counts.records = self.counts.records.saturating_add(1);
                let text = Base64UrlUnpadded::encode_string;
                let expires_at_ms = expires_at.map(Timestamp::as_millis);
                self.line(&Line::Record { key: text(&key.to_bytes()), value: text(value), expires_at_ms })
            }
            Kept::Indexed { subject, session, expires_at } => {
                self.counts.sessions = self.counts.sessions.saturating_add(1);
                let (subject, expires_at_ms) = (subject.clone(), expires_at.as_millis());
                self.line(&Line::Session { subject, id: *session, expires_at_ms })
            }
        }
    }

    /// Writes the last line; what it went to, and how much of everything.
    pub(super) fn end(mut self) -> std::io::Result<(W, Counts)> {
        self.line(&Line::End(self.counts))?;
        self.to.flush()?;
        Ok((self.to, self.counts))
    }

    fn line(&mut self, line: &Line) -> std::io::Result<()> {
        let json = serde_json::to_vec(line)?;
        self.last = mac(&self.key, &self.last, &json);
        self.to.write_all(Base64UrlUnpadded::encode_string(&self.last).as_bytes())?;
        self.to.write_all(b" ")?;
        self.to.write_all(&json)?;
        self.to.write_all(b"\n")
    }
}

/// Reads lines, each only if it is what was written there.
pub(super) struct Reader<R> {
    from: R,
    key: hmac::Key,
    last: Mac,
    line: u64,
    offset: u64,
    epoch: Epoch,
    seen: Counts,
    /// The MAC of the last line, once it was read: it stands for the whole file.
    ended: Option<Mac>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line, which was written under one of the keys.
    pub(super) fn begin(mut from: R, keys: TransferKeys) -> Result<Self, FileError> {
        let bytes = read_line(&mut from).map_err(|source| FileError::Io { line: 1, offset: 0, source })?;
        let (found, json) = split(&bytes).ok_or(FileError::Strange)?;
        let Ok(Line::Store { format, epoch, .. }) = serde_json::from_slice(json) else {
            return Err(FileError::Strange);
        };
        if format != FORMAT {
            return Err(FileError::Format { found: format });
        }
        let is_authentic = |key: &hmac::Key| verify_slices_are_equal(&mac(key, &BEGINNING, json), &found).is_ok();
        let key = std::iter::once(keys.first).chain(keys.second).find(is_authentic).ok_or(FileError::Strange)?;
        let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let (seen, ended) = (Counts::default(), None);
        Ok(Self { from, key, last: found, line: 2, offset, epoch: epoch.0, seen, ended })
    }

    /// The epoch of the log that was left.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What stands for the whole file, after its end.
    pub(super) fn digest(&self) -> Option<Mac> {
        self.ended
    }

    /// What went by so far.
    pub(super) fn counts(&self) -> Counts {
        self.seen
    }

    /// The next part; none at the end, which was found where it belongs.
    pub(super) fn next(&mut self) -> Result<Option<Part>, FileError> {
        if self.ended.is_some() {
            return Ok(None);
        }
        let (line, offset) = (self.line, self.offset);
        let bytes = read_line(&mut self.from).map_err(|source| FileError::Io { line, offset, source })?;
        if bytes.last() != Some(&b'\n') && bytes.len() < LINE_BYTES_MAX {
            return Err(FileError::Truncated { line, offset });
        }
        let (found, json) = split(&bytes).ok_or(FileError::Changed { line, offset })?;
        if verify_slices_are_equal(&mac(&self.key, &self.last, json), &found).is_err() {
            return Err(FileError::Changed { line, offset });
        }
        (self.last, self.line) = (found, line.saturating_add(1));
        self.offset = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let unknown = FileError::Unknown { line, offset };
        match serde_json::from_slice(json) {
            Ok(Line::End(counts)) if counts == self.seen => self.end().map(|()| None),
            Ok(line) => self.part(line).map(Some).ok_or(unknown),
            Err(_) => Err(unknown),
        }
    }

    fn end(&mut self) -> Result<(), FileError> {
        let (line, offset) = (self.line, self.offset);
        let rest = self.from.fill_buf().map_err(|source| FileError::Io { line, offset, source })?;
        if !rest.is_empty() {
            return Err(FileError::Trailing { line, offset });
        }
        self.ended = Some(self.last);
        Ok(())
    }

    fn part(&mut self, line: Line) -> Option<Part> {
        let bytes = |text: &str| Base64UrlUnpadded::decode_vec(text).ok();
        let (count, part) = match line {
            Line::Floor(text) => {
                let floor = Floor::decode(bytes(&text)?.as_slice().try_into().ok()?);
                (&mut self.seen.floors, Part::Floor(floor))
            }
            Line::Record { key, value, expires_at_ms } => {
                let (key, value) = (Key::from_bytes(&bytes(&key)?)?, bytes(&value)?);
                let expires_at = expires_at_ms.map(Timestamp::from_millis);
                (&mut self.seen.records, Part::Kept(Kept::Record { key, value, expires_at }))
            }
            Line::Session { subject, id, expires_at_ms } => {
                let expires_at = Timestamp::from_millis(expires_at_ms);
                (&mut self.seen.sessions, Part::Kept(Kept::Indexed { subject, session: id, expires_at }))
            }
            Line::Store { .. } | Line::End(_) => return None,
        };
        *count = count.saturating_add(1);
        Some(part)
    }
}

/// A line with its end, as far as there is one and it is not longer than any that is written.
fn read_line(from: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX)).read_until(b'\n', &mut bytes)?;
    Ok(bytes)
}

/// The MAC and the JSON of a line.
fn split(line: &[u8]) -> Option<(Mac, &[u8])> {
    let (mac, rest) = line.split_at_checked(MAC_CHARS)?;
    let json = rest.strip_prefix(b" ")?.strip_suffix(b"\n")?;
    let mac = Base64UrlUnpadded::decode_vec(from_utf8(mac).ok()?).ok()?;
    Some((mac.try_into().ok()?, json))
}

fn mac(key: &hmac::Key, last: &Mac, json: &[u8]) -> Mac {
    let mut context = hmac::Context::with_key(key);
    context.update(last);
    context.update(json);
    let mut mac = Mac::default();
    mac.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
    mac
}
