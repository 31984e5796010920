//! How sure a gate is on routes that want somebody asked.

use portcullis_tests::{GatePlace, Opened, POLICY, Setting, eventually};
use reqwest::{Method, StatusCode, header};
use serde_json::json;
use tokio::task::JoinSet;

type Tested = anyhow::Result<()>;

/// Sessions that are ended one after the other; a gate that passes on old knowledge would have to be lucky each time.
const ROUNDS: usize = 10;

async fn revoke(setting: &Setting, session: &Opened) -> Tested {
    let path = format!("/v1/sessions/{}/revoke", session.session);
    let (status, answer) = setting.origin.manage(Method::POST, &path, json!({})).await?;
    anyhow::ensure!(status == 200, "{answer}");
    Ok(())
}

/// I1, I5: the first request after the acknowledgement is refused, although the gate asked its hub just before and the hub
/// hears of nothing: it is the origin that is asked.
#[tokio::test]
async fn an_authoritative_route_knows_what_was_acknowledged() -> Tested {
    let setting = Setting::start_with(|config| config.hubs.clear()).await?;
    for _ in 0..ROUNDS {
        let (kept, ended) = (setting.open("alice").await?, setting.open("bob").await?);
        for path in ["/authoritative/x", "/app/x"] {
            assert_eq!(setting.gate.status_of(path, &ended.access).await?, 200, "{path}");
        }
        revoke(&setting, &ended).await?;
        assert_eq!(setting.gate.status_of("/authoritative/x", &ended.access).await?, 401);
        assert_eq!(setting.gate.status_of("/authoritative/x", &kept.access).await?, 200);
    }
    Ok(())
}

/// I1, I5: what the hub knows is known on a regional route at the first request, whenever the gate last pulled by itself.
#[tokio::test]
async fn a_regional_route_knows_what_its_hub_does() -> Tested {
    let setting = Setting::start_at(GatePlace::new(POLICY)?.with_second()?, |_| {}).await?;
    for _ in 0..ROUNDS {
        let (kept, ended) = (setting.open("alice").await?, setting.open("bob").await?);
        for path in ["/regional/x", "/app/x"] {
            assert_eq!(setting.gate.status_of(path, &ended.access).await?, 200, "{path}");
        }
        revoke(&setting, &ended).await?;
        let elsewhere = || setting.gate.second(Method::GET, "/regional/x").bearer_auth(&ended.access).send();
        eventually("another gate of the hub", async || (elsewhere().await.ok()?.status() == 401).then_some(())).await?;
        assert_eq!(setting.gate.status_of("/regional/x", &ended.access).await?, 401);
        assert_eq!(setting.gate.status_of("/regional/x", &kept.access).await?, 200);
    }
    Ok(())
}

/// I7: who cannot ask is told to come again, and passes where nobody needs to be asked.
#[tokio::test]
async fn without_an_origin_only_the_authoritative_route_closes_at_once() -> Tested {
    let setting = Setting::start().await?;
    let session = setting.open("alice").await?;
    let paths = ["/authoritative/x", "/regional/x", "/app/x"];
    for path in paths {
        assert_eq!(setting.gate.status_of(path, &session.access).await?, 200, "{path}");
    }
    let Setting { origin, gate, directory, upstream } = setting;
    let config = origin.stop().await;
    let answer = gate.request(Method::GET, "/authoritative/x").bearer_auth(&session.access).send().await?;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key(header::RETRY_AFTER));
    let closed = async |path| (gate.status_of(path, &session.access).await.ok()? == 503).then_some(());
    eventually("the regional route to close at its bound", async || closed("/regional/x").await).await?;
    eventually("the bounded route to close at its bound", async || closed("/app/x").await).await?;
    let _again = portcullis_tests::TestOrigin::start_again(config).await?;
    for path in paths {
        let opens = async || (gate.status_of(path, &session.access).await.ok()? == 200).then_some(());
        eventually(path, opens).await?;
    }
    drop((directory, upstream));
    Ok(())
}

/// I8: who comes while the origin is being asked shares the next question with all others who came meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn many_requests_are_few_questions() -> Tested {
    const REQUESTS: usize = 200;
    let setting = Setting::start_at(GatePlace::new(POLICY)?, |config| config.hubs.clear()).await?;
    let session = setting.open("alice").await?;
    let asked = async || -> anyhow::Result<f64> {
        let metrics = setting.origin.request(Method::GET, "/metrics").send().await?.text().await?;
        let delta = metrics.lines().find(|line| {
            line.starts_with("portcullis_http_request_duration_seconds_count") && line.contains("/feed/delta")
        });
        Ok(delta.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0))
    };
    assert_eq!(setting.gate.status_of("/authoritative/x", &session.access).await?, 200);
    let before = asked().await?;
    let mut requests = JoinSet::new();
    for _ in 0..REQUESTS {
        let request = setting.gate.request(Method::GET, "/authoritative/x").bearer_auth(&session.access);
        requests.spawn(async move { request.send().await.map(|answer| answer.status()) });
    }
    while let Some(status) = requests.join_next().await {
        assert_eq!(status??, StatusCode::OK);
    }
    let questions = asked().await? - before;
    assert!(questions >= 1.0 && questions < REQUESTS as f64 / 2.0, "{questions} questions");
    Ok(())
}
