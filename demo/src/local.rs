//! Keeps pages of other sites out, whatever name they gave this machine.
//!
//! A site may point a name of its own at this machine (DNS rebinding); its pages then count as same-origin with what answers
//! there. Past the gate `Host` bears that name; through the gate `X-Forwarded-Host` does, and `Origin` in every request that
//! is not GET or HEAD, and in every WebSocket.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;
use url::Url;

use crate::origin::Failure;

/// The names by which pages of this machine know it.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Set by the gate to the host that the browser asked.
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// 421 for another host than this machine, 403 for another origin.
pub(crate) async fn only_of_this_machine(request: Request, next: Next) -> Response {
    match check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn check(headers: &HeaderMap) -> Result<(), Failure> {
    let value = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let hosts = [Some(value(header::HOST).unwrap_or_default()), value(X_FORWARDED_HOST)];
    if !hosts.into_iter().flatten().all(|host| is_local(&format!("http://{host}"))) {
        let detail = "this is not the host of that name";
        return Err(Failure(StatusCode::MISDIRECTED_REQUEST, json!({ "detail": detail })));
    }
    if !value(header::ORIGIN).is_none_or(is_local) {
        let detail = "pages of other sites may not ask this";
        return Err(Failure(StatusCode::FORBIDDEN, json!({ "detail": detail })));
    }
    Ok(())
}

fn is_local(address: &str) -> bool {
    Url::parse(address).is_ok_and(|address| address.host_str().is_some_and(|host| NAMES.contains(&host)))
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    async fn status(headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let router = Router::new().route("/", get(|| async {})).layer(from_fn(only_of_this_machine));
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn only_pages_of_this_machine_are_answered() {
        let us = ("host", "127.0.0.1:8790");
        for headers in [
            &[us][..],
            &[us, ("x-forwarded-host", "localhost:8787")],
            &[us, ("x-forwarded-host", "127.0.0.1:8787"), ("origin", "http://127.0.0.1:8787")],
            &[("host", "localhost:8790"), ("origin", "http://localhost:8787")],
        ] {
            assert_eq!(status(headers).await, 200, "{headers:?}");
        }
        for host in ["evil.example:8787", "127.0.0.1.evil.example", "localhost@evil.example", ""] {
            assert_eq!(status(&[("host", host)]).await, 421, "{host}");
            assert_eq!(status(&[us, ("x-forwarded-host", host)]).await, 421, "{host}");
        }
        assert_eq!(status(&[]).await, 421);
        for origin in
            ["null", "http://evil.example:8787", "http://localhost.evil.example", "http://localhost@evil.example", ""]
        {
            assert_eq!(status(&[us, ("origin", origin)]).await, 403, "{origin}");
        }
    }
}
