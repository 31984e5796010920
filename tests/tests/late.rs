//! Upstreams that take a connection and do not answer: each request has a deadline, and the node is left alone.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use portcullis_tests::{ASSERTION_KEY, GatePlace, GateSettings, TestGate, TestOrigin, TestUpstream, eventually};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_tungstenite::tungstenite::Message;

type Tested = anyhow::Result<()>;

/// The deadline of all upstreams here.
const DEADLINE: Duration = Duration::from_secs(3);

/// When a test gives up.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// A deadline after which an assertion of 30 s is hardly good for another node.
const LONG: Duration = Duration::from_secs(26);

fn policy() -> String {
    let area = |(name, deadline): (&str, Duration)| {
        format!(
            "[upstreams.{name}]\naddresses = [\"http://127.0.0.1:1\"]\nanswer_ms_max = {}\n\
             [[routes]]\nid = \"{name}\"\npath = \"/{name}/*\"\naccess = \"anonymous\"\nupstream = \"{name}\"\n",
            deadline.as_millis()
        )
    };
    let areas = ["read", "write", "hung", "good"].map(|name| (name, DEADLINE));
    areas.into_iter().chain([("long", LONG)]).map(area).collect()
}

/// A gate before a node that answers and one that does not: `/read` and `/write` go to both, `/hung` and `/good` to one of them.
struct Late {
    origin: TestOrigin,
    gate: TestGate,
    /// The system takes connections to it, and nobody answers them.
    hung: TcpListener,
    _good: TestUpstream,
    _directory: TempDir,
}

impl Late {
    async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let place = GatePlace::new(&policy())?;
        let origin = TestOrigin::start(directory.path(), vec![place.hub()]).await?;
        let hung = TcpListener::bind("127.0.0.1:0").await?;
        let good = TestUpstream::start().await?;
        let (one, other) = (format!("http://{}", hung.local_addr()?), good.address());
        let upstreams =
            json!({ "read": [one, other], "write": [one, other], "hung": one, "good": other, "long": [one, other] });
        let settings = GateSettings::of(&origin)
            .with("UPSTREAMS", &upstreams.to_string())
            .with("ASSERTION_KEYS", &json!({ "long": ASSERTION_KEY, "read": ASSERTION_KEY }).to_string());
        let gate = place.start(settings).await?;
        gate.ready().await?;
        Ok(Self { origin, gate, hung, _good: good, _directory: directory })
    }

    /// Status and body of an answer.
    async fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> anyhow::Result<(u16, Value)> {
        let answer = self.gate.request(method, path).body(body).timeout(ANSWER_MAX).send().await?;
        let status = answer.status().as_u16();
        Ok((status, serde_json::from_slice(&answer.bytes().await?)?))
    }

    async fn failing(&self) -> anyhow::Result<Value> {
        Ok(self.gate.status().await?["pools"]["failing"].clone())
    }
}

/// A request that may be repeated goes to another node, and the node that hangs is left alone.
#[tokio::test]
async fn a_node_that_hangs_is_left_alone_and_reads_lose_nothing() -> Tested {
    let all = Late::start().await?;
    let hung = json!([format!("http://{}", all.hung.local_addr()?)]);
    assert_eq!(all.failing().await?, json!([]));
    let begun = Instant::now();
    // Without a session each node in turn.
    for _ in 0..2 {
        assert_eq!(all.ask(Method::GET, "/read/x", "").await?.0, 200);
    }
    assert!(begun.elapsed() >= DEADLINE, "one of them was late at first");
    assert_eq!(all.failing().await?, hung);
    for _ in 0..10 {
        assert_eq!(all.ask(Method::GET, "/read/x", "").await?.0, 200);
    }
    assert_eq!(all.failing().await?, hung);
    assert_eq!(all.ask(Method::GET, "/hung/x", "").await?.0, 504, "there is no other");
    all.origin.stop().await;
    Ok(())
}

/// BRR-11: an application takes no assertion that is over, so a request is not sent on with one. Its twin is above.
#[tokio::test]
async fn a_read_that_was_late_for_too_long_is_504() -> Tested {
    let all = Late::start().await?;
    let (one, other) = tokio::join!(all.ask(Method::GET, "/long/x", ""), all.ask(Method::GET, "/long/x", ""));
    let mut statuses = [one?.0, other?.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 504]);
    all.origin.stop().await;
    Ok(())
}

/// What may have had an effect is not sent twice. Its twin: what is slow, and answers in time.
#[tokio::test]
async fn a_write_to_a_node_that_hangs_is_504_and_the_next_one_passes() -> Tested {
    let all = Late::start().await?;
    let mut two = Vec::new();
    for _ in 0..2 {
        two.push(all.ask(Method::POST, "/write/x", "once").await?);
    }
    two.sort_by_key(|(status, _)| *status);
    assert_eq!((two[0].0, &two[0].1["body"]), (200, &json!("once")));
    let refused = json!({
        "type": "about:blank", "title": "Refused at the gate", "status": 504, "reason": "upstream",
        "detail": "the application does not answer in time",
    });
    assert_eq!(two[1], (504, refused));
    for _ in 0..5 {
        assert_eq!(all.ask(Method::POST, "/write/x", "").await?.0, 200, "none tries the node out");
    }
    for (method, body) in [(Method::GET, ""), (Method::POST, ""), (Method::POST, "slow")] {
        let (status, told) = all.ask(method, "/good/slow", body).await?;
        assert_eq!((status, &told["body"]), (200, &json!(body)));
    }
    let hung = format!("http://{}", all.hung.local_addr()?);
    assert_eq!(all.failing().await?, json!([hung]));
    all.origin.stop().await;
    Ok(())
}

/// The deadline is for the head of the answer, and counts from the end of the request.
#[tokio::test]
async fn what_lasts_longer_than_the_deadline_is_not_cut() -> Tested {
    let all = Late::start().await?;
    let begun = Instant::now();
    let mut events = all.gate.request(Method::GET, "/good/events").send().await?;
    let address = all.gate.base().replace("http://", "ws://") + "/good/ws";
    let (mut socket, _) = tokio_tungstenite::connect_async(address).await?;
    assert_eq!(socket.next().await.transpose()?, Some(Message::text("")));

    let mut upload = TcpStream::connect(all.gate.base().trim_start_matches("http://")).await?;
    let head = "POST /good/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 24\r\n\r\n";
    upload.write_all(head.as_bytes()).await?;
    for _ in 0..6 {
        sleep(DEADLINE / 4).await;
        upload.write_all(b"part").await?;
    }
    let mut told = String::new();
    upload.read_to_string(&mut told).await?;
    for wanted in ["HTTP/1.1 200", r#""content-length":["24"]"#, &format!(r#""body":"{}""#, "part".repeat(6))] {
        assert!(told.contains(wanted), "{wanted} in {told}");
    }

    assert!(begun.elapsed() > DEADLINE);
    // More than what may have waited to be read.
    let late = async || (!events.chunk().await.ok()??.is_empty() && begun.elapsed() > DEADLINE * 2).then_some(());
    eventually("an event after the deadline", late).await?;
    socket.send(Message::text("late")).await?;
    assert_eq!(socket.next().await.transpose()?, Some(Message::text("late")));
    assert_eq!(all.failing().await?, json!([]));
    all.origin.stop().await;
    Ok(())
}
