//! Who calls an OAuth endpoint (RFC 6749 §2.3): a public client by its name, a confidential one by a secret
//! (`client_secret_basic`) or by a signed assertion (`private_key_jwt`, RFC 7523).

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use base64ct::{Base64, Encoding as _};
use shared::id::ClientId;

use crate::{
    clients::Client,
    http::{
        App,
        error::OAuthError,
        extract::{self, Form, SEVERAL_CREDENTIALS},
    },
};

/// RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The longest `Authorization` header that is decoded.
const BASIC_BYTES_MAX: usize = 2_048;

/// The client that a request comes from.
///
/// 1. more than one `Authorization` header or more than one method (RFC 6749 §2.3), or a `client_id` beside it that says
///    otherwise: 400 `invalid_request`
/// 2. a secret in the body (`client_secret_post`): 400 `invalid_client`, whether it is right or not
/// 3. Basic credentials that are malformed or wrong, another scheme: 401 `invalid_client` with a challenge
/// 4. an assertion that is wrong or was used before, an unknown client, a confidential one without proof: 400
///    `invalid_client`
/// 5. an assertion cannot be remembered, so it cannot be told from a repeated one: 503
pub(super) async fn authenticate(app: &App, headers: &HeaderMap, form: &Form) -> Result<Arc<Client>, OAuthError> {
    let authorization = authorization(headers)?;
    let assertion = form.get("client_assertion").or_else(|| form.get("client_assertion_type"));
    if authorization.is_some() && assertion.is_some() {
        return Err(OAuthError::invalid_request("a client may authenticate in one way only"));
    }
    if form.get("client_secret").is_some() {
        let description = "a secret is taken in the Authorization header only (client_secret_basic)";
        return Err(invalid_client(description));
    }
    let client = match (authorization, assertion) {
        (Some(value), _) => by_secret(app, value)?,
        (None, Some(_)) => by_assertion(app, form).await?,
        (None, None) => return by_name(app, form),
    };
    match form.get("client_id") {
        Some(id) if id != client.id.as_str() => {
            Err(OAuthError::invalid_request("client_id is not the client that authenticated"))
        }
        _ => Ok(client),
    }
}

/// The `Authorization` header; at most one.
///
/// # Errors
///
/// 400 `invalid_request` if there are several.
pub(super) fn authorization(headers: &HeaderMap) -> Result<Option<&HeaderValue>, OAuthError> {
    extract::authorization(headers).map_err(|_| OAuthError::invalid_request(SEVERAL_CREDENTIALS))
}

/// 401 `invalid_client` with a challenge (RFC 6749 §5.2).
pub(super) fn unauthorized(description: &'static str) -> OAuthError {
    OAuthError::new(StatusCode::UNAUTHORIZED, "invalid_client", description)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="portcullis", charset="UTF-8""#))
}

/// 400, so that a browser asks nobody for a password on behalf of a script.
fn invalid_client(description: &'static str) -> OAuthError {
    OAuthError::new(StatusCode::BAD_REQUEST, "invalid_client", description)
}

fn by_name(app: &App, form: &Form) -> Result<Arc<Client>, OAuthError> {
    let id = form.get("client_id").ok_or_else(|| OAuthError::invalid_request("the field client_id is missing"))?;
    let id: ClientId = id.parse().map_err(|_| OAuthError::invalid_request("client_id is malformed"))?;
    match app.service.clients().get(&id) {
        Some(client) if client.is_confidential() => Err(invalid_client("this client must authenticate")),
        Some(client) => Ok(client),
        None => Err(invalid_client("there is no such client")),
    }
}

fn by_secret(app: &App, value: &HeaderValue) -> Result<Arc<Client>, OAuthError> {
    let (id, secret) = basic(value.as_bytes())
        .ok_or_else(|| unauthorized("the Authorization header must hold Basic credentials (RFC 6749 section 2.3.1)"))?;
    let client = id.parse().ok().and_then(|id: ClientId| app.service.clients().get(&id));
    client
        .filter(|client| client.has_secret(secret.as_bytes()))
        .ok_or_else(|| unauthorized("the client or its secret is not known"))
}

async fn by_assertion(app: &App, form: &Form) -> Result<Arc<Client>, OAuthError> {
    if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
        let description =
            "client_assertion_type must be urn:ietf:params:oauth:client-assertion-type:jwt-bearer (RFC 7523)";
        return Err(OAuthError::invalid_request(description));
    }
    let text = form
        .get("client_assertion")
        .ok_or_else(|| OAuthError::invalid_request("the field client_assertion is missing"))?;
    let client = app.service.authenticate_assertion(text).await?;
    client.ok_or_else(|| invalid_client("the client assertion is not valid"))
}

/// Client id and secret of Basic credentials, which are form-encoded one by one before base64 (RFC 6749 §2.3.1).
fn basic(value: &[u8]) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") || encoded.len() > BASIC_BYTES_MAX {
        return None;
    }
    let decoded = Base64::decode_vec(std::str::from_utf8(encoded).ok()?.trim_ascii()).ok()?;
    let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

/// One form-encoded value; none if it holds what only stands between values.
fn form_decoded(text: &str) -> Option<String> {
    if text.contains('&') {
        return None;
    }
    let pair = format!("v={text}");
    let mut pairs = url::form_urlencoded::parse(pair.as_bytes());
    pairs.next().map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, String)> {
        basic(format!("Basic {}", Base64::encode_string(text.as_bytes())).as_bytes())
    }

    #[test]
    fn basic_credentials_are_form_encoded() {
        let pair = |id: &str, secret: &str| Some((id.to_owned(), secret.to_owned()));
        assert_eq!(read("backend:s3cret"), pair("backend", "s3cret"));
        assert_eq!(read("a%3Ab:c%26d+e%25"), pair("a:b", "c&d e%"));
        assert_eq!(read("backend:"), pair("backend", ""));
        assert_eq!(read("backend:a:b=c"), pair("backend", "a:b=c"));
        assert_eq!(read("backend"), None);
        assert_eq!(read("backend:a&b"), None);
        assert_eq!(basic(b"Basic !!"), None);
        assert_eq!(basic(b"Bearer x"), None);
        assert_eq!(basic(b""), None);
        assert_eq!(basic(b"bAsIc YTpi"), pair("a", "b"));
    }
}
