//! Request bodies and paths, read strictly: a wrong content type, an unknown or a repeated field is refused with a text
//! that says what to change.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::error::{OAuthError, Problem};

/// More fields than any form of ours has; a form with more is refused before it is looked at.
const FORM_FIELDS_MAX: usize = 32;

/// What is said of a request with two `Authorization` lines (RFC 6750 §2): none of them counts.
pub(crate) const SEVERAL_CREDENTIALS: &str = "more than one Authorization header was sent";

/// The request has more than one `Authorization` line.
pub(crate) struct SeveralCredentials;

/// The one `Authorization` line, if there is one.
pub(crate) fn authorization(headers: &HeaderMap) -> Result<Option<&HeaderValue>, SeveralCredentials> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next();
    if values.next().is_some() { Err(SeveralCredentials) } else { Ok(value) }
}

/// What follows `Bearer` (RFC 6750 §2.1); none for another scheme.
pub(crate) fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    match value.as_bytes().split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => Some(token),
        _ => None,
    }
}

/// A JSON body. An empty body without content type reads as `{}`.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let content_type = content_type(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(body_problem)?;
        match content_type.as_deref() {
            Some("application/json") => {}
            None if bytes.is_empty() => {}
            _ => {
                let detail = "the body must be sent as application/json";
                return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
            }
        }
        let json: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        if !json.trim_ascii_start().starts_with(b"{") {
            // The library would take an array for an object with its members in order.
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the body must be a JSON object"));
        }
        serde_json::from_slice(json).map(Self).map_err(|error| json_problem(&error))
    }
}

/// An object within a body, or null. For `deserialize_with`: by itself the library takes an array for one too.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object or null")
        }

        fn visit_unit<E>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(members)).map(Some)
        }
    }

    deserializer.deserialize_any(Object(PhantomData))
}

fn json_problem(error: &serde_json::Error) -> Problem {
    let text = without_what_was_sent(&error.to_string());
    Problem::new(StatusCode::BAD_REQUEST, format!("the body is not what is expected here: {text}"))
}

/// What `serde_json` says names field and place, and repeats what was sent: values in double quotes, unknown names in
/// backticks. That is left out, since a credential may have been sent in the wrong place (I10), but for names that are none.
fn without_what_was_sent(text: &str) -> String {
    for kind in ["unknown field `", "unknown variant `"] {
        let parts = text.strip_prefix(kind).and_then(|rest| rest.rsplit_once("`, expected "));
        if let Some((name, expected)) = parts {
            let name = if is_plain_name(name) { name } else { "…" };
            return format!("{kind}{name}`, expected {expected}");
        }
    }
    match (text.split_once('"'), text.rsplit_once('"')) {
        (Some((before, _)), Some((_, after))) => format!("{before}…{after}"),
        _ => text.to_owned(),
    }
}

/// Whether it is like the names of our fields and scopes, and unlike any credential.
fn is_plain_name(name: &str) -> bool {
    name.len() <= 24 && name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b':'))
}

fn body_problem(rejection: BytesRejection) -> Problem {
    let (status, detail) = body_refusal(&rejection);
    Problem::new(status, detail)
}

pub(crate) fn body_refusal(rejection: &BytesRejection) -> (StatusCode, &'static str) {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this service takes"),
        _ => (StatusCode::BAD_REQUEST, "the body did not arrive in full"),
    }
}

/// A form of an OAuth endpoint: no field twice (RFC 6749 §3.2), unknown fields ignored as that section asks.
pub(crate) struct Form(BTreeMap<String, String>);

impl Form {
    /// The value of a field; a field without value counts as left out (RFC 6749 §3.2).
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = OAuthError;

    async fn from_request(request: Request, state: &S) -> Result<Self, OAuthError> {
        if content_type(request.headers()).as_deref() != Some("application/x-www-form-urlencoded") {
            return Err(OAuthError::invalid_request("the body must be sent as application/x-www-form-urlencoded"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let (status, description) = body_refusal(&rejection);
            OAuthError::new(status, "invalid_request", description)
        })?;
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(&bytes).take(FORM_FIELDS_MAX.saturating_add(1)) {
            if fields.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(OAuthError::invalid_request("a field was sent more than once"));
            }
        }
        if fields.len() > FORM_FIELDS_MAX {
            return Err(OAuthError::invalid_request("the form has too many fields"));
        }
        Ok(Self(fields))
    }
}

/// A query, read as strictly as a body.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::try_from_uri(&parts.uri);
        query.map(|axum::extract::Query(query)| Self(query)).map_err(|_| {
            let detail = "the query is not what is expected here: a parameter is unknown, repeated or malformed";
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })
    }
}

/// A typed segment of the path; anything that is no such identifier is 404, since nothing can have that name.
pub(crate) struct Segment<T>(pub(crate) T);

impl<S: Send + Sync, T: std::str::FromStr + Send> FromRequestParts<S> for Segment<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let not_found = || Problem::new(StatusCode::NOT_FOUND, "the path does not name anything that can exist");
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| not_found())?;
        text.parse().map(Self).map_err(|_| not_found())
    }
}

/// The media type without parameters, in lower case; none if the header is missing, repeated or unreadable.
fn content_type(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    Some(value.split(';').next().unwrap_or(value).trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only errors are looked at")]
    struct Sample {
        number: Option<u64>,
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        One,
        Two,
    }

    /// I10, PRB-03.
    #[test]
    fn what_is_wrong_is_told_and_what_was_sent_is_not() {
        let told = |json: &str| without_what_was_sent(&serde_json::from_str::<Sample>(json).unwrap_err().to_string());
        assert_eq!(
            told(r#"{"nmber":1}"#),
            "unknown field `nmber`, expected `number` or `kind` at line 1 column 8",
            "a mistyped name is told"
        );
        assert_eq!(told(r#"{"kind":"three"}"#), "unknown variant `three`, expected `one` or `two` at line 1 column 15");
        let secret = "kUq3c0mS7ZJ1oYw2rTg8dQ";
        for (json, start) in [
            (r#"{"SECRET":1}"#, "unknown field `…`, expected `number`"),
            (r#"{"kind":"SECRET"}"#, "unknown variant `…`, expected `one`"),
            (r#"{"kind":"`, expected SECRET"}"#, "unknown variant `…`, expected `one`"),
            (r#"{"number":"SECRET"}"#, "invalid type: string …, expected u64"),
            (r#"{"number":"\"SECRET\""}"#, "invalid type: string …, expected u64"),
        ] {
            let told = told(&json.replace("SECRET", secret));
            assert!(told.starts_with(start) && !told.contains(secret), "{told}");
        }
    }
}
