//! Rotation and revocation of the keys that sign tokens, at the gate and over two origins; change of the master key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::ensure;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use origin::config::{StoreUrl, secrets::MasterKey};
use portcullis_tests::{MASTER_KEY, Opened, Setting, TestOrigin, TestRedis, eventually};
use reqwest::Method;
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

const NEW_MASTER_KEY: [u8; 32] = *b"another key of thirty-two bytes.";

/// The name of the key that signed a token.
fn kid(token: &str) -> anyhow::Result<String> {
    let header = Base64UrlUnpadded::decode_vec(token.split('.').next().unwrap_or_default())?;
    let header: Value = serde_json::from_slice(&header)?;
    Ok(header["kid"].as_str().unwrap_or_default().to_owned())
}

async fn open(origin: &TestOrigin) -> anyhow::Result<Value> {
    let body = json!({ "subject": "alice", "client_id": "web" });
    let (status, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
    ensure!(status == 201, "{status} {opened}");
    Ok(opened)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The kids of the JWKS, in order.
async fn jwks(origin: &TestOrigin) -> anyhow::Result<Vec<String>> {
    let jwks: Value = origin.request(Method::GET, "/.well-known/jwks.json").send().await?.json().await?;
    Ok(jwks["keys"].as_array().into_iter().flatten().map(|key| text(key, "kid").to_owned()).collect())
}

/// Waits until an origin signs with another key; the token.
async fn signed_by_another(origin: &TestOrigin, than: &str) -> anyhow::Result<Value> {
    let another = async || {
        let opened = open(origin).await.ok()?;
        (kid(text(&opened, "access_token")).ok()? != than).then_some(opened)
    };
    eventually("another signing key", another).await
}

async fn rotate(origin: &TestOrigin) -> anyhow::Result<Value> {
    let (status, keys) = origin.manage(Method::POST, "/v1/keys/rotate", json!({})).await?;
    ensure!(status == 200, "{status} {keys}");
    Ok(keys)
}

async fn revoke(origin: &TestOrigin, kid: &str) -> anyhow::Result<(u16, Value)> {
    origin.manage(Method::POST, &format!("/v1/keys/{kid}/revoke"), json!({})).await
}

async fn two_origins(redis: &TestRedis) -> anyhow::Result<[TestOrigin; 2]> {
    let directory = tempfile::tempdir()?;
    let start = || {
        TestOrigin::start_with(directory.path(), |config| {
            config.store.url = StoreUrl::from(redis.url());
            config.store.timeout_ms = 10_000;
            config.tokens.key_lead_s = 1;
        })
    };
    Ok([start().await?, start().await?])
}

/// Opens sessions, takes each new token and an old one to the gate at once, and again, until told to stop; counts what passed.
async fn load(setting: &Setting, subject: &str, stop: &AtomicBool, passed: &AtomicU64) -> Tested {
    let mut opened: Vec<Opened> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        opened.push(setting.open(subject).await?);
        let oldest = opened.first().into_iter();
        for token in oldest.chain(opened.last()) {
            let status = setting.gate.status_of("/app/x", &token.access).await?;
            ensure!(status == 200, "a valid token of {} was answered {status}", kid(&token.access)?);
            passed.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// KEY-05: three rotations while tokens are opened and used; no valid one is refused, the first ones included.
#[tokio::test]
async fn rotations_under_load_refuse_no_valid_token_at_the_gate() -> Tested {
    let setting = Arc::new(Setting::start_with(|config| config.tokens.key_lead_s = 1).await?);
    let (stop, passed) = (AtomicBool::new(false), AtomicU64::new(0));
    let rotations = async {
        let mut kids = vec![kid(text(&open(&setting.origin).await?, "access_token"))?];
        for _ in 0..3 {
            rotate(&setting.origin).await?;
            let before = kids.last().cloned().unwrap_or_default();
            let next = signed_by_another(&setting.origin, &before).await?;
            kids.push(kid(text(&next, "access_token"))?);
            let so_far = passed.load(Ordering::Relaxed);
            eventually("load", async || (passed.load(Ordering::Relaxed) > so_far + 10).then_some(())).await?;
        }
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(kids)
    };
    let (kids, (), ()) =
        tokio::try_join!(rotations, load(&setting, "alice", &stop, &passed), load(&setting, "bob", &stop, &passed),)?;
    let distinct: std::collections::BTreeSet<_> = kids.iter().collect();
    assert_eq!(distinct.len(), 4, "{kids:?}");
    let published = jwks(&setting.origin).await?;
    assert!(kids.iter().all(|kid| published.contains(kid)), "kept for their tokens: {published:?}");
    assert_eq!(published.len(), 5, "and the one that stands by");
    Ok(())
}

/// I1: a revoked key's tokens are refused at gate and introspection, those of another key pass; the sessions go on.
#[tokio::test]
async fn tokens_of_a_revoked_key_are_refused_everywhere_and_others_are_not() -> Tested {
    let setting = Setting::start_with(|config| config.tokens.key_lead_s = 1).await?;
    let origin = &setting.origin;
    let old = setting.open("alice").await?;
    let old_kid = kid(&old.access)?;
    rotate(origin).await?;
    let kept = signed_by_another(origin, &old_kid).await?;
    let kept = text(&kept, "access_token").to_owned();
    for token in [&old.access, &kept] {
        assert_eq!(setting.gate.status_of("/app/x", token).await?, 200);
        assert!(origin.is_active(token).await?);
    }
    assert_eq!(revoke(origin, &"A".repeat(43)).await?.0, 404, "no such key");
    let (status, changed) = revoke(origin, &old_kid).await?;
    assert_eq!((status, &changed["floors"][0]["scope"]), (200, &json!("signing_key")), "{changed}");
    assert_eq!(revoke(origin, &old_kid).await?.0, 200, "repeated");
    assert!(!origin.is_active(&old.access).await?);
    setting.gate.comes_to_answer("/app/x", &old.access, 401).await?;
    assert_eq!(setting.gate.status_of("/app/x", &kept).await?, 200);
    assert!(origin.is_active(&kept).await?);

    let (status, renewed) = origin.refresh(&old.refresh, "web").await?;
    assert_eq!(status, 200, "{renewed}");
    assert_eq!(setting.gate.status_of("/app/x", text(&renewed, "access_token")).await?, 200);
    Ok(())
}

/// The key that signs is revoked: the one that stands by is known at the gate and takes over at once.
#[tokio::test]
async fn another_key_signs_at_once_when_the_one_that_signs_is_revoked() -> Tested {
    let setting = Setting::start().await?;
    let old = setting.open("alice").await?;
    assert_eq!(revoke(&setting.origin, &kid(&old.access)?).await?.0, 200);
    let new = setting.open("alice").await?;
    assert_ne!(kid(&new.access)?, kid(&old.access)?);
    assert_eq!(setting.gate.status_of("/app/x", &new.access).await?, 200);
    setting.gate.comes_to_answer("/app/x", &old.access, 401).await?;
    assert_eq!(setting.gate.status_of("/app/x", &new.access).await?, 200);
    let (_, keys) = setting.origin.manage(Method::GET, "/v1/keys", json!({})).await?;
    let states: Vec<&str> = keys["keys"].as_array().into_iter().flatten().map(|key| text(key, "state")).collect();
    assert_eq!(states, ["signing", "standby"], "{keys}");
    Ok(())
}

/// KEY-05: rotation and revocation at one origin hold at the other one; tokens of either count at both all the time.
#[tokio::test]
async fn two_origins_on_one_redis_agree_about_their_keys() -> Tested {
    let redis = TestRedis::start().await?;
    let [one, other] = two_origins(&redis).await?;
    assert_eq!(jwks(&one).await?, jwks(&other).await?);
    let first = open(&one).await?;
    let first_kid = kid(text(&first, "access_token"))?;
    let (here, there) = tokio::try_join!(rotate(&one), rotate(&other))?;
    assert_eq!(here["keys"].as_array().map(Vec::len), there["keys"].as_array().map(Vec::len), "one rotation, not two");
    let second = signed_by_another(&other, &first_kid).await?;
    signed_by_another(&one, &first_kid).await?;
    let same = async || (jwks(&one).await.ok()? == jwks(&other).await.ok()?).then_some(());
    eventually("the same keys", same).await?;
    for origin in [&one, &other] {
        for token in [text(&first, "access_token"), text(&second, "access_token")] {
            assert!(origin.is_active(token).await?);
        }
    }
    assert_eq!(revoke(&one, &first_kid).await?.0, 200);
    let over = async || (!other.is_active(text(&first, "access_token")).await.ok()?).then_some(());
    eventually("the end of the key at the other origin", over).await?;
    assert!(other.is_active(text(&second, "access_token")).await?);
    let gone = async || (!jwks(&other).await.ok()?.contains(&first_kid)).then_some(());
    eventually("a JWKS without the key", gone).await?;
    one.stop().await;
    other.stop().await;
    Ok(())
}

/// Keys and refresh tokens live through a change of the master key; afterwards the old one opens nothing, and says so.
#[tokio::test]
async fn the_master_key_changes_without_refusing_anyone() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let (keys, opened) = (jwks(&origin).await?, open(&origin).await?);
    let config = origin.stop().await;

    let both = MasterKey::new(NEW_MASTER_KEY).with_second(MASTER_KEY);
    let origin = TestOrigin::start_under(config, both).await?;
    assert_eq!(jwks(&origin).await?, keys);
    assert!(origin.is_active(text(&opened, "access_token")).await?);
    let (status, renewed) = origin.refresh(text(&opened, "refresh_token"), "web").await?;
    assert_eq!(status, 200, "a refresh token from before the change: {renewed}");
    let config = origin.stop().await;

    let refused = TestOrigin::start_under(config.clone(), MasterKey::new(MASTER_KEY)).await.err();
    let said = refused.map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(said.contains("sealed with another master key") && said.contains("nothing was changed"), "{said}");

    let origin = TestOrigin::start_under(config, MasterKey::new(NEW_MASTER_KEY)).await?;
    assert_eq!(jwks(&origin).await?, keys);
    let (status, _) = origin.refresh(text(&renewed, "refresh_token"), "web").await?;
    assert_eq!(status, 200);
    origin.stop().await;
    Ok(())
}

/// KEY-01..KEY-04: public members, thumbprints as names, `use` and `alg`, the media type; KEY-06: asking again and again for
/// tokens of unknown keys asks nobody: a gate learns keys from frames alone.
#[tokio::test]
async fn the_jwks_is_public_and_the_gate_never_fetches_it() -> Tested {
    let setting = Setting::start().await?;
    let response = setting.origin.request(Method::GET, "/.well-known/jwks.json").send().await?;
    assert_eq!(response.headers()["content-type"], "application/jwk-set+json", "KEY-04");
    let jwks: Value = response.json().await?;
    let keys = jwks["keys"].as_array().cloned().unwrap_or_default();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0]["kid"], keys[1]["kid"], "KEY-02");
    for key in &keys {
        assert!(key["use"] == "sig" && key["alg"] == "Ed25519", "KEY-03: {key}");
        let members: std::collections::BTreeSet<_> = key.as_object().into_iter().flat_map(|key| key.keys()).collect();
        assert!(members.iter().all(|name| ["kty", "crv", "x", "kid", "use", "alg"].contains(&name.as_str())), "KEY-01");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let part = |value: Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let fetches = async || {
        let metrics = setting.origin.request(Method::GET, "/metrics").send().await?.text().await?;
        let line = metrics.lines().find(|line| line.contains("duration_seconds_count") && line.contains("jwks.json"));
        anyhow::Ok(line.map(str::to_owned))
    };
    let before = fetches().await?;
    assert!(before.is_some(), "the fetch of this test is counted");
    for number in 0..50 {
        let header = part(json!({ "typ": "at+jwt", "alg": "Ed25519", "kid": format!("unknown-{number}") }));
        let token = format!("{header}.{}.{}", part(json!({ "exp": now + 60 })), "A".repeat(86));
        assert_eq!(setting.gate.status_of("/app/x", &token).await?, 401);
    }
    assert_eq!(fetches().await?, before, "KEY-06");
    Ok(())
}
