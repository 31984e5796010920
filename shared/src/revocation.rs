//! Revocation: versions, floors, and the set of floors.
//!
//! A floor says which versions of a scope (session, subject, tenant, signing key) still count. The set is a
//! join-semilattice under pointwise maximum: any order and any duplication of joins gives the same set.
//!
//! Out of scope here: how fresh a set is (see [`crate::replica`]) and how floors travel (see [`crate::feed`]).
//!
//! Invariant: a version in the set never falls, except by [`Floors::prune`], which nobody can notice, since every token
//! that the floor concerned has expired by then.

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    id::{SessionId, SubjectId, TenantId},
    time::Timestamp,
};

/// The most floors that one set holds: 28 bytes each, so at most 32 MiB with the slack of the shards.
pub const FLOORS_MAX: usize = 1_048_576;

/// Shards of the set, by the first bits of the key: small enough that an insertion moves a KiB or two, and that
/// growth copies one shard only (Wasm memory never shrinks, so a table that doubles would keep its old half for good).
const SHARDS: usize = 8_192;

/// A shard grows by this many entries, so that slack stays under a few percent at a million floors.
const SHARD_STEP: usize = 16;

/// What a scope is, as it enters the floor key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeKind {
    /// One session.
    Session,
    /// Every session of a subject.
    Subject,
    /// Every session of every subject of a tenant.
    Tenant,
    /// Every token that a signing key signed.
    SigningKey,
    /// Every session of everyone: the whole deployment.
    Everyone,
}

impl ScopeKind {
    /// The name in answers, events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Subject => "subject",
            Self::Tenant => "tenant",
            Self::SigningKey => "signing_key",
            Self::Everyone => "everyone",
        }
    }

    /// How wide it is, as the last two bits of a floor key say.
    const fn width(self) -> u8 {
        match self {
            Self::Session => 0,
            Self::Subject => 1,
            Self::Tenant | Self::SigningKey | Self::Everyone => WIDE,
        }
    }

    const fn tag(self) -> u8 {
        match self {
            Self::Session => 1,
            Self::Subject => 2,
            Self::Tenant => 3,
            Self::SigningKey => 4,
            Self::Everyone => 5,
        }
    }
}

/// The last two bits of the key of a scope with many subjects.
const WIDE: u8 = 2;

/// The bits of a floor key's last byte that say how wide the scope is.
const WIDTH_BITS: u8 = 3;

/// Names a scope without telling whose it is: the first 16 bytes of SHA-256 over scope kind and id, of which the last two
/// bits say how wide the scope is instead: 0 a session, 1 a subject, 2 more than one subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FloorKey([u8; 16]);

impl FloorKey {
    /// The key of a session.
    pub fn session(id: &SessionId) -> Self {
        Self::of(ScopeKind::Session, id.as_bytes())
    }

    /// The key of a subject.
    pub fn subject(id: &SubjectId) -> Self {
        Self::of(ScopeKind::Subject, id.as_str().as_bytes())
    }

    /// The key of a tenant.
    pub fn tenant(id: &TenantId) -> Self {
        Self::of(ScopeKind::Tenant, id.as_str().as_bytes())
    }

    /// The key of a signing key, by its `kid`.
    pub fn signing_key(kid: &str) -> Self {
        Self::of(ScopeKind::SigningKey, kid.as_bytes())
    }

    /// The key of everyone.
    pub const fn everyone() -> Self {
        // As `of` has it: every check of a token asks for it.
        Self([74, 19, 16, 81, 90, 192, 211, 208, 224, 242, 229, 41, 189, 177, 152, 158])
    }

    /// From the 16 bytes that [`Self::as_bytes`] gave.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether the scope may hold sessions of more than one subject: a tenant, a signing key, everyone.
    pub const fn is_wide(&self) -> bool {
        let [.., last] = self.0;
        last & WIDTH_BITS >= WIDE
    }

    fn of(kind: ScopeKind, id: &[u8]) -> Self {
        // The kind has a fixed length and comes first, so no two (kind, id) give the same input.
        let digest = Sha256::new().chain_update(b"portcullis floor 1").chain_update([kind.tag()]).chain_update(id);
        let digest: [u8; 32] = digest.finalize().into();
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(digest) {
            *to = from;
        }
        let [.., last] = &mut key;
        *last = *last & !WIDTH_BITS | kind.width();
        Self(key)
    }

    /// The key as numbers, which compare as its bytes do and faster.
    fn words(self) -> Words {
        let (words, _) = self.0.as_chunks();
        let mut numbers = words.iter().copied().map(u32::from_be_bytes);
        core::array::from_fn(|_| numbers.next().unwrap_or_default())
    }
}

impl fmt::Debug for FloorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FloorKey({:032x})", u128::from_be_bytes(self.0))
    }
}

/// Counter of a scope. It rises when older tokens of the scope must no longer count, and at no other time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// Under every version that a token carries: the floor of a scope that nothing is known of.
    pub const NONE: Self = Self(0);
    /// The version that a scope begins with.
    pub const INITIAL: Self = Self(1);
    /// Ends the scope for good: no token reaches it.
    pub const ENDED: Self = Self(u64::MAX);

    /// From its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next version; never reaches [`Self::ENDED`] by counting, and stays there once ended.
    pub const fn next(self) -> Self {
        match self.0 {
            u64::MAX => Self::ENDED,
            number if number == u64::MAX - 1 => self,
            number => Self(number.saturating_add(1)),
        }
    }
}

/// Bits of a version that count within an era: a million raises, and 2^44 eras.
const ERA_BITS: u32 = 20;

/// Versions of scopes that have sessions lie in eras. A raise that ends sessions as well begins the next era; so a floor alone
/// says which sessions are over, although the record that would say so is lost.
impl Version {
    /// The first version of the next era; the last era has none after it.
    pub const fn next_era(self) -> Self {
        match (self.0 >> ERA_BITS).saturating_add(1) {
            next if next > u64::MAX >> ERA_BITS => self,
            next => Self(next << ERA_BITS),
        }
    }

    /// The version with which the era of this one began.
    pub const fn era(self) -> Self {
        Self(self.0 >> ERA_BITS << ERA_BITS)
    }
}

/// `(scope key, lowest acceptable version, forget_at)`: a token of the scope with a lower version is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The scope.
    pub key: FloorKey,
    /// The lowest version that still counts.
    pub lowest: Version,
    /// From when on every token that the floor concerns has expired, clock skew included. Whole seconds.
    pub forget_at: Timestamp,
}

impl Floor {
    /// Length of an encoded floor in bytes.
    pub const ENCODED_LEN: usize = 28;

    /// `key ‖ version ‖ forget_at`, the numbers big-endian, the time in seconds rounded up.
    pub fn encode(&self) -> [u8; Self::ENCODED_LEN] {
        let entry = Entry::from(*self);
        let mut bytes = [0; Self::ENCODED_LEN];
        let parts = self.key.0.into_iter().chain(self.lowest.get().to_be_bytes()).chain(entry.forget_at.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = from;
        }
        bytes
    }

    /// The reverse of [`Self::encode`]; every 28 bytes are a floor.
    pub fn decode(bytes: &[u8; Self::ENCODED_LEN]) -> Self {
        let (key, rest) = bytes.split_first_chunk().unwrap_or((&[0; 16], &[]));
        let (lowest, rest) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let forget_at = rest.first_chunk().unwrap_or(&[0; 4]);
        Self {
            key: FloorKey(*key),
            lowest: Version(u64::from_be_bytes(*lowest)),
            forget_at: Timestamp::from_secs(u64::from(u32::from_be_bytes(*forget_at))),
        }
    }
}

/// A floor key, as [`FloorKey::words`] gives it.
type Words = [u32; 4];

/// The shard of a key: its first 13 bits.
fn shard_of(&[first, ..]: &Words) -> usize {
    usize::try_from(first >> 19).unwrap_or_default()
}

/// A floor in 28 bytes of memory: all is in words, so that nothing is padded to 32.
#[derive(Clone, Copy)]
struct Entry {
    key: Words,
    lowest: [u32; 2],
    forget_at: u32,
}

impl Entry {
    fn key(&self) -> FloorKey {
        let mut bytes = self.key.into_iter().flat_map(u32::to_be_bytes);
        FloorKey(core::array::from_fn(|_| bytes.next().unwrap_or_default()))
    }

    fn lowest(&self) -> Version {
        let [high, low] = self.lowest;
        Version(u64::from(high) << 32 | u64::from(low))
    }

    fn forget_at(&self) -> Timestamp {
        Timestamp::from_secs(u64::from(self.forget_at))
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a u64")]
    fn set_lowest(&mut self, lowest: Version) {
        self.lowest = [(lowest.0 >> 32) as u32, lowest.0 as u32];
    }
}

impl From<Floor> for Entry {
    fn from(floor: Floor) -> Self {
        let forget_at = u32::try_from(floor.forget_at.as_secs_ceil()).unwrap_or(u32::MAX);
        let mut entry = Self { key: floor.key.words(), lowest: [0, 0], forget_at };
        entry.set_lowest(floor.lowest);
        entry
    }
}

impl From<&Entry> for Floor {
    fn from(entry: &Entry) -> Self {
        Self { key: entry.key(), lowest: entry.lowest(), forget_at: entry.forget_at() }
    }
}

/// What a join did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// The floor of the scope rose.
    Raised,
    /// The set said so already.
    Known,
    /// There is no place for another scope: the set no longer holds everything that it was told.
    Full,
}

/// A bounded set of floors: sorted shards, at most 32 MiB for [`FLOORS_MAX`] floors.
pub struct Floors {
    shards: Box<[Vec<Entry>]>,
    len: usize,
}

impl Floors {
    /// The empty set.
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Vec::new()).collect(), len: 0 }
    }

    /// How many scopes have a floor.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no scope has a floor.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that the set takes, slack included, the allocator's own records aside.
    pub fn memory_bytes(&self) -> usize {
        let entries: usize = self.shards.iter().map(Vec::capacity).sum();
        let tables = self.shards.len().saturating_mul(size_of::<Vec<Entry>>());
        entries.saturating_mul(size_of::<Entry>()).saturating_add(tables)
    }

    /// The lowest version of a scope that still counts; [`Version::NONE`] if the set knows nothing of it.
    pub fn lowest(&self, key: &FloorKey) -> Version {
        let key = key.words();
        let Some(shard) = self.shards.get(shard_of(&key)) else { return Version::NONE };
        match find(shard, &key) {
            Ok(place) => shard.get(place).map_or(Version::NONE, Entry::lowest),
            Err(_) => Version::NONE,
        }
    }

    /// Whether a token with `version` of the scope is revoked.
    pub fn revokes(&self, key: &FloorKey, version: Version) -> bool {
        version < self.lowest(key)
    }

    /// Pointwise maximum with one floor.
    pub fn join(&mut self, floor: Floor) -> Joined {
        let len = self.len;
        let new = Entry::from(floor);
        let Some(shard) = self.shards.get_mut(shard_of(&new.key)) else { return Joined::Full };
        match find(shard, &new.key) {
            Ok(place) => {
                let Some(entry) = shard.get_mut(place) else { return Joined::Known };
                entry.forget_at = entry.forget_at.max(new.forget_at);
                if new.lowest() <= entry.lowest() {
                    return Joined::Known;
                }
                entry.lowest = new.lowest;
                Joined::Raised
            }
            Err(_) if floor.lowest == Version::NONE => Joined::Known,
            Err(_) if len >= FLOORS_MAX => Joined::Full,
            Err(place) => {
                if shard.len() == shard.capacity() {
                    shard.reserve_exact(SHARD_STEP);
                }
                shard.insert(place, new);
                self.len = len.saturating_add(1);
                Joined::Raised
            }
        }
    }

    /// Drops every floor whose time to be forgotten has come.
    pub fn prune(&mut self, now: Timestamp) {
        let mut len = 0_usize;
        for shard in &mut self.shards {
            shard.retain(|entry| !now.has_reached(entry.forget_at()));
            len = len.saturating_add(shard.len());
        }
        self.len = len;
    }

    /// The floors in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = Floor> + '_ {
        self.shards.iter().flatten().map(Floor::from)
    }

    /// XXH3 over the encoded floors that are not to be forgotten at `now`, in the order of their keys: equal sets, equal
    /// digests, whenever each replica pruned last.
    pub fn digest(&self, now: Timestamp) -> u64 {
        let mut hash = Xxh3::new();
        for floor in self.iter().filter(|floor| !now.has_reached(floor.forget_at)) {
            hash.update(&floor.encode());
        }
        hash.digest()
    }
}

impl Default for Floors {
    fn default() -> Self {
        Self::new()
    }
}

impl Extend<Floor> for Floors {
    fn extend<I: IntoIterator<Item = Floor>>(&mut self, floors: I) {
        for floor in floors {
            self.join(floor);
        }
    }
}

impl fmt::Debug for Floors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floors").field("len", &self.len).finish_non_exhaustive()
    }
}

/// How far from its guessed place a key is looked for by walking.
const WALK_MAX: usize = 16;

/// The place of a key among sorted entries, or where it belongs. Keys are digests and so lie evenly: the guess by the bits
/// after those of the shard is a few entries off, which a walk makes good within a cache line or two. Keys that lie
/// otherwise take a binary search.
fn find(shard: &[Entry], key: &Words) -> Result<usize, usize> {
    let [first, ..] = key;
    let len = u64::try_from(shard.len()).unwrap_or_default();
    let guess = usize::try_from(u64::from(first << 13).saturating_mul(len) >> 32).unwrap_or_default();
    let is_before = |place: usize| shard.get(place).is_some_and(|entry| entry.key < *key);
    let mut place = guess;
    if is_before(place) {
        let end = guess.saturating_add(WALK_MAX);
        while place < end && is_before(place) {
            place = place.saturating_add(1);
        }
    } else {
        let end = guess.saturating_sub(WALK_MAX);
        while place > end && !is_before(place.saturating_sub(1)) {
            place = place.saturating_sub(1);
        }
    }
    if is_before(place) || place.checked_sub(1).is_some_and(|before| !is_before(before)) {
        place = shard.partition_point(|entry| entry.key < *key);
    }
    if shard.get(place).is_some_and(|entry| entry.key == *key) { Ok(place) } else { Err(place) }
}

#[cfg(test)]
mod tests;
