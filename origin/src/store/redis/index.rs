//! The sessions that are noted for a subject (see [`subject`] for where they stand).

use std::cmp::Reverse;

use shared::{
    id::{SessionId, SubjectId},
    time::Timestamp,
};

use super::{
    RedisStore, StoreError,
    names::{self, Named},
    subject,
};
use crate::store::Indexed;

/// A session's id and its time, as a sorted set has them.
pub(super) type Scored = (Vec<u8>, String);

/// Pieces of what is kept that one sweep looks at. With a sweep every 30 s that is a million keys in four hours.
const PIECES: usize = 4;

impl RedisStore {
    pub(super) async fn note(
        &self,
        subject: &SubjectId,
        session: &SessionId,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut call = subject::on_subject(&self.scripts.subject.note, subject);
        call.arg(subject::entry(session, expires_at).as_slice());
        call.arg(expires_at.as_millis()).arg(subject::NOTED_MAX);
        let name = names::subject(subject);
        let (answer, _) = self.write(&call, self.acknowledge.sessions.replicas(), &name).await?;
        subject::said(answer).map(drop)
    }

    /// Without a session, what is over goes.
    pub(super) async fn forget(&self, subject: &SubjectId, session: Option<&SessionId>) -> Result<(), StoreError> {
        let mut call = subject::on_subject(&self.scripts.subject.forget, subject);
        call.arg(session.map_or(&[][..], |session| session.as_bytes()));
        subject::said(self.run(&call).await?).map(drop)
    }

    /// The sessions that expire after `now`, the last first, after one that was seen.
    pub(super) async fn index_page(
        &self,
        subject: &SubjectId,
        after: Option<&Indexed>,
        max: usize,
        now: Timestamp,
    ) -> Result<Vec<Indexed>, StoreError> {
        let from = after.map_or_else(|| "+inf".to_owned(), |after| after.expires_at.as_millis().to_string());
        // The one that was seen comes again, and so do others of its millisecond.
        let mut asked = max.saturating_add(1);
        loop {
            let mut call = subject::on_subject(&self.scripts.subject.list, subject);
            call.arg(&from).arg(format!("({}", now.as_millis())).arg(asked);
            let (value, more): (Option<Vec<u8>>, Vec<Scored>) = self.run(&call).await?;
            let is_all = more.len() < asked;
            let is_after = |entry: &Indexed| after.is_none_or(|after| entry < after);
            let mut page = more.into_iter().map(indexed).collect::<Result<Vec<_>, _>>()?;
            page.retain(is_after);
            if page.len() < max && !is_all {
                asked = asked.saturating_mul(2);
                continue;
            }
            let (mut noted, _) = value.as_deref().map(subject::parts).transpose()?.unwrap_or_default();
            noted.retain(|entry| !now.has_reached(entry.expires_at) && is_after(entry));
            page.extend(noted);
            page.sort_unstable_by_key(|entry| Reverse(*entry));
            page.truncate(max);
            return Ok(page);
        }
    }

    /// Goes on with looking for subjects that nobody comes back to, and forgets their sessions that are over.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        for _ in 0..PIECES {
            let from = self.swept.lock().await.clone();
            let (names, next) = self.names(&from, names::SUBJECTS).await?;
            for name in names {
                if let Some(Named::Subject(subject) | Named::MoreSessions(subject)) = names::parse(&name) {
                    self.forget(&subject, None).await?;
                }
            }
            *self.swept.lock().await = next.clone().unwrap_or_default();
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// # Errors
///
/// Nothing here wrote it.
pub(super) fn indexed((session, millis): Scored) -> Result<Indexed, StoreError> {
    let session = session.try_into().map_err(|_| StoreError::Corrupt("a session id of another length"))?;
    // Whole numbers below 2^53 are written as such.
    let millis = millis.parse().map_err(|_| StoreError::Corrupt("a time that is none"))?;
    Ok(Indexed { expires_at: Timestamp::from_millis(millis), session: SessionId::from_random(session) })
}
