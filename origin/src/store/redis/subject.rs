//! A subject as one value: its record, and the sessions that are noted for it.
//!
//! A key of its own for a list of two sessions would cost more than the sessions in it. So the first [`NOTED_MAX`] sessions
//! stand before the record, and only what is more is in a sorted set beside it, in the same slot of a cluster (see
//! [`names`]): whatever a subject has, a script looks at no more than so many entries one by one.
//!
//! Wire format: a byte, entries, the record. The byte is 0x80, with 0x40 if there is a record, and the number of entries. An
//! entry is a session's id (16 bytes) and the time of its expiry in ms (6 bytes, big-endian). The sorted set has ids as
//! members and times as scores.
//!
//! Invariant (I11): a value without a record has a lifetime, and so has the sorted set: those of the session that expires
//! last. A record stays for good; sessions before it whose time is over go when another comes or goes, or at a sweep.
//!
//! Invariant: a session is noted at one of the two places.

use redis::{Script, ScriptInvocation};
use shared::{
    id::{SessionId, SubjectId},
    time::Timestamp,
};

use super::{StoreError, names};
use crate::store::Indexed;

/// Sessions that stand before the record: 0.7 KB at most. The number has six bits.
pub(super) const NOTED_MAX: usize = 32;

const ID_BYTES: usize = 16;
const TIME_BYTES: usize = 6;
const ENTRY_BYTES: usize = ID_BYTES + TIME_BYTES;

/// The last time of so many bytes, in some thousands of years.
const MILLIS_MAX: u64 = (1 << 48) - 1;

/// What a byte at the beginning says.
const FORM: u8 = 0x80;
const HAS_RECORD: u8 = 0x40;
const NUMBER: u8 = 0x3f;

/// The error of a value that begins otherwise.
const STRANGE: StoreError = StoreError::Corrupt("a subject of another form");

/// What scripts say of such a value.
const IS_STRANGE: u8 = 9;

/// Reads and writes the value; `false` stands for no record.
const VALUE: &str = r"
local function parts(value)
  if not value then return '', false end
  local first = string.byte(value) or 0
  local upto = 1 + first % 64 * 22
  if first < 128 or #value < upto then return false, false end
  return string.sub(value, 2, upto), first >= 192 and string.sub(value, upto + 1)
end
local function whole(entries, record)
  return string.char((record and 192 or 128) + #entries / 22) .. entries .. (record or '')
end
local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local function without(entries, id)
  local kept, last, at = {}, 0, now()
  for from = 1, #entries, 22 do
    local a, b, c, d, e, f = string.byte(entries, from + 16, from + 21)
    local expires = ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f
    if expires > at and string.sub(entries, from, from + 15) ~= id then
      kept[#kept + 1] = string.sub(entries, from, from + 21)
      last = math.max(last, expires)
    end
  end
  return table.concat(kept), last
end
local function until_after(key, last)
  redis.call('PEXPIREAT', key, string.format('%.0f', last + 60000))
end
local function keep(entries, record, last)
  if entries == '' and not record then
    redis.call('DEL', KEYS[1])
    return
  end
  redis.call('SET', KEYS[1], whole(entries, record), 'KEEPTTL')
  if not record then until_after(KEYS[1], last) end
end
local entries, record = parts(redis.call('GET', KEYS[1]))
if not entries then return 9 end
";

/// As the script for any other key, of the record.
const SWAP: &str = r"
local expected = ARGV[1] ~= '0' and ARGV[2]
if record ~= expected then
  return record == ARGV[3] and 2 or 0
end
local value = whole(entries, ARGV[3])
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], value)
else
  redis.call('SET', KEYS[1], value, 'PXAT', ARGV[4])
end
return 1
";

/// Takes an entry, its time, and how many stand before the record at most.
const NOTE: &str = r"
local id, expires = string.sub(ARGV[1], 1, 16), tonumber(ARGV[2])
local others, last = without(entries, id)
if #others < tonumber(ARGV[3]) * 22 then
  redis.call('ZREM', KEYS[2], id)
  keep(others .. ARGV[1], record, math.max(last, expires))
  return 1
end
redis.call('ZADD', KEYS[2], ARGV[2], id)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now()))
local latest = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if latest[2] then until_after(KEYS[2], tonumber(latest[2])) end
return 1
";

/// Takes a session's id; an empty one is that of none, so that only what is over goes, at both places.
const FORGET: &str = r"
local others, last = without(entries, ARGV[1])
if #others < #entries then keep(others, record, last) end
if ARGV[1] ~= '' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now()))
end
return 1
";

/// The value, and of the sorted set so many between two times, the last first.
const LIST: &str = r"
return { redis.call('GET', KEYS[1]), redis.call('ZREVRANGEBYSCORE', KEYS[2], ARGV[1], ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3]) }
";

/// The scripts, each with its digest.
pub(super) struct Scripts {
    pub(super) swap: Script,
    pub(super) note: Script,
    pub(super) forget: Script,
    pub(super) list: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let on_value = |code: &str| Script::new(&[VALUE, code].concat());
        Self { swap: on_value(SWAP), note: on_value(NOTE), forget: on_value(FORGET), list: Script::new(LIST) }
    }
}

/// A call with both keys of a subject.
pub(super) fn on_subject<'a>(script: &'a Script, subject: &SubjectId) -> ScriptInvocation<'a> {
    let mut call = script.prepare_invoke();
    call.key(names::subject(subject)).key(names::more_sessions(subject));
    call
}

/// What a script that writes has to say, unless the value was strange.
///
/// # Errors
///
/// It was; nothing was written.
pub(super) fn said(answer: u8) -> Result<u8, StoreError> {
    if answer == IS_STRANGE { Err(STRANGE) } else { Ok(answer) }
}

/// The sessions of a value, as they stand there, and its record.
///
/// # Errors
///
/// Nothing here wrote it.
pub(super) fn parts(value: &[u8]) -> Result<(Vec<Indexed>, Option<&[u8]>), StoreError> {
    let (first, rest) = value.split_first().ok_or(STRANGE)?;
    let upto = usize::from(first & NUMBER) * ENTRY_BYTES;
    let (entries, record) = rest.split_at_checked(upto).filter(|_| first & FORM != 0).ok_or(STRANGE)?;
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    Ok((entries.iter().map(indexed).collect(), (first & HAS_RECORD != 0).then_some(record)))
}

/// A session, as it stands before the record.
pub(super) fn entry(session: &SessionId, expires_at: Timestamp) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    let (id, time) = entry.split_at_mut(ID_BYTES);
    id.copy_from_slice(session.as_bytes());
    let [_, _, millis @ ..] = expires_at.as_millis().min(MILLIS_MAX).to_be_bytes();
    time.copy_from_slice(&millis);
    entry
}

fn indexed(entry: &[u8; ENTRY_BYTES]) -> Indexed {
    let (mut session, mut millis) = ([0; ID_BYTES], [0; 8]);
    let (id, time) = entry.split_at(ID_BYTES);
    session.copy_from_slice(id);
    millis[8 - TIME_BYTES..].copy_from_slice(time);
    Indexed { expires_at: Timestamp::from_millis(u64::from_be_bytes(millis)), session: SessionId::from_random(session) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written() {
        let far = Timestamp::from_millis(MILLIS_MAX);
        let entries: Vec<_> = [(1, Timestamp::from_millis(1_800_000_000_123)), (2, far)]
            .map(|(byte, expires_at)| Indexed { expires_at, session: SessionId::from_random([byte; 16]) })
            .into();
        let noted: Vec<u8> = entries.iter().flat_map(|noted| entry(&noted.session, noted.expires_at)).collect();
        let with = |first: u8, record: &[u8]| [&[first], noted.as_slice(), record].concat();
        assert_eq!(parts(&with(0xc2, b"record")), Ok((entries.clone(), Some(&b"record"[..]))));
        assert_eq!(parts(&with(0xc2, b"")), Ok((entries.clone(), Some(&b""[..]))));
        assert_eq!(parts(&with(0x82, b"")), Ok((entries, None)));
        assert_eq!(parts(b"\xc0record"), Ok((vec![], Some(&b"record"[..]))));
        // A record by itself, which begins with a small number, and a value that was cut off.
        for strange in [&b""[..], b"\x02record", &with(0xc3, b"record"), &with(0x82, b"")[..44]] {
            assert_eq!(parts(strange), Err(STRANGE), "{strange:?}");
        }
    }

    #[test]
    fn a_time_beyond_all_times_is_the_last_one() {
        let id = SessionId::from_random([1; 16]);
        let last = Timestamp::from_millis(MILLIS_MAX);
        assert_eq!(indexed(&entry(&id, Timestamp::from_millis(u64::MAX))), Indexed { expires_at: last, session: id });
    }
}
