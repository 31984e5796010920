//! Pages of lists: `?cursor=&limit=`, and `next_cursor` in the answer.

use axum::http::StatusCode;

use super::error::Problem;

/// Entries of a page, if the client names no number.
const LIMIT_DEFAULT: usize = 50;

/// The most entries of a page.
const LIMIT_MAX: usize = 200;

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

/// One page of a list that is at hand, and the cursor of the next: the id of the last entry of this one.
///
/// # Errors
///
/// 400 if the cursor names no entry: the list changed, and has to be read from its start.
pub(super) fn page<T>(
    mut all: Vec<T>,
    id: impl Fn(&T) -> String,
    cursor: Option<&str>,
    limit: usize,
) -> Result<(Vec<T>, Option<String>), Problem> {
    if let Some(cursor) = cursor {
        let at = all.iter().position(|entry| id(entry) == cursor);
        let at = at.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "the cursor no longer names an entry"))?;
        all.drain(..=at);
    }
    let more = all.len() > limit;
    all.truncate(limit);
    let next = all.last().filter(|_| more).map(id);
    Ok((all, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let list: Vec<u32> = (0..5).collect();
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let (entries, next) = page(list.clone(), u32::to_string, cursor.as_deref(), 2).unwrap();
            seen.extend(entries);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, list);
        assert!(page(list, u32::to_string, Some("9"), 2).is_err());
        assert!(limit(Some(0)).is_err() && limit(Some(201)).is_err());
        assert_eq!((limit(None).unwrap(), limit(Some(200)).unwrap()), (50, 200));
    }
}
