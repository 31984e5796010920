//! The feed key is switched under running gates.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::ensure;
use origin::{
    config::{Config, secrets::MasterKey},
    keys::Keys,
    server::{open_keys, open_store},
};
use portcullis_tests::{
    GatePlace, GateSettings, MASTER_KEY, Opened, POLICY, TestGate, TestOrigin, TestRedis, TestUpstream, eventually,
};
use reqwest::Method;
use serde_json::json;
use shared::time::Timestamp;

type Tested = anyhow::Result<()>;

async fn open(origin: &TestOrigin) -> anyhow::Result<Opened> {
    let (status, opened) =
        origin.manage(Method::POST, "/v1/sessions", json!({ "subject": "alice", "client_id": "web" })).await?;
    ensure!(status == 201, "{status} {opened}");
    let text = |name: &str| opened[name].as_str().unwrap_or_default().to_owned();
    Ok(Opened { access: text("access_token"), refresh: text("refresh_token"), session: text("session_id") })
}

async fn end(origin: &TestOrigin, opened: &Opened) -> Tested {
    let path = format!("/v1/sessions/{}/revoke", opened.session);
    let (status, answer) = origin.manage(Method::POST, &path, json!({})).await?;
    ensure!(status == 200, "{status} {answer}");
    Ok(())
}

async fn refused(gate: &TestGate, opened: &Opened) -> Tested {
    let ask = async || (gate.status_of("/app/x", &opened.access).await.ok()? == 401).then_some(());
    eventually("the refusal", ask).await
}

/// What an operator's `portcullis keys feed-…` works on.
async fn keys_of(redis: &TestRedis) -> anyhow::Result<std::sync::Arc<Keys>> {
    let mut config = Config::default();
    config.store.url = redis.url().into();
    open_keys(&open_store(&config).await?, &config, &MasterKey::new(MASTER_KEY)).await
}

fn now() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap_or_default())
}

/// Takes a good token to the gate until told to stop, then as long as a stale replica would need to show; counts what passed.
async fn load(gate: &TestGate, opened: &Opened, stop: &AtomicBool, passed: &AtomicU64) -> Tested {
    while !stop.load(Ordering::Relaxed) {
        let status = gate.status_of("/app/x", &opened.access).await?;
        ensure!(status == 200, "a good token was answered {status} after {} others", passed.load(Ordering::Relaxed));
        passed.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// KEY-05, I1, I4: a gate that pins both keys refuses no good token while they are switched, and hears of what is ended before and
/// after; it goes on with the new key alone. A gate that pins the old one alone believes nothing new, and closes at its bound.
#[tokio::test]
async fn a_gate_with_both_feed_keys_lives_through_the_switch() -> Tested {
    let (redis, directory) = (TestRedis::start().await?, tempfile::tempdir()?);
    let (place, late_place) = (GatePlace::new(POLICY)?, GatePlace::new(POLICY)?);
    let origin = TestOrigin::start_with(directory.path(), |config| {
        config.store.url = redis.url().into();
        config.hubs = vec![place.hub(), origin::config::Hub { name: "late".to_owned(), ..late_place.hub() }];
    })
    .await?;
    let keys = keys_of(&redis).await?;
    keys.prepare_feed_key(now()).await?;
    let public = |keys: &Keys| {
        let ring = keys.current();
        (ring.feed().public_text(), ring.feed_keys().next.as_ref().map(|key| key.public_text()).unwrap_or_default())
    };
    let (old, new) = public(&keys);
    assert_eq!(old, origin.feed_key());

    let upstream = TestUpstream::start().await?;
    let settings = GateSettings::of(&origin).with_upstream("app", upstream.address()).with("CLOCK_SKEW_MS_MAX", "500");
    let mut gate = place.start(settings.clone().with("FEED_KEYS", &format!("{old} {new}"))).await?;
    let late = late_place.start(settings).await?;
    gate.ready().await?;
    late.ready().await?;
    let (kept, before, after) = (open(&origin).await?, open(&origin).await?, open(&origin).await?);
    for (gate, opened) in [(&gate, &kept), (&gate, &before), (&gate, &after), (&late, &kept), (&late, &after)] {
        assert_eq!(gate.status_of("/app/x", &opened.access).await?, 200);
    }
    end(&origin, &before).await?;
    refused(&gate, &before).await?;
    refused(&late, &before).await?;

    let (stop, passed) = (AtomicBool::new(false), AtomicU64::new(0));
    let switch = async {
        keys.switch_feed_key(now()).await?;
        assert_eq!(public(&keys).0, new);
        let switched = Instant::now();
        end(&origin, &after).await?;
        refused(&gate, &after).await?;
        late.comes_to_answer("/app/x", &kept.access, 503).await?;
        // Longer than a gate goes on that hears nothing any more: 3 s and half a second of skew.
        eventually("its bound", async || (switched.elapsed() > Duration::from_secs(4)).then_some(())).await?;
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    tokio::try_join!(switch, load(&gate, &kept, &stop, &passed))?;
    assert!(passed.load(Ordering::Relaxed) > 20);
    let status = gate.status().await?;
    assert_eq!(status["frames_refused"], 0, "{status}");
    assert_eq!(late.status_of("/app/x", &before.access).await?, 401, "what it knew it still knows");

    gate.restart_with("FEED_KEYS", &new).await?;
    gate.ready().await?;
    // What the hub kept may be older than the route allows, until the origin pushes again.
    gate.comes_to_answer("/app/x", &kept.access, 200).await?;
    for ended in [&before, &after] {
        assert_eq!(gate.status_of("/app/x", &ended.access).await?, 401);
    }
    end(&origin, &kept).await?;
    refused(&gate, &kept).await?;
    origin.stop().await;
    Ok(())
}
