//! `cargo xtask up` for real: it builds, starts all of it, and stops all of it.

use portcullis_tests::{TestUp, eventually, in_chromium};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::Mutex;

type Tested = anyhow::Result<()>;

/// One run at a time: two builds at once take twice as long.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Signs in and out on a phone, through the gate.
async fn sign_in_and_out(page: &str) -> Tested {
    let client = Client::builder().no_proxy().build()?;
    let post = async |path: &str, body: Value| -> anyhow::Result<Value> {
        let answer = client.post(format!("{page}{path}")).json(&body).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    };
    let tokens = post("demo/phone/login", json!({ "name": "alice" })).await?;
    let token = tokens["access_token"].as_str().unwrap_or_default();
    let status = async || {
        let answer = client.get(format!("{page}app/whoami")).bearer_auth(token).send().await.ok()?;
        Some(answer.status().as_u16())
    };
    assert_eq!(client.get(page).send().await?.status(), 200);
    assert_eq!(status().await, Some(200));
    assert_eq!(client.get(format!("{page}app/whoami")).send().await?.status(), 401);
    post("demo/revoke/all", json!({ "name": "alice" })).await?;
    eventually("the refusal", async || status().await.filter(|status| *status == 401)).await?;
    Ok(())
}

/// I1, I10, COO-03, under `wrangler dev`. A second run on the same data is refused and harms nothing.
#[tokio::test(flavor = "multi_thread")]
async fn up_serves_the_page_to_chromium_until_ctrl_c() -> Tested {
    let _alone = ALONE.lock().await;
    let data = tempfile::tempdir()?;
    let mut up = TestUp::start(data.path(), &[])?;
    let page = up.page().await?;

    let mut second = TestUp::start(data.path(), &[])?;
    second.says(&format!("its page is {page}")).await?;
    assert_eq!(second.end().await?.0, Some(1));

    println!("{}", in_chromium("two_devices.mjs", &page).await?);
    sign_in_and_out(&page).await?;
    assert_eq!(up.interrupt().await?, (Some(0), vec![]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn up_keeps_sessions_in_redis_until_ctrl_c() -> Tested {
    let _alone = ALONE.lock().await;
    let data = tempfile::tempdir()?;
    let mut up = TestUp::start(data.path(), &["--store", "redis"])?;
    let page = up.page().await?;
    sign_in_and_out(&page).await?;
    assert_eq!(up.interrupt().await?, (Some(0), vec![]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn up_stops_what_runs_when_a_program_ends_or_a_person_cannot_wait() -> Tested {
    let _alone = ALONE.lock().await;
    let data = tempfile::tempdir()?;
    let mut up = TestUp::start(data.path(), &[])?;
    up.says("waiting for the gate").await?;
    assert_eq!(up.interrupt().await?, (Some(0), vec![]));

    let mut up = TestUp::start(data.path(), &[])?;
    up.says("waiting for the gate").await?;
    assert!(up.kill("portcullis-demo "));
    up.says("the demo ended by itself").await?;
    assert_eq!(up.end().await?, (Some(1), vec![]));
    Ok(())
}
