//! Pages of lists: `?cursor=&limit=`, and `next_cursor` in the answer.
//!
//! A cursor is the place of the last entry that was seen, so a list may change between two pages: what stays in it is
//! neither passed over nor given twice.

use std::{fmt, str::FromStr};

use axum::http::StatusCode;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Deserialize, Deserializer, de};

use shared::{id::SessionId, time::Timestamp};

use super::{error::Problem, schema};
use crate::store::Indexed;

/// Entries of a page, if the client names no number.
const LIMIT_DEFAULT: usize = 50;

/// The most entries of a page.
const LIMIT_MAX: usize = 200;

/// A place in a list that is ordered by a number, and by an id where that is the same. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) id: [u8; 16],
}

/// Which page of a list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// `next_cursor` of the page before.
    #[param(value_type = Option<schema::PageCursor>)]
    pub(super) cursor: Option<Place>,
    /// Entries of the page; 50, if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

impl PageQuery {
    /// As [`limit`].
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        limit(self.limit)
    }

    /// In the index of sessions.
    pub(super) fn after(&self) -> Option<Indexed> {
        self.cursor.map(|Place { at, id }| Indexed {
            expires_at: Timestamp::from_millis(at),
            session: SessionId::from_random(id),
        })
    }
}

/// The cursor of the page after a session.
pub(super) fn cursor(next: Option<Indexed>) -> Option<String> {
    next.map(|next| Place { at: next.expires_at.as_millis(), id: *next.session.as_bytes() }.to_string())
}

/// A text that is no cursor.
#[derive(Debug, thiserror::Error)]
#[error("a cursor has 32 characters of base64url")]
pub(super) struct NoCursor;

impl FromStr for Place {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let mut bytes = [0; 24];
        let bytes = Base64UrlUnpadded::decode(text, &mut bytes).map_err(|_| NoCursor)?;
        let (at, id) = bytes.split_first_chunk().ok_or(NoCursor)?;
        Ok(Self { at: u64::from_be_bytes(*at), id: id.try_into().map_err(|_| NoCursor)? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.at.to_be_bytes().as_slice(), &self.id].concat();
        f.write_str(&Base64UrlUnpadded::encode_string(&bytes))
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The entries that a page may have.
///
/// # Errors
///
/// 400 for anything but 1 to 200.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, format!("limit must be 1 to {LIMIT_MAX}"))),
    }
}

/// One page of a list that is at hand in the order of its places: what comes after a place, and the cursor of the next page.
pub(super) fn page<T>(
    mut all: Vec<T>,
    place: impl Fn(&T) -> Place,
    after: Option<Place>,
    limit: usize,
) -> (Vec<T>, Option<String>) {
    all.retain(|entry| after.is_none_or(|after| place(entry) > after));
    let more = all.len() > limit;
    all.truncate(limit);
    let next = all.last().filter(|_| more).map(|last| place(last).to_string());
    (all, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: &u8) -> Place {
        // Two of a kind each, so that the id decides too.
        Place { at: u64::from(number / 2), id: [*number; 16] }
    }

    fn after(cursor: Option<&String>) -> Option<Place> {
        cursor.map(|cursor| cursor.parse().unwrap())
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let mut list: Vec<u8> = (0..5).collect();
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let (entries, next) = page(list.clone(), place, after(cursor.as_ref()), 2);
            seen.extend(entries);
            // What a cursor names may go.
            list.retain(|entry| !seen.contains(entry));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert!(limit(Some(0)).is_err() && limit(Some(201)).is_err());
        assert_eq!((limit(None).unwrap(), limit(Some(200)).unwrap()), (50, 200));
    }

    /// Any text of the documented form is a place, so a made-up one is answered like any other.
    #[test]
    fn a_cursor_has_one_form() {
        let text = place(&7).to_string();
        assert_eq!((text.len(), text.parse::<Place>().unwrap()), (32, place(&7)));
        assert!("_".repeat(32).parse::<Place>().is_ok());
        for wrong in ["", "x", &text[1..], &format!("{text}A"), &text.replace('A', "+")] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
