//! Why a call has no answer.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

/// Whoever has to wait longer than this is told so, and decides.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The origin refused.
    #[error("the origin refused ({status}): {}", problem.detail)]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        problem: Problem,
        /// When it wants to be asked again (RFC 9110 section 10.2.3).
        retry_after: Option<Duration>,
    },
    /// No try was answered; what was asked for may have been done.
    #[error("the origin does not answer: {0}")]
    Unreachable(&'static str),
    /// The answer is not one of this API.
    #[error("the origin's answer cannot be read")]
    Answer,
    /// The address cannot have a path.
    #[error("the address of the origin must be an http or https URL")]
    Address,
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Random,
}

/// A refusal (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// What kind of problem it is.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// The words of the status.
    #[serde(default)]
    pub title: String,
    /// What was wrong, and what would be right.
    #[serde(default)]
    pub detail: String,
}

impl Problem {
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let title = status.canonical_reason().unwrap_or("refused").to_owned();
        Self { kind: "about:blank".to_owned(), detail: title.clone(), title }
    }
}

impl Error {
    /// Without the library's own words, which repeat the address.
    pub(crate) fn unreachable(error: &reqwest::Error) -> Self {
        Self::Unreachable(if error.is_timeout() {
            "the deadline passed"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the connection broke"
        })
    }

    /// How long to wait before the next try, of which the plan says `planned`; none if that would take too long.
    pub(crate) fn wait(&self, planned: Option<Duration>) -> Option<Duration> {
        let planned = planned?;
        match self {
            Self::Refused { retry_after: Some(asked), .. } if *asked > RETRY_AFTER_MAX => None,
            // What is planned is jittered, so that those who were refused together do not come back together.
            Self::Refused { retry_after: Some(asked), .. } => Some(asked.saturating_add(planned)),
            _ => Some(planned),
        }
    }

    /// Whether the same call may succeed a little later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            // 409 with a time: the first try of this call is still being answered.
            Self::Refused { status, retry_after, .. } => {
                matches!(status, 429 | 503) || *status == 409 && retry_after.is_some()
            }
            Self::Answer | Self::Address | Self::Random => false,
        }
    }
}
