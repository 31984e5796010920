//! The page, and what it is made of.

use axum::{
    Router,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// No script, style or address but those of the gate that the page came through. A WebSocket there counts as `'self'`
/// (CSP Level 3).
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// `/` and everything under `/assets`.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/", get(page))
        .route("/assets/demo.js", get(|| asset("text/javascript", include_str!("../assets/demo.js"))))
        .route("/assets/device.js", get(|| asset("text/javascript", include_str!("../assets/device.js"))))
        .route("/assets/demo.css", get(|| asset("text/css", include_str!("../assets/demo.css"))))
        .route("/assets/icon.svg", get(|| asset("image/svg+xml", include_str!("../assets/icon.svg"))))
}

async fn page() -> Response {
    let mut response = asset("text/html; charset=utf-8", include_str!("../assets/index.html")).await.into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    response
}

/// Not kept by browsers, so that the page is never of another build than its script.
async fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, text)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn the_page_runs_no_script_but_its_own() {
        let get = |path: &str| router().oneshot(Request::get(path).body(Body::empty()).unwrap());
        let response = get("/").await.unwrap();
        let policy = response.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("script-src 'self';") && !policy.contains("unsafe"), "{policy}");

        let html = include_str!("../assets/index.html");
        assert!(!html.contains("style=") && !html.contains("onclick="), "the policy would refuse it");
        let paths = html.split('"').filter(|text| text.starts_with('/'));
        let mut found = 0;
        for path in paths {
            assert_eq!(get(path).await.unwrap().status(), 200, "{path}");
            found += 1;
        }
        assert!(found >= 3, "style, script and icon");
    }
}
