//! Pages of the index of sessions: a sorted set per subject, the time of expiry as score.

use shared::{
    id::{SessionId, SubjectId},
    time::Timestamp,
};

use super::{RedisStore, StoreError, names};
use crate::store::Indexed;

/// A member and its score.
type Scored = (Vec<u8>, f64);

impl RedisStore {
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
            let mut command = redis::cmd("ZREVRANGEBYSCORE");
            command.arg(names::index(subject)).arg(&from).arg(format!("({}", now.as_millis()));
            command.arg("WITHSCORES").arg("LIMIT").arg(0).arg(asked);
            let found: Vec<Scored> = self.ask(&command).await?;
            let is_all = found.len() < asked;
            let mut page = found.into_iter().map(indexed).collect::<Result<Vec<_>, _>>()?;
            page.retain(|entry| after.is_none_or(|after| entry < after));
            if page.len() >= max || is_all {
                page.truncate(max);
                return Ok(page);
            }
            asked = asked.saturating_mul(2);
        }
    }
}

fn indexed((session, score): Scored) -> Result<Indexed, StoreError> {
    let session = session.try_into().map_err(|_| StoreError::Corrupt("a session id of another length"))?;
    // Milliseconds stay exact as floating point for some 285,000 years.
    let millis = score.to_string().parse().map_err(|_| StoreError::Corrupt("a time that is none"))?;
    Ok(Indexed { expires_at: Timestamp::from_millis(millis), session: SessionId::from_random(session) })
}
