//! What clients were told, and whether it is still true.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use shared::{
    id::SessionId,
    replica::Replica,
    revocation::{FloorKey, Version},
    time::Timestamp,
};

use super::Counts;
use crate::{MANAGEMENT_KEY, TestOrigin, eventually};

/// How late a token may be admitted after its end was acknowledged.
pub(super) const BOUND: Duration = Duration::from_secs(3);

/// How long a client repeats a command.
const PATIENCE: Duration = Duration::from_secs(40);

/// Whether the store forgets sessions in a case, as one does that was emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sessions {
    Kept,
    MayBeForgotten,
}

/// What a client knows of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    Alive,
    /// Since when.
    Over(Instant),
    /// A command was not acknowledged in time, or the store was allowed to forget it.
    Nothing,
}

#[derive(Debug, Clone)]
struct Entry {
    id: SessionId,
    refresh_token: String,
    told: Told,
    /// Whether a store that forgets sessions still has it, in an older state.
    in_backup: bool,
    admitted: bool,
}

/// What was acknowledged.
pub(super) struct Ledger {
    sessions: Sessions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    counts: Counts,
    stopped: bool,
}

impl Ledger {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self { sessions, state: Mutex::default() }
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().counts
    }

    pub(super) fn stop(&self) {
        self.state().stopped = true;
    }

    /// Works on the origins in turn until it is stopped: opens, refreshes twice, ends every other session of each origin.
    pub(super) async fn work(&self, number: usize, bases: &[String]) -> anyhow::Result<()> {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let at = |turn: usize, path: &str| format!("{}{path}", bases[turn % bases.len()]);
        for turn in number.. {
            if self.state().stopped {
                break;
            }
            let body = json!({ "subject": format!("user-{number}"), "client_id": "web", "tenant": "acme" });
            let open = || client.post(at(turn, "/v1/sessions")).bearer_auth(MANAGEMENT_KEY).json(&body);
            let Some(opened) = self.acknowledge(open).await else { continue };
            let Some(index) = self.note(&opened) else { continue };
            for step in 1..=2 {
                self.refresh(&client, index, &at(turn + step, "")).await;
            }
            if turn / 2 % 2 == 0 {
                self.end(&client, index, &at(turn, "")).await;
            }
        }
        Ok(())
    }

    /// Of the sessions that a backup has just been made of, refreshes a third and ends another, then lets clients work again.
    pub(super) async fn take_up(&self, bases: &[String]) -> anyhow::Result<()> {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        self.state().entries.iter_mut().for_each(|entry| entry.in_backup = true);
        let known = self.state().entries.len();
        for (index, base) in (0..known).zip(bases.iter().cycle()) {
            match index % 3 {
                0 => self.refresh(&client, index, base).await,
                1 => self.end(&client, index, base).await,
                _ => {}
            }
        }
        self.state().stopped = false;
        Ok(())
    }

    /// Refreshes a session, if it is alive.
    async fn refresh(&self, client: &Client, index: usize, base: &str) {
        let Some(entry) = self.alive(index) else { return };
        let form = [("grant_type", "refresh_token"), ("refresh_token", &entry.refresh_token), ("client_id", "web")];
        let refresh = || client.post(format!("{base}/oauth2/token")).form(&form);
        let answer = self.acknowledge(refresh).await;
        let entry = &mut self.state().entries[index];
        match answer.as_ref().and_then(|answer| answer["refresh_token"].as_str()) {
            Some(token) => token.clone_into(&mut entry.refresh_token),
            None => entry.told = Told::Nothing,
        }
    }

    /// Ends a session, if it is alive.
    async fn end(&self, client: &Client, index: usize, base: &str) {
        let Some(entry) = self.alive(index) else { return };
        let address = format!("{base}/v1/sessions/{}/revoke", entry.id);
        let revoke = || client.post(&address).bearer_auth(MANAGEMENT_KEY).json(&json!({}));
        let told = match self.acknowledge(revoke).await {
            Some(_) => Told::Over(Instant::now()),
            None => Told::Nothing,
        };
        self.state().entries[index].told = told;
    }

    fn alive(&self, index: usize) -> Option<Entry> {
        self.state().entries.get(index).filter(|entry| entry.told == Told::Alive).cloned()
    }

    /// Repeats a command until it is acknowledged. An answer that is neither success nor 503 is an alarm, unless the
    /// session may have been forgotten.
    async fn acknowledge(&self, command: impl Fn() -> RequestBuilder) -> Option<Value> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Ok(response) = command().send().await {
                let (status, retry_after) = (response.status(), response.headers().contains_key("retry-after"));
                // An answer that breaks off was none.
                if let Ok(body) = response.bytes().await {
                    if status.is_success() {
                        self.state().counts.acknowledged += 1;
                        return serde_json::from_slice(&body).ok();
                    }
                    let is_forgotten = self.sessions == Sessions::MayBeForgotten
                        && matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND);
                    if !(is_forgotten || status == StatusCode::SERVICE_UNAVAILABLE && retry_after) {
                        self.state().counts.false_alarms += 1;
                    }
                    if status != StatusCode::SERVICE_UNAVAILABLE {
                        return None;
                    }
                }
            }
            self.state().counts.repeated += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    fn note(&self, opened: &Value) -> Option<usize> {
        let id = opened["session_id"].as_str()?.parse().ok()?;
        let refresh_token = opened["refresh_token"].as_str()?.to_owned();
        let mut state = self.state();
        state.entries.push(Entry { id, refresh_token, told: Told::Alive, in_backup: false, admitted: false });
        Some(state.entries.len() - 1)
    }

    /// Looks for tokens that a replica would admit although their end was acknowledged longer ago than the bound.
    pub(super) fn watch(&self, replica: &Replica, now: Timestamp) {
        let is_fresh = replica.freshness().age_max(now, Duration::ZERO).is_some_and(|age| age <= BOUND);
        let mut state = self.state();
        let mut admitted = 0;
        for entry in &mut state.entries {
            let Told::Over(since) = entry.told else { continue };
            let is_admitted = is_fresh && replica.floors().lowest(&FloorKey::session(&entry.id)) != Version::ENDED;
            if is_admitted && since.elapsed() > BOUND && !entry.admitted {
                entry.admitted = true;
                admitted += 1;
            }
        }
        state.counts.admitted += admitted;
    }

    /// Compares all that was told with what the origins say now.
    pub(super) async fn settle(&self, origins: &[TestOrigin]) -> anyhow::Result<()> {
        let entries = self.state().entries.clone();
        for (origin, entry) in origins.iter().cycle().zip(entries) {
            if entry.told == Told::Nothing {
                continue;
            }
            // "Not now" tells nothing of the session.
            let answered = async || {
                let answer = origin.refresh(&entry.refresh_token, "web").await;
                answer.map(|answer| (answer.0 != 503).then_some(answer)).transpose()
            };
            let (status, answer) = eventually("an origin to say what it knows", answered).await??;
            let is_lost = match entry.told {
                Told::Alive => status != 200 && (self.sessions == Sessions::Kept || entry.in_backup),
                _ => status != 400,
            };
            if is_lost {
                eprintln!("{} {:?}: {status} {}", entry.id, entry.told, answer["error"]);
                self.state().counts.lost += 1;
            }
        }
        Ok(())
    }

    /// Claims of a session that lives that it was ended, and of one that was ended that it lives.
    #[cfg(test)]
    pub(super) fn exchange(&self) {
        let mut state = self.state();
        let alive = state.entries.iter().position(|entry| entry.told == Told::Alive);
        let over = state.entries.iter().position(|entry| matches!(entry.told, Told::Over(_)));
        for (index, told) in [(alive, Told::Over(Instant::now())), (over, Told::Alive)] {
            if let Some(entry) = index.and_then(|index| state.entries.get_mut(index)) {
                entry.told = told;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
