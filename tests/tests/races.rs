//! Races over two origins on one Redis: the limit on concurrent sessions, and refreshes of one token.

use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use origin::config::{Config, StoreUrl};
use portcullis_tests::{TestOrigin, TestRedis};
use reqwest::Method;
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

/// Sessions whose token is refreshed twenty times at once: about half a minute of test.
const SESSIONS: usize = 1_000;

async fn two_origins(redis: &TestRedis, choose: fn(&mut Config)) -> anyhow::Result<[TestOrigin; 2]> {
    let directory = tempfile::tempdir()?;
    let start = || {
        TestOrigin::start_with(directory.path(), |config| {
            config.store.url = StoreUrl::from(redis.url());
            config.store.timeout_ms = 10_000;
            config.limits.request_timeout_ms = 60_000;
            choose(config);
        })
    };
    Ok([start().await?, start().await?])
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

async fn open(origin: &TestOrigin, subject: &str) -> anyhow::Result<(u16, Value)> {
    origin.manage(Method::POST, "/v1/sessions", json!({ "subject": subject, "client_id": "web" })).await
}

/// Fifty sign-ins of one subject at once; those that were answered with a session.
async fn fifty(origins: &[TestOrigin; 2], refusal: u16) -> anyhow::Result<Vec<Value>> {
    let opens = (0..50).zip(origins.iter().cycle()).map(|(_, origin)| open(origin, "alice"));
    let mut opened = Vec::new();
    for (status, body) in try_join_all(opens).await? {
        assert!(status == 201 || status == refusal, "{status} {body}");
        if status == 201 {
            opened.push(body);
        }
    }
    Ok(opened)
}

/// How many of them are sessions whose tokens count, at either origin, and how many are listed.
async fn alive(origins: &[TestOrigin; 2], opened: &[Value]) -> anyhow::Result<(usize, usize)> {
    let mut active = 0;
    for (session, origin) in opened.iter().zip(origins.iter().cycle()) {
        active += usize::from(origin.is_active(text(session, "access_token")).await?);
    }
    let (_, listed) = origins[0].manage(Method::GET, "/v1/subjects/alice/sessions", json!({})).await?;
    Ok((active, listed["sessions"].as_array().map_or(0, Vec::len)))
}

async fn stop(origins: [TestOrigin; 2]) {
    for origin in origins {
        origin.stop().await;
    }
}

/// SES-10: everyone gets in, and exactly as many as allowed stay.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_sign_ins_at_once_leave_as_many_sessions_as_allowed() -> Tested {
    let redis = TestRedis::start().await?;
    let origins = two_origins(&redis, |config| config.sessions.concurrent_max = 5).await?;
    let opened = fifty(&origins, 201).await?;
    assert_eq!(opened.len(), 50);
    assert_eq!(alive(&origins, &opened).await?, (5, 5));
    let mut refreshed = 0;
    for session in &opened {
        let (status, _) = origins[1].refresh(text(session, "refresh_token"), "web").await?;
        refreshed += usize::from(status == 200);
    }
    assert_eq!(refreshed, 5);
    stop(origins).await;
    Ok(())
}

/// SES-10: exactly as many as allowed get in; the others leave nothing behind, and one that ends makes room.
#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_sign_ins_at_once_as_many_as_allowed_get_in() -> Tested {
    let redis = TestRedis::start().await?;
    let origins = two_origins(&redis, |config| {
        config.sessions.concurrent_max = 5;
        config.sessions.on_limit = shared::roster::OnLimit::Refuse;
    })
    .await?;
    let opened = fifty(&origins, 409).await?;
    assert_eq!((opened.len(), alive(&origins, &opened).await?), (5, (5, 5)));
    let evicting = json!({ "subject": "alice", "client_id": "web", "on_limit": "evict-oldest" });
    assert_eq!(origins[0].manage(Method::POST, "/v1/sessions", evicting).await?.0, 201, "the call may say otherwise");
    assert_eq!(alive(&origins, &opened).await?, (4, 5));
    assert_eq!(open(&origins[1], "alice").await?.0, 409);
    assert_eq!(open(&origins[1], "bob").await?.0, 201, "another subject has its own limit");

    let (_, listed) = origins[0].manage(Method::GET, "/v1/subjects/alice/sessions", json!({})).await?;
    let path = format!("/v1/sessions/{}", text(&listed["sessions"][0], "session_id"));
    let (status, stepped_up) =
        origins[0].manage(Method::POST, &format!("{path}/step-up"), json!({ "amr": ["otp"] })).await?;
    assert_eq!(status, 201, "a session that takes another's place is not one more: {stepped_up}");
    assert_eq!(open(&origins[1], "alice").await?.0, 409);
    let path = format!("/v1/sessions/{}/revoke", text(&stepped_up, "session_id"));
    assert_eq!(origins[0].manage(Method::POST, &path, json!({})).await?.0, 200);
    assert_eq!(open(&origins[1], "alice").await?.0, 201);
    stop(origins).await;
    Ok(())
}

/// REF-05, I3: of twenty refreshes of one token at once all get the same successor, and nobody is accused: an alarm would
/// have ended the session.
#[tokio::test(flavor = "multi_thread")]
async fn refreshes_of_one_token_at_once_get_one_successor() -> Tested {
    let redis = TestRedis::start().await?;
    let origins = two_origins(&redis, |_| {}).await?;
    let session = async |number: usize| -> Tested {
        let (_, opened) = open(&origins[0], &format!("subject-{number}")).await?;
        let token = text(&opened, "refresh_token");
        let calls = (0..20).zip(origins.iter().cycle()).map(|(_, origin)| origin.refresh(token, "web"));
        let answers = try_join_all(calls).await?;
        let successor = &answers[0].1["refresh_token"];
        assert!(successor.is_string() && successor.as_str() != Some(token));
        for (status, answer) in &answers {
            assert_eq!((*status, &answer["refresh_token"]), (200, successor), "{answer}");
        }
        assert!(origins[1].is_active(text(&answers[0].1, "access_token")).await?);
        let path = format!("/v1/sessions/{}", text(&opened, "session_id"));
        let (_, shown) = origins[1].manage(Method::GET, &path, json!({})).await?;
        assert_eq!((text(&shown, "state"), &shown["generation"]), ("open", &json!(1)));
        Ok(())
    };
    // More at once would only wait for each other.
    let race = stream::iter(0..SESSIONS).map(session).buffer_unordered(8);
    race.try_collect::<Vec<()>>().await?;
    stop(origins).await;
    Ok(())
}

/// STP-06, SES-05: an end, a step-up, a change of scope and a refresh at once. Whatever came first, the old session is
/// dead after its end was acknowledged, and a step-up that was acknowledged lives.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_a_step_up_and_a_refresh_at_once_revive_nothing() -> Tested {
    let redis = TestRedis::start().await?;
    let origins = two_origins(&redis, |_| {}).await?;
    let [one, other] = &origins;
    for round in 0..40 {
        let (_, opened) = open(one, &format!("subject-{round}")).await?;
        let path = |rest: &str| format!("/v1/sessions/{}{rest}", text(&opened, "session_id"));
        let (step_up, revoke, scope) = (path("/step-up"), path("/revoke"), path("/scope"));
        let (stepped_up, ended, changed, refreshed) = tokio::try_join!(
            one.manage(Method::POST, &step_up, json!({ "amr": ["otp"] })),
            other.manage(Method::POST, &revoke, json!({})),
            one.manage(Method::PUT, &scope, json!({ "scope": "read" })),
            other.refresh(text(&opened, "refresh_token"), "web"),
        )?;
        assert_eq!(ended.0, 200, "{}", ended.1);
        assert!(matches!(stepped_up.0, 201 | 409), "{}", stepped_up.1);
        assert!(matches!(changed.0, 200 | 409), "{}", changed.1);
        assert!(matches!(refreshed.0, 200 | 400), "{}", refreshed.1);
        for tokens in [&opened, &refreshed.1] {
            for origin in &origins {
                assert!(!origin.is_active(text(tokens, "access_token")).await?);
                assert_eq!(origin.refresh(text(tokens, "refresh_token"), "web").await?.0, 400);
            }
        }
        if stepped_up.0 == 201 {
            assert!(other.is_active(text(&stepped_up.1, "access_token")).await?);
            assert_eq!(other.refresh(text(&stepped_up.1, "refresh_token"), "web").await?.0, 200);
        }
    }
    stop(origins).await;
    Ok(())
}
