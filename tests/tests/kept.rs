//! Allowances that the gate gives again without judging anew: only for the same request, and never longer than they hold.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_tests::{GatePlace, POLICY, Setting, TestGate, TestIssuer, TestUpstream, eventually};
use reqwest::Method;
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

const SESSION: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const OTHER_SESSION: &str = "BBBBBBBBBBBBBBBBBBBBBA";
const LONG: Duration = Duration::from_secs(300);

/// How often the gate allowed without judging.
async fn allowed_again(gate: &TestGate) -> anyhow::Result<u64> {
    Ok(gate.status().await?["allowed_again"].as_u64().unwrap_or_default())
}

/// Asks until the gate allows this without judging it.
async fn is_kept(gate: &TestGate, path: &str, token: &str) -> Tested {
    let before = allowed_again(gate).await?;
    let kept = async || {
        let status = gate.status_of(path, token).await.ok()?;
        ((200..300).contains(&status) && allowed_again(gate).await.ok()? > before).then_some(())
    };
    eventually("an allowance to be kept", kept).await
}

async fn alone(issuer: &TestIssuer) -> anyhow::Result<(TestGate, TestUpstream)> {
    let upstream = TestUpstream::start().await?;
    let settings = issuer.settings().with_upstream("app", upstream.address());
    Ok((GatePlace::new(POLICY)?.start(settings).await?, upstream))
}

fn unix_time() -> anyhow::Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// I6: what is kept is one request of one credential; every other one is judged.
#[tokio::test]
async fn only_the_same_request_is_allowed_again() -> Tested {
    let issuer = TestIssuer::new()?;
    let (gate, _upstream) = alone(&issuer).await?;
    let token = issuer.token(SESSION, LONG)?;
    is_kept(&gate, "/app/x", &token).await?;
    let before = allowed_again(&gate).await?;
    for (path, status) in [("/app/y", 200), ("/app/x?y", 200), ("/app/admin/x", 403), ("/app/%2fx", 400), ("/x", 404)] {
        assert_eq!(gate.status_of(path, &token).await?, status, "{path}");
    }
    let (signed, signature) = token.rsplit_once('.').unwrap_or_default();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{other}{}", signature.get(1..).unwrap_or_default());
    for credential in ["B", "AAAA", &forged] {
        assert_eq!(gate.status_of("/app/x", credential).await?, 401, "{credential}");
    }
    for method in [Method::POST, Method::PUT, Method::HEAD] {
        for _ in 0..3 {
            let answer = gate.request(method.clone(), "/app/x").bearer_auth(&token).send().await?;
            assert_eq!(answer.status(), 200, "{method}");
        }
    }
    let with_cookie = gate.request(Method::GET, "/app/x").bearer_auth(&token).header("cookie", "a=b").send().await?;
    let told: Value = serde_json::from_slice(&with_cookie.bytes().await?)?;
    assert_eq!(told["headers"]["cookie"], json!(["a=b"]));
    assert_eq!(allowed_again(&gate).await?, before, "each of these is judged");
    assert_eq!(gate.status_of("/app/x", &token).await?, 200);
    assert_eq!(allowed_again(&gate).await?, before + 1, "the twin still is kept");
    let verdicts = gate.status().await?["verdicts"]["allowed"].as_u64().unwrap_or_default();
    assert!(verdicts > before, "what is allowed again is allowed: {verdicts}");
    Ok(())
}

/// TOK-13: a kept allowance ends with its token, to the millisecond.
#[tokio::test]
async fn an_expired_token_is_not_allowed_again() -> Tested {
    let issuer = TestIssuer::new()?;
    let (gate, _upstream) = alone(&issuer).await?;
    let long = issuer.token(OTHER_SESSION, LONG)?;
    let short = issuer.token(SESSION, Duration::from_secs(3))?;
    let end = unix_time()?.as_secs() + 3;
    is_kept(&gate, "/app/x", &short).await?;
    is_kept(&gate, "/app/x", &long).await?;
    let refused = async || {
        let begun = unix_time().ok()?;
        let status = gate.status_of("/app/x", &short).await.ok()?;
        assert!(status == 401 || begun < Duration::from_secs(end), "{status} at {begun:?}");
        (status == 401).then_some(())
    };
    eventually("the token to expire", refused).await?;
    assert_eq!(gate.status_of("/app/x", &long).await?, 200);
    Ok(())
}

/// I1: a token that proves a newer version of its session takes back what an older one was allowed, at once.
#[tokio::test]
async fn what_another_token_teaches_takes_an_allowance_back() -> Tested {
    let issuer = TestIssuer::new()?;
    let (gate, _upstream) = alone(&issuer).await?;
    let (old, other) = (issuer.token(SESSION, LONG)?, issuer.token(OTHER_SESSION, LONG)?);
    is_kept(&gate, "/app/x", &old).await?;
    is_kept(&gate, "/app/x", &other).await?;
    let new = issuer.token_of_version(2, SESSION, LONG)?;
    assert_eq!(gate.status_of("/app/elsewhere", &new).await?, 200);
    assert_eq!(gate.status_of("/app/x", &old).await?, 401, "I1");
    assert_eq!(gate.status_of("/app/x", &other).await?, 200);
    is_kept(&gate, "/app/x", &new).await?;
    Ok(())
}

/// I1: a floor of the feed ends allowances, also while the gate is asked all the time; other sessions pass on.
#[tokio::test]
async fn a_floor_takes_an_allowance_back() -> Tested {
    let setting = Setting::start().await?;
    let (ended, other) = (setting.open("alice").await?, setting.open("bob").await?);
    is_kept(&setting.gate, "/self/x", &ended.access).await?;
    is_kept(&setting.gate, "/self/x", &other.access).await?;
    let path = format!("/v1/sessions/{}/revoke", ended.session);
    let (status, changed) = setting.origin.manage(Method::POST, &path, json!({})).await?;
    assert_eq!(status, 200);
    let cursor = changed["cursor"].as_u64().unwrap_or_default();
    let heard = async || {
        let status = setting.gate.status().await.ok()?;
        (status["cursor"].as_str()?.parse::<u64>().ok()? >= cursor).then_some(())
    };
    eventually("the floor", heard).await?;
    assert_eq!(setting.gate.status_of("/self/x", &ended.access).await?, 401, "at once");
    assert_eq!(setting.gate.status_of("/self/x", &other.access).await?, 204);
    is_kept(&setting.gate, "/self/x", &other.access).await?;
    Ok(())
}

/// I1, I7: what was allowed while the gate knew enough is not allowed longer than the route's bound.
#[tokio::test]
async fn a_stale_replica_takes_an_allowance_back() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("alice").await?;
    is_kept(&setting.gate, "/self/x", &opened.access).await?;
    setting.origin.stop().await;
    setting.gate.comes_to_answer("/self/x", &opened.access, 503).await
}

/// Where somebody must be asked, or the application gets an assertion of its own for each request, every request is judged.
#[tokio::test]
async fn routes_that_ask_and_assertions_keep_nothing() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("alice").await?;
    for path in ["/regional/x", "/authoritative/x", "/app/x"] {
        for _ in 0..4 {
            assert_eq!(setting.gate.status_of(path, &opened.access).await?, 200, "{path}");
        }
    }
    assert_eq!(allowed_again(&setting.gate).await?, 0, "an assertion is for one request");
    is_kept(&setting.gate, "/self/x", &opened.access).await
}
