//! Finds entries of the trail, newest first.

use super::{AuditError, Entry, SEGMENT_ENTRIES_MAX, SEGMENTS_MAX, Trail, decode, head, place};
use crate::store::Key;

/// Segments that one query reads at most; a page may be short, or empty, and still have a next one.
const SEGMENTS_READ_MAX: usize = 64;

/// By how much an entry may be older than one before it: origins write side by side, each by its own clock.
const DISORDER_MAX_MS: u64 = 60_000;

/// What is looked for; a filter that is not given lets everything pass.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The actor.
    pub actor: Option<String>,
    /// The operation.
    pub action: Option<String>,
    /// The target.
    pub target: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// Not before this time, Unix milliseconds.
    pub since_ms: Option<u64>,
    /// Only entries before this one: where the last page ended.
    pub before: Option<u64>,
    /// At most so many entries.
    pub limit: usize,
}

/// Entries, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What was found.
    pub entries: Vec<Entry>,
    /// Where the next page starts; none if this is the last.
    pub next: Option<u64>,
}

impl Query {
    fn matches(&self, entry: &Entry) -> bool {
        let same = |wanted: &Option<String>, found: Option<&String>| wanted.is_none() || wanted.as_ref() == found;
        self.since_ms.is_none_or(|since| entry.at_ms >= since)
            && same(&self.actor, Some(&entry.actor))
            && same(&self.action, Some(&entry.action))
            && same(&self.target, entry.target.as_ref())
            && same(&self.tenant, entry.tenant.as_ref())
    }
}

impl Trail {
    /// One page. A cursor is the number of an entry: segment × entries of a segment + place in it.
    ///
    /// # Errors
    ///
    /// The store.
    pub async fn find(&self, query: &Query) -> Result<Page, AuditError> {
        let newest = head(&self.store).await?;
        let per_segment = u64::try_from(SEGMENT_ENTRIES_MAX).unwrap_or(u64::MAX);
        let end = newest.saturating_add(1).saturating_mul(per_segment);
        let before = query.before.unwrap_or(end).min(end);
        // The first segment that may hold an entry before `before`, and the oldest that is still in the ring.
        let first = before.saturating_sub(1) / per_segment;
        let oldest = newest.saturating_sub(u64::from(SEGMENTS_MAX) - 1);
        let numbers: Vec<u64> = (oldest..=first).rev().take(SEGMENTS_READ_MAX).collect();
        let keys: Vec<Key> = numbers.iter().map(|number| Key::AuditSegment(place(*number))).collect();
        let mut entries = Vec::new();
        for (number, stored) in numbers.iter().zip(self.store.load_many(&keys).await?) {
            let segment = decode(stored.as_deref(), *number)?.unwrap_or_default();
            let start = number.saturating_mul(per_segment);
            for (at, entry) in (start..).zip(segment).collect::<Vec<_>>().into_iter().rev() {
                if at >= before {
                    continue;
                }
                if query.since_ms.is_some_and(|since| entry.at_ms.saturating_add(DISORDER_MAX_MS) < since) {
                    return Ok(Page { entries, next: None });
                }
                if !query.matches(&entry) {
                    continue;
                }
                entries.push(entry);
                if entries.len() >= query.limit {
                    return Ok(Page { entries, next: (at > 0).then_some(at) });
                }
            }
        }
        let last = numbers.last().copied().unwrap_or(0);
        let next = (last > oldest).then(|| last.saturating_mul(per_segment));
        Ok(Page { entries, next })
    }
}
