//! The route policy that gates get with the feed.

use guard::{Accepts, PolicySource, Settings};
use portcullis_tests::{GatePlace, POLICY, Setting, TestGuarded, eventually};
use reqwest::Method;
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

/// The policy of the tests, with the application for administrators only.
fn stricter() -> String {
    POLICY.replace("id = \"app\"\npath", "id = \"app\"\nroles_any = [\"admin\"]\npath")
}

async fn set(setting: &Setting, policy: &str) -> anyhow::Result<(u16, Value)> {
    setting.origin.manage(Method::PUT, "/v1/policy", json!({ "policy": policy })).await
}

/// A policy reaches every gate like anything else that changes, outlives a restart of the gate without the origin, and is
/// given up like it came.
#[tokio::test]
async fn gates_judge_by_the_policy_that_the_feed_brings() -> Tested {
    let mut setting = Setting::start_at(GatePlace::new(POLICY)?.with_second()?, |_| {}).await?;
    let member = setting.open("alice").await?;
    let body = json!({ "subject": "root", "client_id": "web", "roles": ["admin"], "scope": "read" });
    let admin = setting.open_with(body).await?;
    for session in [&member, &admin] {
        assert_eq!(setting.gate.status_of("/app/x", &session.access).await?, 200);
    }

    assert_eq!(set(&setting, &stricter()).await?.0, 200);
    let first = async || setting.gate.status_of("/app/x", &member.access).await.ok().filter(|status| *status == 403);
    eventually("the stricter policy", first).await?;
    let second = || setting.gate.second(Method::GET, "/app/x").bearer_auth(&member.access).send();
    let second = async || second().await.ok().filter(|answer| answer.status() == 403);
    eventually("the stricter policy at another gate", second).await?;
    assert_eq!(setting.gate.status_of("/app/x", &admin.access).await?, 200);
    assert_eq!(setting.gate.status_of("/public/x", &member.access).await?, 200);

    let Setting { origin, mut gate, upstream, directory } = setting;
    let config = origin.stop().await;
    gate.restart().await?;
    gate.ready().await?;
    assert_eq!(gate.status_of("/app/x", &member.access).await?, 403, "the hub has kept it");
    let origin = portcullis_tests::TestOrigin::start_again(config).await?;
    setting = Setting { origin, gate, upstream, directory };
    let (status, kept) = setting.origin.manage(Method::GET, "/v1/policy", Value::Null).await?;
    assert_eq!((status, &kept["policy"]), (200, &json!(stricter())));

    let (status, withdrawn) = setting.origin.manage(Method::POST, "/v1/policy/withdraw", json!({})).await?;
    assert_eq!((status, &withdrawn["policy"]), (200, &Value::Null));
    let back = async || setting.gate.status_of("/app/x", &member.access).await.ok().filter(|status| *status == 200);
    eventually("the policy of the build", back).await?;
    Ok(())
}

/// A service's guard judges by the policy of the feed if it is told to, as the gates do, and by its own if not.
#[tokio::test]
async fn a_guard_judges_by_the_policy_of_the_feed_if_it_may() -> Tested {
    let setting = Setting::start().await?;
    let member = setting.open("alice").await?;
    let settings = TestGuarded::settings(&setting.origin, Accepts::Tokens)?;
    let own = TestGuarded::start_with(settings.clone()).await?;
    let following = TestGuarded::start_with(Settings { policy_source: PolicySource::Feed, ..settings }).await?;
    for service in [&own, &following] {
        service.guard().ready().await;
        assert_eq!(service.status_of("/app/x", &member.access).await?, 200);
    }
    let follows = async |status| {
        let asked = async || (following.status_of("/app/x", &member.access).await.ok()? == status).then_some(());
        eventually("the policy", asked).await
    };
    assert_eq!(set(&setting, &stricter()).await?.0, 200);
    follows(403).await?;
    assert_eq!(own.status_of("/app/x", &member.access).await?, 200);
    assert_eq!(setting.origin.manage(Method::POST, "/v1/policy/withdraw", json!({})).await?.0, 200);
    follows(200).await?;
    setting.origin.stop().await;
    Ok(())
}

/// What is no policy is refused with its line and field, and the last good one stays.
#[tokio::test]
async fn a_wrong_policy_is_refused_and_the_last_good_one_stays() -> Tested {
    let setting = Setting::start().await?;
    let member = setting.open("alice").await?;
    assert_eq!(set(&setting, &stricter()).await?.0, 200);
    let refused = async || setting.gate.status_of("/app/x", &member.access).await.ok().filter(|status| *status == 403);
    eventually("the stricter policy", refused).await?;
    let (status, problem) = set(&setting, &stricter().replace("path = \"/app/*\"", "path = \"/app*\"")).await?;
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(
        status == 422 && detail.starts_with("policy:") && detail.contains(".path: \"/app*\""),
        "{status} {problem}"
    );
    assert_eq!(setting.origin.manage(Method::GET, "/v1/policy", Value::Null).await?.1["policy"], json!(stricter()));
    assert_eq!(setting.gate.status_of("/app/x", &member.access).await?, 403);
    Ok(())
}
