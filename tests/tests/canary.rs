//! No piece of a credential where it does not belong: log, metric, error, status, store (I10).

use base64ct::{Base64UrlUnpadded, Encoding as _};
use portcullis_tests::{MANAGEMENT_KEY, MASTER_KEY, Setting, TestRedis, eventually};
use reqwest::Method;
use serde_json::json;

type Tested = anyhow::Result<()>;

/// What must be found nowhere, each with a name for the failure.
struct Canaries(Vec<(&'static str, Vec<u8>)>);

impl Canaries {
    /// A token and every part of it, as text and decoded: a piece is as bad as the whole.
    fn add(&mut self, name: &'static str, token: &str) {
        self.0.push((name, token.as_bytes().to_vec()));
        for part in token.trim_start_matches("rt_").split('.').skip(usize::from(token.contains('.'))) {
            self.0.push((name, part.as_bytes().to_vec()));
            let decoded = Base64UrlUnpadded::decode_vec(part).unwrap_or_default();
            // Of a refresh token the last 32 bytes are what makes it one; what comes before is the session's id.
            let tail = decoded.len().saturating_sub(32);
            self.0.push((name, decoded.get(tail..).unwrap_or_default().to_vec()));
        }
    }

    fn assert_absent(&self, place: &str, bytes: &[u8]) {
        for (name, canary) in self.0.iter().filter(|(_, canary)| canary.len() >= 16) {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_slice());
            assert!(!found, "I10: {name} is in {place}");
        }
    }
}

/// SES-16, PRB-03: a whole life, good calls and bad ones, over Redis; then every place is searched.
#[tokio::test]
async fn no_credential_is_found_outside_of_answers_that_hand_it_out_over_redis() -> Tested {
    let redis = TestRedis::start().await?;
    let setting = Setting::start_with(|config| config.store.url = redis.url().into()).await?;
    let mut canaries = Canaries(vec![
        ("the management key", MANAGEMENT_KEY.as_bytes().to_vec()),
        ("the master key", MASTER_KEY.to_vec()),
    ]);
    let mut errors = String::new();

    let opened = setting.open("alice").await?;
    let (_, second) = setting.origin.refresh(&opened.refresh, "web").await?;
    let second_refresh = second["refresh_token"].as_str().unwrap_or_default().to_owned();
    let second_access = second["access_token"].as_str().unwrap_or_default().to_owned();
    for (name, token) in [
        ("an access token", &opened.access),
        ("a refresh token", &opened.refresh),
        ("a renewed access token", &second_access),
        ("a renewed refresh token", &second_refresh),
    ] {
        canaries.add(name, token);
    }

    // Good and bad uses at the gate.
    for (path, token) in [("/app/x", &second_access), ("/app/admin/x", &second_access), ("/app/x", &opened.refresh)] {
        errors += &setting.gate.request(Method::GET, path).bearer_auth(token).send().await?.text().await?;
    }
    let twice =
        format!("__Host-Http-at={second_access}; __Host-Http-at={second_access}; __Host-Http-rt={second_refresh}");
    errors += &setting.gate.request(Method::GET, "/app/x").header("cookie", &twice).send().await?.text().await?;
    let in_query = format!("/app/x?access_token={second_access}");
    errors += &setting.gate.request(Method::GET, &in_query).send().await?.text().await?;
    // And at the origin: wrong client, wrong place, malformed body, then a reuse that ends the session.
    errors += &setting.origin.refresh(&second_refresh, "other").await?.1.to_string();
    errors +=
        &setting.origin.manage(Method::POST, "/v1/sessions", json!({ "subject": second_refresh })).await?.1.to_string();
    let wrong_key =
        setting.origin.request(Method::GET, "/v1/subjects/alice").bearer_auth(&second_access).send().await?;
    errors += &wrong_key.text().await?;
    setting.origin.refresh(&second_refresh, "web").await?;
    errors += &setting.origin.refresh(&opened.refresh, "web").await?.1.to_string();
    let refused = async || (setting.gate.status_of("/app/x", &second_access).await.ok()? == 401).then_some(());
    eventually("the refusal", refused).await?;

    let metrics = setting.origin.request(Method::GET, "/metrics").send().await?.text().await?;
    assert!(metrics.contains("portcullis_"), "there are metrics to search");
    canaries.assert_absent("an error", errors.as_bytes());
    canaries.assert_absent("a metric", metrics.as_bytes());
    canaries.assert_absent("the log of the gate", setting.gate.log()?.as_bytes());
    canaries.assert_absent("the status of the gate", setting.gate.status().await?.to_string().as_bytes());
    let written = redis.written()?;
    assert!(written.windows(5).any(|window| window == b"alice"), "the store was written to");
    canaries.assert_absent("the store", &written);
    setting.origin.stop().await;
    Ok(())
}
