//! The hub: a Durable Object that keeps the origin's signed frames and hands them to the gates of its region.
//!
//! It stores frames as they came and never signs, so what a gate gets is the origin's word. A push that leaves a gap is
//! answered 409 with the position of the hub, from which the origin sends again. When pushes stop, the alarm pulls.
//!
//! Invariant: the frames in storage are one whole snapshot, the gap-free deltas after it, and one keys frame.

mod log;

use core::cell::{Cell, RefCell};

use serde_json::json;
use shared::{
    feed::{Cursor, Epoch, FRAME_BYTES_MAX, UnverifiedFrame},
    keys::PublicKey,
    replica::Position,
};
use worker::{Date, DurableObject, Env, Fetch, Method, Request, Response, Result, State, Url, durable_object};

use self::log::{Log, Stored};
use crate::verify::Runtime;

/// The largest push: a snapshot of a million floors with room for its headers.
const PUSH_BYTES_MAX: usize = 32 * FRAME_BYTES_MAX;

/// How often the alarm looks whether pushes still come, in milliseconds.
const ALARM_MS: i64 = 1_000;

/// Without a push for this long the hub pulls, in milliseconds.
const QUIET_MS_MAX: u64 = 2_000;

/// Deltas that are kept before a new snapshot is asked for.
const DELTAS_MAX: usize = 2_048;

/// The hub of one region.
#[durable_object]
pub struct Hub {
    state: State,
    env: Env,
    feed_keys: Vec<PublicKey>,
    log: RefCell<Log>,
    heard_at_ms: Cell<u64>,
}

impl DurableObject for Hub {
    fn new(state: State, env: Env) -> Self {
        let feed_keys = feed_keys(&env);
        let log = RefCell::new(Log::open(state.storage().sql()));
        Self { state, env, feed_keys, log, heard_at_ms: Cell::new(0) }
    }

    /// `POST …/frames` takes frames in, `GET …/sync?epoch=&after=&keys=` hands out what a gate lacks.
    async fn fetch(&self, mut request: Request) -> Result<Response> {
        if self.state.storage().get_alarm().await?.is_none() {
            self.state.storage().set_alarm(ALARM_MS).await?;
        }
        if request.method() == Method::Post {
            let bytes = request.bytes().await?;
            if bytes.len() > PUSH_BYTES_MAX {
                return Response::error("too large", 413);
            }
            return match self.take(&bytes) {
                Ok(stored) => self.answer(stored),
                Err(()) => Response::error("the frames are malformed or not signed by a pinned key", 400),
            };
        }
        let Some(position) = position_of(&request.url()?) else {
            return Response::error("the query must be epoch=…&after=…&keys=…", 400);
        };
        if self.log.borrow().position().epoch == Epoch(0) {
            // Nothing was pushed yet: the first gate need not wait for the alarm.
            self.pull().await;
        }
        let mut response = Response::from_bytes(self.log.borrow().since(position)?)?;
        response.headers_mut().set("content-type", "application/octet-stream")?;
        Ok(response)
    }

    async fn alarm(&self) -> Result<Response> {
        let quiet = now_ms().saturating_sub(self.heard_at_ms.get()) >= QUIET_MS_MAX;
        if quiet || self.log.borrow().deltas() > DELTAS_MAX {
            self.pull().await;
        }
        self.state.storage().set_alarm(ALARM_MS).await?;
        Response::empty()
    }
}

impl Hub {
    /// Takes in the frames that are good, up to the first that is not.
    fn take(&self, mut bytes: &[u8]) -> core::result::Result<Stored, ()> {
        let mut stored = Stored::Known;
        while !bytes.is_empty() {
            let (frame, rest) = UnverifiedFrame::split(bytes).map_err(|_| ())?;
            let frame = frame.verify(&Runtime, &self.feed_keys).map_err(|_| ())?;
            stored = self.log.borrow_mut().store(&frame).map_err(|_| ())?;
            self.heard_at_ms.set(now_ms());
            bytes = rest;
        }
        Ok(stored)
    }

    fn answer(&self, stored: Stored) -> Result<Response> {
        let position = self.log.borrow().position();
        let body = json!({
            "epoch": position.epoch.to_string(),
            "cursor": position.cursor.to_string(),
            "keys": position.keys.to_string(),
        });
        let status = if stored == Stored::Gap { 409 } else { 200 };
        Ok(Response::from_json(&body)?.with_status(status))
    }

    /// Asks the origin for what the hub lacks. A failure changes nothing; the next alarm tries again.
    async fn pull(&self) {
        let Ok(origin) = self.env.var("ORIGIN_URL") else { return };
        let position = self.log.borrow().position();
        let origin = origin.to_string();
        let origin = origin.trim_end_matches('/');
        let url = if position.epoch == Epoch(0) || self.log.borrow().deltas() > DELTAS_MAX {
            format!("{origin}/feed/snapshot")
        } else {
            format!("{origin}/feed/delta?epoch={}&after={}&keys={}", position.epoch, position.cursor, position.keys)
        };
        let Ok(url) = Url::parse(&url) else { return };
        let Ok(mut response) = Fetch::Url(url).send().await else { return };
        if response.status_code() != 200 {
            return;
        }
        if let Ok(bytes) = response.bytes().await
            && bytes.len() <= PUSH_BYTES_MAX
            && self.take(&bytes).is_err()
        {
            worker::console_warn!("the origin's frames were refused");
        }
    }
}

/// The pinned feed keys; a text that is no key counts for nothing.
pub(crate) fn feed_keys(env: &Env) -> Vec<PublicKey> {
    let text = env.var("FEED_KEYS").map(|keys| keys.to_string()).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|key| PublicKey::ed25519_from_text(key).ok()).collect()
}

fn position_of(url: &Url) -> Option<Position> {
    let number = |name: &str| {
        let (_, value) = url.query_pairs().find(|(key, _)| key == name)?;
        value.parse::<u64>().ok()
    };
    Some(Position { epoch: Epoch(number("epoch")?), cursor: Cursor(number("after")?), keys: number("keys")? })
}

fn now_ms() -> u64 {
    Date::now().as_millis()
}
