//! What changes or ends a session at the origin is refused at the gate, and nothing else is.

use portcullis_tests::{Opened, Setting, eventually};
use reqwest::Method;
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

async fn passes(setting: &Setting, access: &str) -> anyhow::Result<bool> {
    Ok(setting.gate.status_of("/app/x", access).await? == 200)
}

async fn is_refused(setting: &Setting, what: &str, session: &Opened) -> Tested {
    eventually(what, async || (setting.gate.status_of("/app/x", &session.access).await.ok()? == 401).then_some(()))
        .await
}

async fn manage(setting: &Setting, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
    let (status, answer) = setting.origin.manage(method, path, body).await?;
    assert!(status < 300, "{path}: {status} {answer}");
    Ok(answer)
}

async fn renewed(setting: &Setting, session: &Opened) -> anyhow::Result<String> {
    let (status, answer) = setting.origin.refresh(&session.refresh, "web").await?;
    assert_eq!(status, 200, "{answer}");
    Ok(answer["access_token"].as_str().unwrap_or_default().to_owned())
}

/// I1, SES-02, SES-07, SES-08, SES-10, SES-12, STP-06: each command has its session refused, and a bystander passes.
#[tokio::test]
async fn whatever_ends_or_changes_a_session_is_refused_at_the_gate() -> Tested {
    let setting = Setting::start_with(|config| config.sessions.concurrent_max = 2).await?;
    let bystander = setting.open("zoe").await?;
    let (first, second) = (setting.open("alice").await?, setting.open("alice").await?);
    assert!(passes(&setting, &first.access).await? && passes(&setting, &second.access).await?);

    let third = setting.open("alice").await?;
    is_refused(&setting, "the evicted one", &first).await?;
    assert!(passes(&setting, &second.access).await? && passes(&setting, &third.access).await?);

    let path = format!("/v1/sessions/{}/step-up", second.session);
    let stepped_up = manage(&setting, Method::POST, &path, json!({ "acr": "phr", "amr": ["hwk"] })).await?;
    is_refused(&setting, "the one that was stepped up", &second).await?;
    let access = stepped_up["access_token"].as_str().unwrap_or_default();
    assert_eq!(setting.gate.status_of("/app/recent", access).await?, 200);
    let low = setting.gate.request(Method::GET, "/app/recent").bearer_auth(&third.access).send().await?;
    assert_eq!(low.status(), 401, "SES-11, STP-01: not this authentication");
    let challenge = |response: &reqwest::Response| {
        response.headers().get("www-authenticate").and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let asked = challenge(&low).unwrap_or_default();
    for part in ["error=\"insufficient_user_authentication\"", "acr_values=\"phr\"", "max_age"] {
        assert!(asked.contains(part), "STP-01: {asked}");
    }
    let nobody = setting.gate.request(Method::GET, "/app/recent").send().await?;
    let asked = challenge(&nobody).unwrap_or_default();
    assert!(
        asked.starts_with("Bearer") && !asked.contains("acr_values") && !asked.contains("error"),
        "STP-05: {asked}"
    );

    let path = format!("/v1/sessions/{}/scope", third.session);
    manage(&setting, Method::PUT, &path, json!({ "scope": "write" })).await?;
    is_refused(&setting, "the old scope", &third).await?;
    let third = Opened { access: renewed(&setting, &third).await?, ..third };
    assert_eq!(setting.gate.status_of("/app/scoped", &third.access).await?, 200);
    assert!(passes(&setting, access).await?);

    manage(&setting, Method::POST, "/v1/subjects/alice/revoke", json!({ "except": stepped_up["session_id"] })).await?;
    is_refused(&setting, "the others", &third).await?;
    let kept = Opened {
        access: access.to_owned(),
        refresh: stepped_up["refresh_token"].as_str().unwrap_or_default().to_owned(),
        session: String::new(),
    };
    assert!(passes(&setting, &renewed(&setting, &kept).await?).await?);
    assert!(passes(&setting, &bystander.access).await?);

    manage(&setting, Method::POST, "/v1/everyone/renew", json!({})).await?;
    is_refused(&setting, "a token of before", &bystander).await?;
    let bystander = Opened { access: renewed(&setting, &bystander).await?, ..bystander };
    assert!(passes(&setting, &bystander.access).await?);
    manage(&setting, Method::POST, "/v1/everyone/revoke", json!({})).await?;
    is_refused(&setting, "everyone", &bystander).await?;
    let later = setting.open("zoe").await?;
    assert!(passes(&setting, &later.access).await?);
    setting.origin.stop().await;
    Ok(())
}
