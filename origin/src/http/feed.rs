//! `/feed`: what a hub or gate pulls when pushes stopped. Frames are signed, so anyone may carry them; they hold hashes
//! and versions only.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderName, StatusCode, header},
};
use serde::Deserialize;
use shared::feed::{Cursor, Epoch};

use super::{App, error::Problem};
use crate::feed::Position;

/// Where a replica stands.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeltaQuery {
    epoch: u64,
    after: u64,
    /// Version of the key set that the replica holds; 0 for none.
    #[serde(default)]
    keys: u64,
    /// Version of the policy that the replica got from the feed; 0 for none.
    #[serde(default)]
    policy: u64,
    /// Whether the log is read for the answer, so that everything acknowledged before is in it.
    #[serde(default)]
    current: bool,
}

type Frames = ([(HeaderName, &'static str); 2], Vec<u8>);

/// `GET /feed/delta?epoch=&after=&keys=&policy=&current=`: the frames that bring a replica up to date.
///
/// 1. a query that is not of this form: 400
/// 2. 200 `application/octet-stream`: a keys and a policy frame if what the replica has is older, then a delta, or a snapshot if the log no longer
///    reaches back to `after` or has another epoch
/// 3. the log is not being followed: 503
pub(super) async fn delta(
    State(app): State<App>,
    query: Result<Query<DeltaQuery>, QueryRejection>,
) -> Result<Frames, Problem> {
    let Query(query) = query.map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "the query must be epoch=…&after=…, and may have keys=… and policy=…, all numbers, and current=true",
        )
    })?;
    let position =
        Position { epoch: Epoch(query.epoch), cursor: Cursor(query.after), keys: query.keys, policy: query.policy };
    if query.current {
        app.feed.catch_up().await?;
    }
    let frames = app.feed.frames_since(position).await?;
    Ok(octets(frames))
}

/// `GET /feed/snapshot`: the keys and every live floor.
///
/// 200 `application/octet-stream`; 503 if the log is not being followed.
pub(super) async fn snapshot(State(app): State<App>) -> Result<Frames, Problem> {
    Ok(octets(app.feed.snapshot_frames().await?))
}

fn octets(frames: Vec<u8>) -> Frames {
    ([(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-store")], frames)
}
