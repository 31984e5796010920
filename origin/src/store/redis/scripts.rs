//! What has to happen in one step, as Lua.

use std::time::Duration;

use redis::{Script, ScriptInvocation};
use shared::{feed::Cursor, revocation::Floor};

use super::{Entries, StoreError, subject};
use crate::shell;

/// Entries are kept this long for replicas that are a little behind; after that a snapshot stands for them.
pub(super) const KEPT: Duration = Duration::from_secs(600);

const EPOCH: &str = "{portcullis:log}:epoch";
pub(super) const HEAD: &str = "{portcullis:log}:head";
/// Written to be waited for.
pub(super) const MARK: &str = "{portcullis:log}:mark";
const ENTRIES: &str = "{portcullis:log}:entries";
const FLOORS: &str = "{portcullis:log}:floors";
const FORGET: &str = "{portcullis:log}:forget";
/// The server that the log was last read on, by its `run_id`: after a restart or a failover it is another one, and what was
/// acknowledged may be gone.
const SERVER: &str = "{portcullis:log}:server";

/// 1: done; 0: a conflict; 2: a conflict with the very bytes that were to be written.
const SWAP: &str = r"
local held = redis.call('GET', KEYS[1])
local expected = ARGV[1] ~= '0' and ARGV[2]
if held ~= expected then
  return held == ARGV[3] and 2 or 0
end
if ARGV[4] == '0' then
  redis.call('SET', KEYS[1], ARGV[3])
else
  redis.call('SET', KEYS[1], ARGV[3], 'PXAT', ARGV[4])
end
return 1
";

/// 1: done; 0: a conflict.
const EXTEND: &str = r"
local length = redis.call('STRLEN', KEYS[1])
if length == 0 or length ~= tonumber(ARGV[1]) then return 0 end
redis.call('APPEND', KEYS[1], ARGV[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])
return 1
";

/// Bytes are compared one by one: the comparison of strings follows the server's locale.
const APPEND: &str = r"
local function higher(a, b)
  for i = 1, #a do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return false
end
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local time = redis.call('TIME')
local at = time[1] .. string.format('%03d', math.floor(tonumber(time[2]) / 1000))
local head = tonumber(redis.call('GET', KEYS[2]) or '0')
for i = 2, #ARGV, 2 do
  local floor, forget = ARGV[i], ARGV[i + 1]
  head = redis.call('INCR', KEYS[2])
  redis.call('XADD', KEYS[3], string.format('%d-0', head), 'f', floor, 'at', at)
  local key, lowest, last = string.sub(floor, 1, 16), string.sub(floor, 17, 24), string.sub(floor, 25, 28)
  local held = redis.call('HGET', KEYS[4], key)
  if held then
    local held_lowest, held_last = string.sub(held, 17, 24), string.sub(held, 25, 28)
    if higher(held_lowest, lowest) then lowest = held_lowest end
    if higher(held_last, last) then last = held_last end
  end
  redis.call('HSET', KEYS[4], key, key .. lowest .. last)
  redis.call('ZADD', KEYS[5], 'GT', forget, key)
end
return head
";

/// Says whether this is still the server that the log was last read on; without the right to ask, it is.
const IDENTITY: &str = r"
local function server()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%x+)') or false
end
local function is_same_server()
  local id = server()
  if not id then return 1 end
  redis.call('SET', KEYS[6], id, 'NX')
  return redis.call('GET', KEYS[6]) == id and 1 or 0
end
";

const RENEW: &str = r"
local function above(a, b)
  if #a ~= #b then return #a > #b end
  for i = 1, #a do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return false
end
local id = server()
if id then redis.call('SET', KEYS[6], id) end
local held = redis.call('GET', KEYS[1])
if held and above(held, ARGV[1]) then return held end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
";

const READ: &str = r"
local time = redis.call('TIME')
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local at = time[1] .. string.format('%03d', math.floor(tonumber(time[2]) / 1000))
local found = {}
for _, entry in ipairs(redis.call('XRANGE', KEYS[3], ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])) do
  found[#found + 1] = { entry[1], entry[2][2] }
end
return { at, redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]) or '0', is_same_server(), found }
";

const SNAPSHOT: &str = r"
local time = redis.call('TIME')
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local at = time[1] .. string.format('%03d', math.floor(tonumber(time[2]) / 1000))
return { at, redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]) or '0', is_same_server(), redis.call('HVALS', KEYS[4]) }
";

const TRIM: &str = r"
local keys = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, key in ipairs(keys) do
  redis.call('HDEL', KEYS[4], key)
  redis.call('ZREM', KEYS[5], key)
end
local dropped = 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', ARGV[3])) do
  if tonumber(entry[2][4]) > tonumber(ARGV[2]) then break end
  dropped = dropped + redis.call('XDEL', KEYS[3], entry[1])
end
return math.max(#keys, dropped)
";

/// A value as it is, once more, so that it can be waited for.
const AGAIN: &str = r"
local held = redis.call('GET', KEYS[1])
if held then redis.call('SET', KEYS[1], held, 'KEEPTTL') end
return 1
";

/// A value and its time in ms, -1 for none; in one step, so that both are of the same write.
const RECORD: &str = r"return { redis.call('GET', KEYS[1]), redis.call('PEXPIRETIME', KEYS[1]) }";

/// Time in ms, epoch, head, whether it is the same server, and what was asked for.
pub(super) type Found<T> = (u64, u64, u64, bool, Vec<T>);

/// The scripts, each with its digest.
pub(super) struct Scripts {
    pub(super) swap: Script,
    pub(super) extend: Script,
    pub(super) append: Script,
    pub(super) read: Script,
    pub(super) snapshot: Script,
    pub(super) renew: Script,
    pub(super) trim: Script,
    pub(super) subject: subject::Scripts,
    pub(super) record: Script,
    pub(super) again: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            swap: Script::new(SWAP),
            extend: Script::new(EXTEND),
            append: Script::new(APPEND),
            read: Script::new(&[IDENTITY, READ].concat()),
            snapshot: Script::new(&[IDENTITY, SNAPSHOT].concat()),
            renew: Script::new(&[IDENTITY, RENEW].concat()),
            trim: Script::new(TRIM),
            subject: subject::Scripts::new(),
            record: Script::new(RECORD),
            again: Script::new(AGAIN),
        }
    }
}

/// A call with every key of the log.
pub(super) fn on_log(script: &Script) -> ScriptInvocation<'_> {
    let mut call = script.prepare_invoke();
    for key in [EPOCH, HEAD, ENTRIES, FLOORS, FORGET, SERVER] {
        call.key(key);
    }
    call
}

/// An epoch for a log that has none: the time, and random bits under it, so that later logs have higher ones.
pub(super) fn new_epoch() -> u64 {
    let random = shell::random().map_or(0, |[a, b, c, ..]| u32::from_be_bytes([0, a & 0x0f, b, c]));
    (shell::now().as_millis() << 20) | u64::from(random)
}

pub(super) fn floor(raw: &[u8]) -> Result<Floor, StoreError> {
    let raw = raw.try_into().map_err(|_| StoreError::Corrupt("a floor of another length"))?;
    Ok(Floor::decode(raw))
}

/// The entries after `after`, if they follow each other without a gap.
pub(super) fn entries(
    after: Cursor,
    head: Cursor,
    max: usize,
    raw: Vec<(String, Vec<u8>)>,
) -> Result<Entries, StoreError> {
    if after > head || (raw.is_empty() && after < head && max > 0) {
        return Ok(Entries::SnapshotNeeded);
    }
    let mut floors = Vec::with_capacity(raw.len());
    for (position, (id, raw)) in (after.0.saturating_add(1)..).zip(raw) {
        if id != format!("{position}-0") {
            return Ok(Entries::SnapshotNeeded);
        }
        floors.push(floor(&raw)?);
    }
    Ok(Entries::Contiguous(floors))
}
