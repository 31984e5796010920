//! The hub as a Durable Object: what it keeps and hands out is decided in [`shared::hub`]; here are its storage, its alarm and
//! its pulls.
//!
//! A push that leaves a gap is answered 409 with the position of the hub, from which the origin sends again.

mod frames;

use core::{cell::RefCell, pin::pin, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, select},
};
use serde_json::json;
use shared::{
    feed::{Cursor, Epoch, FRAME_BYTES_MAX},
    hub::{self, PAUSE, PULL_TIMEOUT, Pull, Stored, TakeError},
    keys::PublicKey,
    replica::Position,
    time::Timestamp,
};
use worker::{
    AbortController, Date, Delay, DurableObject, Env, Fetch, Method, Request, Response, Result, State, Url,
    durable_object,
};

use self::frames::SqlFrames;
use crate::verify::Runtime;

/// The largest push: a snapshot of a million floors with room for its headers.
const PUSH_BYTES_MAX: usize = 32 * FRAME_BYTES_MAX;

/// The hub of one region.
#[durable_object]
pub struct Hub {
    state: State,
    env: Env,
    feed_keys: Vec<PublicKey>,
    hub: RefCell<hub::Hub<SqlFrames>>,
}

impl DurableObject for Hub {
    fn new(state: State, env: Env) -> Self {
        let feed_keys = feed_keys(&env);
        let (frames, made) = SqlFrames::open(state.storage().sql());
        let mut hub = hub::Hub::new(frames);
        if let Err(error) = made.and_then(|()| hub.load()) {
            worker::console_error!("the storage of the hub cannot be read: {error}");
        }
        Self { state, env, feed_keys, hub: RefCell::new(hub) }
    }

    /// `POST …/frames` takes frames in, `GET …/sync?epoch=&after=&keys=&policy=` hands out what a gate lacks.
    async fn fetch(&self, mut request: Request) -> Result<Response> {
        if self.state.storage().get_alarm().await?.is_none() {
            self.state.storage().set_alarm(PAUSE).await?;
        }
        if request.method() == Method::Post {
            let bytes = request.bytes().await?;
            if bytes.len() > PUSH_BYTES_MAX {
                return Response::error("too large", 413);
            }
            // Nothing is awaited from here on: hub.mjs repeats what was answered before until this is done.
            return match self.take(&bytes) {
                Ok(stored) => self.answer(stored),
                Err(()) => Response::error("the frames are malformed or not signed by a pinned key", 400),
            };
        }
        let Some(position) = position_of(&request.url()?) else {
            return Response::error("the query must be epoch=…&after=…&keys=…, and may have policy=…", 400);
        };
        let is_empty = self.hub.borrow().position().epoch == Epoch(0);
        if is_empty {
            // Nothing was pushed yet: the first gate need not wait for the alarm.
            self.pull().await;
        }
        let mut response = Response::from_bytes(self.hub.borrow().since(position)?)?;
        let headers = response.headers_mut();
        headers.set("content-type", "application/octet-stream")?;
        if is_empty {
            // The next one may bring more, though nobody pushed.
            headers.set("cache-control", "no-store")?;
        }
        Ok(response)
    }

    async fn alarm(&self) -> Result<Response> {
        self.pull().await;
        let pause = self.hub.borrow().look_after(now());
        self.state.storage().set_alarm(pause).await?;
        Response::empty()
    }
}

impl Hub {
    /// Takes in the frames that are good, up to the first that is not.
    fn take(&self, bytes: &[u8]) -> core::result::Result<Stored, ()> {
        self.hub.borrow_mut().take(bytes, &Runtime, &self.feed_keys, now()).map_err(|error| {
            if let TakeError::Store(error) = error {
                worker::console_error!("the storage of the hub cannot be written: {error}");
            }
        })
    }

    fn answer(&self, stored: Stored) -> Result<Response> {
        let position = self.hub.borrow().position();
        let body = json!({
            "epoch": position.epoch.to_string(),
            "cursor": position.cursor.to_string(),
            "keys": position.keys.to_string(),
            "policy": position.policy.to_string(),
        });
        let status = if stored == Stored::Gap { 409 } else { 200 };
        Ok(Response::from_json(&body)?.with_status(status))
    }

    /// Asks the origin for what the hub lacks, if it lacks anything. A failure changes nothing; the next alarm tries again.
    async fn pull(&self) {
        let Some(pull) = self.hub.borrow().wants(now()) else { return };
        let Ok(origin) = self.env.var("ORIGIN_URL") else { return };
        let origin = origin.to_string();
        let origin = origin.trim_end_matches('/');
        let url = match pull {
            Pull::Snapshot => format!("{origin}/feed/snapshot"),
            Pull::Since(position) => format!("{origin}/feed/delta?{position}"),
        };
        let Ok(url) = Url::parse(&url) else { return };
        if let Some(bytes) = fetch(url).await
            && self.take(&bytes).is_err()
        {
            worker::console_warn!("the origin's frames were refused");
        }
    }
}

/// The body at an address; none if it is no good answer, too large, or nothing comes for too long.
async fn fetch(url: Url) -> Option<Vec<u8>> {
    let controller = AbortController::default();
    let signal = controller.signal();
    let fetched = async {
        let fetch = Fetch::Url(url);
        let mut response = within(PULL_TIMEOUT, fetch.send_with_signal(&signal)).await?.ok()?;
        if response.status_code() != 200 {
            return None;
        }
        let (mut body, mut bytes) = (response.stream().ok()?, Vec::new());
        while let Some(chunk) = within(PULL_TIMEOUT, body.next()).await? {
            bytes.extend_from_slice(&chunk.ok()?);
            if bytes.len() > PUSH_BYTES_MAX {
                return None;
            }
        }
        Some(bytes)
    };
    let fetched = fetched.await;
    if fetched.is_none() {
        controller.abort();
    }
    fetched
}

/// What comes of `work`; none if it takes longer than `time`.
async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), pin!(Delay::from(time))).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
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
    let policy = number("policy").unwrap_or(0);
    Some(Position { epoch: Epoch(number("epoch")?), cursor: Cursor(number("after")?), keys: number("keys")?, policy })
}

fn now() -> Timestamp {
    Timestamp::from_millis(Date::now().as_millis())
}
