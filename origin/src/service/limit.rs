//! The limit on concurrent sessions of a subject.
//!
//! The roster is changed by compare-and-swap, so the limit holds over any number of origins. Order of writes: the new
//! session's record (nobody has its tokens yet) → the floors and records of those that it evicts → the roster → the
//! answer. A crash leaves at most a session that nobody has tokens of, or one evicted for nobody; never one too many.
//!
//! A subject without a roster gets one of the sessions that it has. So a limit that is set for the first time counts those
//! of before; one that is taken away and set again does not count what was opened in between.

use metrics::counter;
use shared::{
    codec::Record as _,
    id::{SessionId, SubjectId},
    roster::{Admission, Entry, Limit, ROSTER_MAX, Roster},
    session::{EndReason, Initiator, Session},
    time::Timestamp,
};
use tokio::sync::{Mutex, MutexGuard};

use super::{RECORD_MARGIN, Service, ServiceError, events, write::encode};
use crate::{
    store::{Key, Swapped},
    telemetry::metrics::{COMMIT_CONFLICTS, LIMIT_EXCEEDED},
};

/// How often a roster is read again when another origin came first; within an origin they take turns.
const ATTEMPTS: u32 = 64;

/// Subjects take turns by the first byte of a hash of their name.
const TURNS: usize = 256;

/// Makes those who open sessions of the same subject at this origin wait for each other instead of failing.
pub(super) struct Turns(Vec<Mutex<()>>);

impl Turns {
    pub(super) fn new() -> Self {
        Self((0..TURNS).map(|_| Mutex::new(())).collect())
    }

    async fn take(&self, subject: &SubjectId) -> Result<MutexGuard<'_, ()>, ServiceError> {
        let [first, ..] = *shared::revocation::FloorKey::subject(subject).as_bytes();
        let turn = self.0.get(usize::from(first)).ok_or(ServiceError::Library)?;
        Ok(turn.lock().await)
    }
}

/// A roster as it was read, and what it has to say.
struct Read {
    stored: Option<Vec<u8>>,
    admission: Admission,
}

impl Service {
    /// Writes a new session by `write` once the limit leaves a place for it, and takes the place.
    ///
    /// # Errors
    ///
    /// [`ServiceError::TooManySessions`], with nothing left behind; the store.
    pub(super) async fn take_place(
        &self,
        id: &SessionId,
        session: &Session,
        limit: Limit,
        write: impl Future<Output = Result<(), ServiceError>>,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let subject = &session.subject;
        let entry = Entry::new(*id, session.opened_at, session.expires_at);
        let _turn = self.turns.take(subject).await?;
        let read = self.read_roster(subject, entry, limit, now).await?;
        if let Admission::Refused { .. } = read.admission {
            return Err(refused(subject, limit));
        }
        let mut settled = write.await;
        if settled.is_ok() {
            // From here on a failure may have left something behind.
            settled = self.settle(session, limit, (entry, read), now).await.map_err(ServiceError::after_a_write);
        }
        if settled.is_err() {
            self.abandon(id, now).await;
        }
        settled
    }

    /// Takes the place on the roster for a session whose record is written.
    async fn settle(
        &self,
        session: &Session,
        limit: Limit,
        (entry, mut read): (Entry, Read),
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        let subject = &session.subject;
        for _ in 0..ATTEMPTS {
            let (roster, evicted) = match read.admission {
                Admission::Place(roster) => (roster, Vec::new()),
                Admission::Evict { roster, evicted } => (roster, evicted),
                Admission::Refused { .. } => return Err(refused(subject, limit)),
            };
            for old in &evicted {
                self.evict(old, limit, now).await?;
            }
            if self.swap_roster(subject, read.stored.as_deref(), &roster).await? == Swapped::Done {
                return Ok(());
            }
            read = self.read_roster(subject, entry, limit, now).await?;
        }
        Err(ServiceError::Contended)
    }

    /// Puts a session into the place of another that is over.
    pub(super) async fn replace_on_roster(
        &self,
        old: &SessionId,
        id: &SessionId,
        session: &Session,
        now: Timestamp,
    ) -> Result<(), ServiceError> {
        if self.limit.is_none() {
            return Ok(());
        }
        let subject = &session.subject;
        let entry = Entry::new(*id, session.opened_at, session.expires_at);
        let _turn = self.turns.take(subject).await?;
        for _ in 0..ATTEMPTS {
            // Without a roster the next one to open a session makes it, with this session on it.
            let Some(stored) = self.store.load(&Key::Roster(subject.clone())).await? else { return Ok(()) };
            let roster = Roster::decode(&stored).map_err(ServiceError::Record)?.replaced(old, entry, now);
            if self.swap_roster(subject, Some(&stored), &roster).await? == Swapped::Done {
                return Ok(());
            }
        }
        Err(ServiceError::Contended)
    }

    async fn read_roster(
        &self,
        subject: &SubjectId,
        entry: Entry,
        limit: Limit,
        now: Timestamp,
    ) -> Result<Read, ServiceError> {
        let stored = self.store.load(&Key::Roster(subject.clone())).await?;
        let roster = match stored.as_deref() {
            Some(bytes) => Roster::decode(bytes).map_err(ServiceError::Record)?,
            None => self.roster_of_old(subject, now).await?,
        };
        // Whether a session is over is looked up only if it matters.
        let over = if roster.is_full(&entry, limit, now) { self.over(&roster, now).await? } else { Vec::new() };
        Ok(Read { stored, admission: roster.admit(entry, &over, limit, now) })
    }

    async fn swap_roster(
        &self,
        subject: &SubjectId,
        stored: Option<&[u8]>,
        roster: &Roster,
    ) -> Result<Swapped, ServiceError> {
        let kept_until = roster.expires_at().saturating_add(RECORD_MARGIN);
        let key = Key::Roster(subject.clone());
        let swapped = self.store.swap(&key, stored, &encode(roster)?, Some(kept_until)).await?;
        if swapped == Swapped::Conflict {
            counter!(COMMIT_CONFLICTS).increment(1);
        }
        Ok(swapped)
    }

    /// A roster of the sessions that were opened before there was a limit.
    async fn roster_of_old(&self, subject: &SubjectId, now: Timestamp) -> Result<Roster, ServiceError> {
        let listed = self.store.index_list(subject, None, ROSTER_MAX).await?;
        let open = self.open_among(listed.iter().map(|entry| entry.session).collect(), now).await?;
        let entry = |(id, session): &(SessionId, Session)| Entry::new(*id, session.opened_at, session.expires_at);
        Ok(Roster::new(open.iter().map(entry).collect()))
    }

    /// Those on the roster that are over.
    async fn over(&self, roster: &Roster, now: Timestamp) -> Result<Vec<SessionId>, ServiceError> {
        let ids: Vec<SessionId> = roster.entries().iter().map(|entry| *entry.id()).collect();
        let open = self.open_among(ids.clone(), now).await?;
        Ok(ids.into_iter().filter(|id| open.iter().all(|(other, _)| other != id)).collect())
    }

    async fn evict(&self, id: &SessionId, limit: Limit, now: Timestamp) -> Result<(), ServiceError> {
        match self.end(id, EndReason::Evicted, Initiator::System, now).await {
            Ok((changed, session)) => {
                self.unlist(id, &session.subject).await;
                if changed.written {
                    counter!(LIMIT_EXCEEDED, "outcome" => "evicted").increment(1);
                    events::excess(&session.subject, "evicted", limit.sessions_max.get());
                }
                Ok(())
            }
            // Forgotten since it was looked at: over, and nobody revives it.
            Err(ServiceError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn refused(subject: &SubjectId, limit: Limit) -> ServiceError {
    counter!(LIMIT_EXCEEDED, "outcome" => "refused").increment(1);
    events::excess(subject, "refused", limit.sessions_max.get());
    ServiceError::TooManySessions { sessions_max: limit.sessions_max.get() }
}
