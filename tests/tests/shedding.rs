//! More work than an origin takes, over a store that hangs.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use origin::config::StoreUrl;
use portcullis_tests::{TestOrigin, TestRedis};
use reqwest::Method;
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

/// Requests that the origin works on at the same time, and requests that come.
const PLACES: usize = 4;
const REQUESTS: usize = 12;

/// Deadline of a request.
const DEADLINE: Duration = Duration::from_secs(2);

/// PRB-02, I7, I8: as many requests as there are places wait for a store that hangs, until their deadline; the others are
/// refused at once. Both are told to come again, probes are answered all the time, and afterwards everything goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_limit_is_refused_at_once_and_what_waits_has_a_deadline() -> Tested {
    let redis = TestRedis::start().await?;
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start_with(directory.path(), |config| {
        config.store.url = StoreUrl::from(redis.url());
        config.store.timeout_ms = 20_000;
        config.limits.requests_concurrent = PLACES as u64;
        config.limits.request_timeout_ms = u64::try_from(DEADLINE.as_millis()).unwrap_or_default();
    })
    .await?;
    let opened =
        origin.manage(Method::POST, "/v1/sessions", json!({ "subject": "alice", "client_id": "web" })).await?.1;
    let token = opened["refresh_token"].as_str().unwrap_or_default();

    redis.pause()?;
    let refresh = async |_| {
        let started = Instant::now();
        let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "web")];
        let response = origin.request(Method::POST, "/oauth2/token").form(&form).send().await?;
        assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (503, true));
        let told: Value = serde_json::from_slice(&response.bytes().await?)?;
        assert_eq!(told["error"], "temporarily_unavailable");
        let waited = told["error_description"] == "the request took too long; it may be repeated";
        assert_eq!(waited, started.elapsed() >= DEADLINE, "{told}");
        anyhow::Ok(waited)
    };
    let probe = async { anyhow::Ok(origin.request(Method::GET, "/healthz").send().await?.status()) };
    let (waited, alive) = tokio::try_join!(try_join_all((0..REQUESTS).map(refresh)), probe)?;
    assert_eq!((waited.iter().filter(|waited| **waited).count(), alive.as_u16()), (PLACES, 200));

    redis.resume()?;
    let (status, renewed) = origin.refresh(token, "web").await?;
    assert_eq!(status, 200, "{renewed}");
    origin.stop().await;
    Ok(())
}
