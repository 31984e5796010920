//! `cargo xtask up` for real: it builds, starts all of it, and stops all of it.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::future::try_join_all;
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

/// Sessions of phones, by their tokens.
struct Phones {
    client: Client,
    page: String,
    tokens: Vec<(String, String)>,
}

impl Phones {
    async fn sign_in(page: &str) -> anyhow::Result<Self> {
        let client = Client::builder().no_proxy().build()?;
        let mut tokens = Vec::new();
        for number in 0..12 {
            let body = json!({ "name": format!("person{number}") });
            let answer = client.post(format!("{page}demo/phone/login")).json(&body).send().await?.error_for_status()?;
            let said: Value = answer.json().await?;
            let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
            tokens.push((text("session_id"), text("access_token")));
        }
        Ok(Self { client, page: page.to_owned(), tokens })
    }

    /// The upstreams that answer them now, in their order; an error if one is not answered about its session.
    async fn places(&self) -> anyhow::Result<Vec<String>> {
        try_join_all(self.tokens.iter().map(async |(session, token)| {
            let answer = self.client.get(format!("{}app/whoami", self.page)).bearer_auth(token).send().await?;
            let answer = answer.error_for_status()?;
            let place = answer.headers()["x-upstream"].to_str()?.to_owned();
            let said: Value = answer.json().await?;
            anyhow::ensure!(said["session"] == **session, "I6: {said}");
            Ok(place)
        }))
        .await
    }
}

/// Sessions stay on the upstream where they are, and go on at the others when it is killed under load.
#[tokio::test(flavor = "multi_thread")]
async fn up_keeps_sessions_in_redis_and_loses_none_with_an_upstream() -> Tested {
    let _alone = ALONE.lock().await;
    let data = tempfile::tempdir()?;
    let mut up = TestUp::start(data.path(), &["--store", "redis", "--upstreams", "3"])?;
    let page = up.page().await?;
    sign_in_and_out(&page).await?;

    let phones = Phones::sign_in(&page).await?;
    let before = phones.places().await?;
    assert!(before.iter().collect::<BTreeSet<_>>().len() > 1, "several answer: {before:?}");
    assert_eq!(phones.places().await?, before);
    let lost = before[0].clone();
    let (_, port) = lost.rsplit_once(':').ok_or_else(|| anyhow::anyhow!("{lost}"))?;
    let (is_over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = async {
        while !is_over.load(Ordering::Relaxed) {
            phones.places().await?;
            rounds.fetch_add(1, Ordering::Relaxed);
        }
        phones.places().await
    };
    let loss = async {
        eventually("the load", async || (rounds.load(Ordering::Relaxed) > 3).then_some(())).await?;
        assert!(up.kill(&format!("portcullis-demo --port {port} ")));
        up.says("2 more do the same").await?;
        is_over.store(true, Ordering::Relaxed);
        Ok(())
    };
    let (after, ()) = tokio::try_join!(load, loss)?;
    for (before, after) in before.iter().zip(&after) {
        assert!(*after != lost && (*before == lost || before == after), "{before} {after}");
    }
    assert_eq!(up.interrupt().await?, (Some(0), vec![]));
    Ok(())
}

/// Before anything is installed or built.
#[tokio::test]
async fn up_says_how_many_upstreams_there_may_be() -> Tested {
    let data = tempfile::tempdir()?;
    for wrong in ["0", "9", "some"] {
        let mut up = TestUp::start(data.path(), &["--upstreams", wrong])?;
        up.says(&format!("invalid value '{wrong}' for '--upstreams <NUMBER>'")).await?;
        assert_eq!(up.end().await?.0, Some(2));
    }
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
