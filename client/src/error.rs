//! Why a call has no answer.

use reqwest::StatusCode;
use serde::Deserialize;

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

    /// Whether the same call may succeed a little later.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => matches!(status, 429 | 503),
            Self::Answer | Self::Address | Self::Random => false,
        }
    }
}
