//! What changes or ends a session at the origin is refused at the gate, and nothing else is.

use portcullis_tests::{GatePlace, Opened, POLICY, Setting, eventually};
use reqwest::Method;
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

/// What is ended is refused everywhere within this time, as long as the parts hear of each other.
const REFUSED_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

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

/// I1: a gate that nobody asked for a while compares with its hub before it lets somebody pass.
#[tokio::test]
async fn an_idle_gate_admits_nobody_on_old_knowledge() -> Tested {
    let setting = Setting::start_at(GatePlace::new(POLICY)?.with_second()?, |_| {}).await?;
    let (ended, kept) = (setting.open("alice").await?, setting.open("alice").await?);
    let status = async |session: &Opened| -> anyhow::Result<u16> {
        let asked = setting.gate.second(Method::GET, "/app/x").bearer_auth(&session.access);
        Ok(asked.send().await?.status().as_u16())
    };
    assert_eq!((status(&ended).await?, status(&kept).await?), (200, 200));
    manage(&setting, Method::POST, &format!("/v1/sessions/{}/revoke", ended.session), json!({})).await?;
    // Any request to the second gate, one for its status too, would end the idleness that this is about.
    tokio::time::sleep(REFUSED_WITHIN).await;
    assert_eq!(status(&ended).await?, 401, "the very first request");
    assert_eq!(status(&kept).await?, 200);
    setting.origin.stop().await;
    Ok(())
}

/// I6: the gate's own answers, which it gives again, tell of whom each was asked for, and what the token says now.
#[tokio::test]
async fn an_answer_that_is_given_again_is_of_the_same_session() -> Tested {
    let setting = Setting::start().await?;
    let told = async |access: &str, name: &str| -> anyhow::Result<Option<String>> {
        let answer = setting.gate.request(Method::GET, "/self/x").bearer_auth(access).send().await?;
        assert_eq!(answer.status(), 204);
        Ok(answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned))
    };
    let mut sessions = Vec::new();
    for subject in ["alice", "bob", "carol", "alice"] {
        sessions.push((subject, setting.open(subject).await?));
    }
    for _ in 0..3 {
        for (subject, session) in &sessions {
            assert_eq!(told(&session.access, "portcullis-subject").await?.as_deref(), Some(*subject));
            assert_eq!(told(&session.access, "portcullis-session").await?.as_deref(), Some(&*session.session));
            assert_eq!(told(&session.access, "portcullis-tenant").await?, None, "there is none");
        }
    }
    manage(&setting, Method::PUT, "/v1/subjects/bob/roles", json!({ "roles": ["admin"] })).await?;
    is_refused(&setting, "the old roles", &sessions[1].1).await?;
    let access = renewed(&setting, &sessions[1].1).await?;
    assert_eq!(told(&access, "portcullis-roles").await?.as_deref(), Some("admin"));
    setting.origin.stop().await;
    Ok(())
}
