//! The store moves while gates and hubs go on.

use ::origin::{
    config::{StoreUrl, secrets::MasterKey},
    server::open_store,
    transfer::{Taken, export, import},
};
use portcullis_tests::{MASTER_KEY, Opened, Setting, TestGate, TestOrigin, TestRedis, eventually};
use reqwest::Method;
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Ends a session, and waits until the gate refuses it.
async fn revoke(origin: &TestOrigin, gate: &TestGate, opened: &Opened) -> Tested {
    let (status, changed) =
        origin.manage(Method::POST, &format!("/v1/sessions/{}/revoke", opened.session), json!({})).await?;
    anyhow::ensure!(status == 200, "{changed}");
    let refuses = async || (gate.status_of("/app/x", &opened.access).await.ok()? == 401).then_some(());
    eventually("the gate to refuse", refuses).await
}

/// I1, I2, I4: the store moves to Redis. The hub takes the other log for the newer one; what was ended stays ended at the
/// gate and at the origin, the session that was open goes on, and ends everywhere when it is ended in the other store.
#[tokio::test]
async fn gates_and_hubs_go_on_when_the_store_moves() -> Tested {
    let setting = Setting::start().await?;
    let (kept, ended) = (setting.open("alice").await?, setting.open("bob").await?);
    let Setting { origin, gate, directory, upstream: _upstream } = setting;
    revoke(&origin, &gate, &ended).await?;
    let before: u64 = text(&gate.status().await?, "epoch").parse()?;
    let mut config = origin.stop().await;

    let (redis, master_key) = (TestRedis::start().await?, MasterKey::new(MASTER_KEY));
    let file = directory.path().join("export");
    export(&*open_store(&config).await?, &file, &master_key).await?;
    config.store.url = StoreUrl::from(redis.url());
    import(&*open_store(&config).await?, &file, &master_key, Taken::Refused).await?;
    let origin = TestOrigin::start_again(config).await?;
    let follows = async || (text(&gate.status().await.ok()?, "epoch").parse::<u64>().ok()? > before).then_some(());
    eventually("the gate to follow the other log", follows).await?;

    assert_eq!(gate.status_of("/app/x", &ended.access).await?, 401);
    assert!(!origin.is_active(&ended.access).await?);
    assert_eq!(origin.refresh(&ended.refresh, "web").await?.0, 400);
    assert_eq!(gate.status_of("/app/x", &kept.access).await?, 200);
    let (status, renewed) = origin.refresh(&kept.refresh, "web").await?;
    assert_eq!(status, 200, "{renewed}");
    let renewed = Opened { access: text(&renewed, "access_token").to_owned(), ..kept };
    assert_eq!(gate.status_of("/app/x", &renewed.access).await?, 200);
    revoke(&origin, &gate, &renewed).await?;
    origin.stop().await;
    Ok(())
}
