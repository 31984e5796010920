//! What a replica lacks, from the origin: frames that only their signature makes good.

use std::time::Duration;

use shared::{feed::FRAME_BYTES_MAX, replica::Position};
use url::Url;

use crate::{Error, Problem, http_client, read};

/// A snapshot of a million floors, with room for its headers.
const FRAMES_BYTES_MAX: usize = 32 * FRAME_BYTES_MAX;

/// What an origin answers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// What it read of the log so far, a few milliseconds ago as a rule.
    Recent,
    /// The log, which it reads for the answer: everything acknowledged before is in it.
    Current,
}

/// Reads the feed of an origin; needs no key, since frames are nobody's secret.
#[derive(Debug, Clone)]
pub struct FeedClient {
    http: reqwest::Client,
    url: Url,
}

impl FeedClient {
    /// Asks the origin at `base`; `timeout` is the deadline of each call.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if `base` has no path, [`Error::Unreachable`] if the HTTP library cannot start.
    pub fn new(base: &Url, timeout: Duration) -> Result<Self, Error> {
        let http = http_client(base, timeout)?;
        let mut url = base.clone();
        url.path_segments_mut().map_err(|()| Error::Address)?.pop_if_empty().extend(["feed", "delta"]);
        Ok(Self { http, url })
    }

    /// The frames that bring a replica up to date, unchecked; at most 32 MiB.
    ///
    /// # Errors
    ///
    /// [`Error`]; nothing is tried again here.
    pub async fn since(&self, position: Position, reading: Reading) -> Result<Vec<u8>, Error> {
        let mut url = self.url.clone();
        url.set_query(Some(&position.to_string()));
        let mut request = self.http.get(url);
        if reading == Reading::Current {
            request = request.query(&[("current", true)]);
        }
        let response = request.send().await.map_err(|error| Error::unreachable(&error))?;
        let status = response.status();
        if !status.is_success() {
            let problem = Problem::of_status(status);
            return Err(Error::Refused { status: status.as_u16(), problem, retry_after: None });
        }
        read(response, FRAMES_BYTES_MAX).await
    }
}
