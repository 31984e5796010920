//! `/demo`: what a login service would do after it knows who someone is. Here everyone is who they say they are.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    routing::post,
};
use client::{OpenSession, Opened};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::origin::{Failure, Origin};

/// The longest name of a person, in characters.
const NAME_CHARS_MAX: usize = 32;

/// The client of the browser, which the gate names when it renews, and the client of the phone.
const WEB: &str = "web";
const PHONE: &str = "phone";

type Shared = State<Arc<Origin>>;
type Answer = Result<Json<Value>, Failure>;

#[derive(Deserialize)]
struct Person {
    name: String,
}

#[derive(Deserialize)]
struct Roles {
    name: String,
    roles: Vec<String>,
}

#[derive(Deserialize)]
struct Session {
    session_id: String,
}

#[derive(Deserialize)]
struct Refresh {
    refresh_token: String,
}

/// Every route under `/demo`. A body must be JSON, which no page of another origin can send without being asked first.
pub(crate) fn router(origin: Origin) -> Router {
    Router::new()
        .route("/demo/login", post(login))
        .route("/demo/phone/login", post(phone_login))
        .route("/demo/phone/refresh", post(phone_refresh))
        .route("/demo/roles", post(set_roles))
        .route("/demo/revoke/one", post(revoke_one))
        .route("/demo/revoke/all", post(revoke_all))
        .with_state(Arc::new(origin))
}

/// Opens a session for a browser: its tokens go into cookies, out of reach of the page.
async fn login(State(origin): Shared, Json(person): Json<Person>) -> Result<(HeaderMap, Json<Value>), Failure> {
    let opened = open(&origin, &person.name, WEB).await?;
    let mut headers = HeaderMap::new();
    for line in &opened.set_cookie {
        let line = HeaderValue::from_str(line).map_err(|_| Failure::gateway("the origin's cookie is malformed"))?;
        headers.append(header::SET_COOKIE, line);
    }
    Ok((headers, Json(json!({ "session_id": opened.session_id.to_string() }))))
}

/// Opens a session for a phone, which keeps its tokens itself.
async fn phone_login(State(origin): Shared, Json(person): Json<Person>) -> Answer {
    let opened = open(&origin, &person.name, PHONE).await?;
    Ok(Json(json!({
        "session_id": opened.session_id.to_string(),
        "access_token": opened.access_token,
        "refresh_token": opened.refresh_token,
    })))
}

async fn phone_refresh(State(origin): Shared, Json(refresh): Json<Refresh>) -> Answer {
    let tokens = origin.refresh(&refresh.refresh_token, PHONE).await?;
    Ok(Json(json!({ "access_token": tokens["access_token"], "refresh_token": tokens["refresh_token"] })))
}

async fn set_roles(State(origin): Shared, Json(wanted): Json<Roles>) -> Answer {
    let name = checked(&wanted.name)?;
    let body = json!({ "roles": wanted.roles });
    Ok(Json(origin.manage(Method::PUT, &["v1", "subjects", name, "roles"], &body).await?))
}

async fn revoke_one(State(origin): Shared, Json(session): Json<Session>) -> Answer {
    let path = ["v1", "sessions", &session.session_id, "revoke"];
    Ok(Json(origin.manage(Method::POST, &path, &json!({ "reason": "signed_out" })).await?))
}

async fn revoke_all(State(origin): Shared, Json(person): Json<Person>) -> Answer {
    let path = ["v1", "subjects", checked(&person.name)?, "revoke"];
    Ok(Json(origin.manage(Method::POST, &path, &json!({})).await?))
}

/// A login service has made sure who someone is before it comes to this.
async fn open(origin: &Origin, name: &str, client_id: &str) -> Result<Opened, Failure> {
    let wrong = |_| Failure(StatusCode::BAD_REQUEST, json!({ "detail": "this is no name" }));
    let session = OpenSession::new(checked(name)?.parse().map_err(wrong)?, client_id.parse().map_err(wrong)?);
    origin.open(&session).await
}

fn checked(name: &str) -> Result<&str, Failure> {
    let good = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let detail = format!("a name has 1 to {NAME_CHARS_MAX} of a-z and 0-9");
    if good { Ok(name) } else { Err(Failure(StatusCode::BAD_REQUEST, json!({ "detail": detail }))) }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;
    use url::Url;

    use super::*;

    #[test]
    fn names_are_plain() {
        for good in ["a", "alice2", &"x".repeat(32)] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in ["", "Alice", "..", "a/b", "a b", "é", &"x".repeat(33)] {
            assert_eq!(checked(bad).unwrap_err().0, StatusCode::BAD_REQUEST, "{bad}");
        }
    }

    /// The origin of this test does not answer, which is 502.
    #[tokio::test]
    async fn a_form_of_another_page_cannot_sign_out() {
        for (kind, status) in
            [("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("application/json", 502)]
        {
            let origin = Origin::new(Url::parse("http://127.0.0.1:1").unwrap(), "management".into()).unwrap();
            let request = Request::post("/demo/revoke/all").header("content-type", kind);
            let request = request.body(Body::from(r#"{"name":"alice"}"#)).unwrap();
            assert_eq!(router(origin).oneshot(request).await.unwrap().status(), status, "{kind}");
        }
    }
}
