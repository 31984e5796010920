//! Pools of nodes behind the gate: sessions keep their node, and lose nothing with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use portcullis_tests::{
    ASSERTION_KEY, GatePlace, GateSettings, Opened, Setting, TestDemo, TestGate, TestOrigin, TestUpstream, eventually,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

type Tested = anyhow::Result<()>;

const POLICY: &str = r#"
[upstreams]
app = { addresses = ["http://127.0.0.1:1", "http://127.0.0.1:2"], affinity = "session" }

[[routes]]
id = "app"
path = "/app/*"
upstream = "app"
"#;

const NODES: usize = 3;
const SESSIONS: usize = 24;

/// The demonstration application on three nodes.
struct Nodes {
    origin: TestOrigin,
    nodes: Vec<Option<TestDemo>>,
    gate: TestGate,
    sessions: Vec<(String, Opened)>,
    _directory: TempDir,
}

impl Nodes {
    async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let place = GatePlace::new(POLICY)?;
        let origin = TestOrigin::start(directory.path(), vec![place.hub()]).await?;
        let nodes = try_join_all((0..NODES).map(|_| TestDemo::start(&origin))).await?;
        let addresses: Vec<String> = nodes.iter().map(TestDemo::base).collect();
        let settings = GateSettings::of(&origin).with_upstream("app", addresses);
        let settings = settings.with("ASSERTION_KEYS", &json!({ "app": ASSERTION_KEY }).to_string());
        let gate = place.start(settings).await?;
        gate.ready().await?;
        let mut sessions = Vec::new();
        for number in 0..SESSIONS {
            let subject = format!("subject-{number}");
            let body = json!({ "subject": subject, "client_id": "web" });
            let (_, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
            let text = |name: &str| opened[name].as_str().unwrap_or_default().to_owned();
            let opened = Opened { access: text("access_token"), refresh: String::new(), session: text("session_id") };
            sessions.push((subject, opened));
        }
        let nodes = nodes.into_iter().map(Some).collect();
        Ok(Self { origin, nodes, gate, sessions, _directory: directory })
    }

    /// The node that answers a session; an error if the answer is not that of the session.
    async fn node_of(&self, (subject, opened): &(String, Opened)) -> anyhow::Result<String> {
        let answer = self.gate.request(Method::GET, "/app/whoami").bearer_auth(&opened.access).send().await?;
        anyhow::ensure!(answer.status() == 200, "{}", answer.status());
        let node = answer.headers()["x-upstream"].to_str()?.to_owned();
        let said: Value = serde_json::from_slice(&answer.bytes().await?)?;
        anyhow::ensure!(said["subject"] == **subject && said["session"] == *opened.session, "I6: {said}");
        Ok(node)
    }

    /// The nodes of all sessions, by subject.
    async fn places(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let nodes = try_join_all(self.sessions.iter().map(|session| self.node_of(session))).await?;
        Ok(self.sessions.iter().map(|(subject, _)| subject.clone()).zip(nodes).collect())
    }

    async fn rebinds(&self) -> anyhow::Result<u64> {
        Ok(self.gate.status().await?["pools"]["rebinds"].as_u64().unwrap_or_default())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_lost_under_load_costs_no_session_and_no_request() -> Tested {
    let mut all = Nodes::start().await?;
    let before = all.places().await?;
    assert_eq!(before.values().collect::<BTreeSet<_>>().len(), NODES, "{before:?}");
    for _ in 0..3 {
        assert_eq!(all.places().await?, before, "sessions keep their node");
    }
    assert_eq!(all.rebinds().await?, 0);

    let lost = all.nodes[1].take().ok_or_else(|| anyhow::anyhow!("no node"))?;
    let (address, name) = (lost.address(), lost.base());
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let load = try_join_all(all.sessions.iter().map(async |session| {
        while !over.load(Ordering::Relaxed) {
            all.node_of(session).await?;
            answered.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    }));
    let loss = async {
        let count = || answered.load(Ordering::Relaxed);
        eventually("the load", async || (count() > 200).then_some(())).await?;
        drop(lost);
        let then = count();
        eventually("more load", async || (count() > then + 400).then_some(())).await?;
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    // Any request that fails ends this with its reason.
    tokio::try_join!(load, loss)?;
    println!("{} requests were answered while a node was lost", answered.load(Ordering::Relaxed));

    let during = all.places().await?;
    let moved: Vec<_> = before.keys().filter(|subject| before[*subject] != during[*subject]).collect();
    let its: Vec<_> = before.keys().filter(|subject| before[*subject] == name).collect();
    assert_eq!(moved, its, "its sessions moved, and no others");
    let status = all.gate.status().await?;
    assert_eq!(status["pools"]["failing"], json!([name]));
    assert_eq!(all.rebinds().await?, u64::try_from(its.len())?);

    all.nodes[1] = Some(TestDemo::start_at(address, &all.origin).await?);
    // A node that failed often is left alone for up to 30 s.
    let since = Instant::now();
    while all.places().await? != before {
        assert!(since.elapsed() < Duration::from_secs(90), "the way back");
    }
    assert_eq!(all.rebinds().await?, 2 * u64::try_from(its.len())?);
    assert_eq!(all.gate.status().await?["pools"]["failing"], json!([]));
    all.origin.stop().await;
    Ok(())
}

/// What may have had an effect is not sent twice; the next one goes where somebody answers.
#[tokio::test]
async fn a_request_that_may_not_be_repeated_is_not() -> Tested {
    let mut all = Nodes::start().await?;
    let session = all.sessions[0].clone();
    let name = all.node_of(&session).await?;
    let post = async |all: &Nodes| {
        let request = all.gate.request(Method::POST, "/app/whoami").bearer_auth(&session.1.access).body("once");
        anyhow::Ok(request.send().await?.status().as_u16())
    };
    assert_eq!(post(&all).await?, 405, "the application's answer");
    for node in &mut all.nodes {
        node.take_if(|node| node.base() == name);
    }
    // The connection that the node held may be noticed before the request is sent.
    let first = async || (post(&all).await.ok()? == 502).then_some(());
    eventually("the failure", first).await?;
    for _ in 0..5 {
        assert_eq!(post(&all).await?, 405, "another node");
    }
    assert_ne!(all.node_of(&session).await?, name);
    all.nodes.clear();
    let answer = all.gate.request(Method::GET, "/app/whoami").bearer_auth(&session.1.access).send().await?;
    assert_eq!(answer.status(), 502, "nobody is left");
    all.origin.stop().await;
    Ok(())
}

/// A policy that comes with the feed is no reason to try out anew the nodes of which it says what the one before said.
#[tokio::test]
async fn what_is_known_of_nodes_outlives_a_policy_that_says_the_same_of_them() -> Tested {
    let mut all = Nodes::start().await?;
    let session = all.sessions[0].clone();
    let name = all.node_of(&session).await?;
    for node in &mut all.nodes {
        node.take_if(|node| node.base() == name);
    }
    assert_ne!(all.node_of(&session).await?, name, "another node answers");
    let failing = async || anyhow::Ok(all.gate.status().await?["pools"]["failing"].clone());
    assert_eq!(failing().await?, json!([name]));
    let follow = async |policy: &str, status: u16| {
        let (set, problem) = all.origin.manage(Method::PUT, "/v1/policy", json!({ "policy": policy })).await?;
        anyhow::ensure!(set == 200, "{problem}");
        let asked = || all.gate.request(Method::GET, "/app/whoami").bearer_auth(&session.1.access).send();
        let asked = async || asked().await.ok().filter(|answer| answer.status() == status);
        eventually("the policy", asked).await.map(drop)
    };
    // Neither lets the session pass, so that no request finds anything out about nodes.
    follow(&POLICY.replace("path =", "roles_any = [\"admin\"]\npath ="), 403).await?;
    assert_eq!(failing().await?, json!([name]));
    let other = POLICY.replace("\"session\"", "\"none\"").replace("path =", "acr_any = [\"gold\"]\npath =");
    follow(&other, 401).await?;
    assert_eq!(failing().await?, json!([]), "another kind of pool begins anew");
    all.origin.stop().await;
    Ok(())
}

/// An upload that its client broke off is answered so, and says nothing of the node that waited for the rest.
#[tokio::test]
async fn an_upload_that_breaks_off_is_not_held_against_a_node() -> Tested {
    let pool = "app = { addresses = [\"http://127.0.0.1:1\"], answer_ms_max = 30000 }";
    let policy: Vec<&str> = portcullis_tests::POLICY.lines().collect();
    let policy = policy.into_iter().map(|line| if line.starts_with("app = ") { pool } else { line });
    let place = GatePlace::new(&policy.collect::<Vec<_>>().join("\n"))?;
    let mut setting = Setting::start_at(place, |_| {}).await?;
    let bearer = setting.open("alice").await?.access;
    let head = |bytes| {
        let head = format!("POST /app/x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {bearer}\r\n");
        head + &format!("Connection: close\r\nContent-Length: {bytes}\r\n\r\n")
    };
    let failing = async |gate: &TestGate| anyhow::Ok(gate.status().await?["pools"]["failing"].clone());
    let whole = setting.gate.raw_to_its_end(&(head(5) + "hello")).await?;
    assert!(whole.starts_with("HTTP/1.1 200") && whole.contains("hello"), "{whole}");
    let broken = setting.gate.raw_to_its_end(&(head(500_000) + "hello")).await?;
    assert!(broken.starts_with("HTTP/1.1 400") && broken.contains("broke off"), "{broken}");
    assert_eq!(failing(&setting.gate).await?, json!([]));

    let address = setting.upstream.address().to_owned();
    setting.upstream = TestUpstream::start().await?;
    let lost = setting.gate.raw(&(head(500_000) + &"x".repeat(500_000))).await?;
    assert!(lost.starts_with("HTTP/1.1 502"), "{lost}");
    assert_eq!(failing(&setting.gate).await?, json!([address]), "a node that is lost is");

    // As is one that goes away in the middle of it.
    let leaving = TcpListener::bind(address.trim_start_matches("http://")).await?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = leaving.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    for _ in 0..10 {
        let lost = setting.gate.raw(&(head(3_000_000) + &"x".repeat(3_000_000))).await?;
        assert!(lost.starts_with("HTTP/1.1 502"), "{lost}");
    }
    setting.origin.stop().await;
    Ok(())
}
