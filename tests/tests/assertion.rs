//! What the gate signs for an application: on each request, and on that request only.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portcullis_tests::{
    ASSERTION_KEY, GatePlace, GateSettings, POLICY, Setting, TestOrigin, eventually, in_node, root,
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use shared::{
    assertion::{Assertion, AssertionError, AssertionKey, Forwarded, Parties, verify},
    time::Timestamp,
};

type Tested = anyhow::Result<()>;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What the application was sent.
async fn seen(request: RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    anyhow::ensure!(answer.status() == 200, "{}", answer.status());
    Ok(answer.json().await?)
}

/// Checks the assertion as an application would that got this request.
fn checked(setting: &Setting, seen: &Value) -> Result<Assertion, AssertionError> {
    let assertions = seen["headers"]["portcullis-assertion"].as_array().cloned().unwrap_or_default();
    let [assertion] = assertions.as_slice() else { return Err(AssertionError::Claims) };
    let target = seen["target"].as_str().unwrap_or_default();
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let request = Forwarded { method: seen["method"].as_str().unwrap_or_default(), path, query };
    let keys = [AssertionKey::from_hex(ASSERTION_KEY).map_err(|_| AssertionError::Claims)?];
    let parties = Parties { issuer: setting.origin.issuer(), upstream: "app" };
    verify(assertion.as_str().unwrap_or_default(), &keys, parties, request, now(), Duration::from_secs(30))
}

/// BRR-10, BRR-11: the application can tell that each request came through its gate, which request that was, and from whom;
/// what a client makes up never reaches it.
#[tokio::test]
async fn every_forwarded_request_is_asserted() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("alice").await?;
    let paths = ["/app/x", "/app/x?y=1", "/app/%C3%A9?q='%22<>|^`{}[]\\\\%2e//;", "/app/x?", "/app/x?a=\u{e9}"];
    for path in paths {
        let request = setting.gate.request(Method::GET, path).bearer_auth(&opened.access);
        let seen =
            seen(request.header("portcullis-assertion", "a.b.c").header("portcullis_assertion", "a.b.c")).await?;
        let assertion = checked(&setting, &seen).map_err(|error| anyhow::anyhow!("{path}: {error} {seen}"))?;
        let claims = assertion.token.as_ref().map(|token| token.claims().clone());
        let claims = claims.ok_or_else(|| anyhow::anyhow!("{path}: nobody"))?;
        assert_eq!((claims.sub.as_str(), claims.sid.to_string()), ("alice", opened.session.clone()), "{path}");
        assert_eq!((claims.scope.as_deref(), claims.roles.len()), (Some("read"), 1), "{path}");
        assert_eq!(format!("http://{}", assertion.host), setting.gate.base(), "{path}");
    }
    let request = setting.gate.request(Method::POST, "/app/x").bearer_auth(&opened.access).body("a body");
    let mut posted = seen(request).await?;
    assert!(checked(&setting, &posted).is_ok());
    posted["method"] = json!("DELETE");
    assert_eq!(checked(&setting, &posted), Err(AssertionError::Request));

    let anonymous = setting.gate.request(Method::GET, "/public/x").header("portcullis-assertion", "a.b.c");
    let anonymous = checked(&setting, &seen(anonymous).await?).map_err(|error| anyhow::anyhow!("{error}"))?;
    assert_eq!(anonymous.token, None);
    let own = setting.gate.request(Method::GET, "/self/x").bearer_auth(&opened.access).send().await?;
    assert!(own.headers().contains_key("portcullis-subject") && !own.headers().contains_key("portcullis-assertion"));
    setting.origin.stop().await;
    Ok(())
}

/// BRR-11: a service in another language checks what the gate signs, and the example of docs/assertion.md, by what stands there.
#[tokio::test]
async fn another_library_checks_assertions() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("alice").await?;
    let seen = seen(setting.gate.request(Method::GET, "/app/x?y=1").bearer_auth(&opened.access)).await?;
    let assertion = seen["headers"]["portcullis-assertion"][0].as_str().unwrap_or_default();
    let input = format!("{ASSERTION_KEY}\n{assertion}\n");
    let check = async |method, target| {
        in_node("clients/assertion.mjs", &[setting.origin.issuer(), method, target], &input).await
    };
    assert_eq!(check("GET", "/app/x?y=1").await?, "alice\n");
    for (method, target) in [("POST", "/app/x?y=1"), ("GET", "/app/x?y=2"), ("GET", "/app/x")] {
        assert!(check(method, target).await.is_err(), "{method} {target}");
    }

    let documented = std::fs::read_to_string(root().join("docs/assertion.md"))?;
    let (key, example) =
        documented.rsplit_once("Key: `").and_then(|(_, rest)| rest.split_once('`')).unwrap_or_default();
    let example = example.lines().find(|line| line.starts_with("eyJ")).unwrap_or_default();
    let arguments = ["https://id.example", "GET", "/app/orders?page=2", "1800000000"];
    assert_eq!(in_node("clients/assertion.mjs", &arguments, &format!("{key}\n{example}\n")).await?, "alice\n");
    setting.origin.stop().await;
    Ok(())
}

/// A key that is wrong is an error that names the binding and not the key; without any nothing is asserted.
#[tokio::test]
async fn a_wrong_assertion_key_is_no_gate() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let keys = |name: &str, key: &str| json!({ name: key }).to_string();
    let short = &ASSERTION_KEY[1..];
    let mut gate = GatePlace::new(POLICY)?.start(GateSettings::of(&origin)).await?;
    gate.ready().await?;
    for wrong in [ASSERTION_KEY, &keys("app", short), &keys("other", ASSERTION_KEY), &keys("own", ASSERTION_KEY)] {
        gate.restart_with("ASSERTION_KEYS", wrong).await.err();
        let answer = gate.request(Method::GET, "/public/x").send().await?;
        assert_eq!(answer.status(), 503, "{wrong}");
        let said = gate.log()?;
        assert!(said.contains("ASSERTION_KEYS") && !said.contains(short), "I10: {said}");
    }
    gate.restart_with("ASSERTION_KEYS", &keys("app", ASSERTION_KEY)).await?;
    eventually("the gate", async || {
        let answer = gate.request(Method::GET, "/public/x").send().await.ok()?;
        (answer.status() == 502).then_some(())
    })
    .await?;
    origin.stop().await;
    Ok(())
}
