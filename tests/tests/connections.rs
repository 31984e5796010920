//! WebSockets and event streams through the gate: they go on for as long as a new request would pass, and no longer.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use portcullis_tests::{GatePlace, Opened, POLICY, Setting, TestGate, TestIssuer, TestUpstream, eventually, in_node};
use reqwest::{Method, Response};
use serde_json::json;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode},
};

type Tested = anyhow::Result<()>;
type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Longest wait for something that must happen.
const WAIT_MAX: Duration = Duration::from_secs(60);

async fn socket(gate: &TestGate, path: &str, access: &str) -> anyhow::Result<Socket> {
    let mut request = format!("{}{path}", gate.base().replace("http", "ws")).into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {access}").parse()?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
    assert!(matches!(socket.next().await.transpose()?, Some(Message::Text(_))), "the application's greeting");
    Ok(socket)
}

/// Whether the other end answers.
async fn echoes(socket: &mut Socket) -> anyhow::Result<bool> {
    socket.send(Message::text("still there?")).await?;
    let heard = timeout(WAIT_MAX, socket.next()).await?.transpose()?;
    Ok(heard == Some(Message::text("still there?")))
}

/// The close code, once there is one.
async fn closed(socket: &mut Socket) -> anyhow::Result<Option<CloseCode>> {
    while let Some(message) = timeout(WAIT_MAX, socket.next()).await?.transpose()? {
        if let Message::Close(frame) = message {
            return Ok(frame.map(|frame| frame.code));
        }
    }
    Ok(None)
}

async fn events(gate: &TestGate, path: &str, access: &str) -> anyhow::Result<Response> {
    let request = gate.request(Method::GET, path).bearer_auth(access).header("accept", "text/event-stream");
    let mut stream = request.send().await?;
    assert_eq!(stream.status(), 200);
    assert!(goes_on(&mut stream).await?);
    Ok(stream)
}

/// Whether another event comes, rather than the end.
async fn goes_on(stream: &mut Response) -> anyhow::Result<bool> {
    Ok(timeout(WAIT_MAX, stream.chunk()).await??.is_some())
}

/// The clean end of the stream.
async fn ended(stream: &mut Response) -> Tested {
    while goes_on(stream).await? {}
    Ok(())
}

async fn end_session(setting: &Setting, opened: &Opened) -> Tested {
    let path = format!("/v1/sessions/{}/revoke", opened.session);
    assert_eq!(setting.origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    Ok(())
}

async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = anyhow::Result<T>>>) -> anyhow::Result<Vec<T>> {
    join_all(futures).await.into_iter().collect()
}

/// I1: of hundreds of open connections those of the session that ends are cut, within the bound of the route; no other is.
#[tokio::test]
async fn connections_end_with_their_session_and_no_others() -> Tested {
    const EACH: usize = 40;
    let setting = Setting::start().await?;
    let mut kept = Vec::new();
    for subject in ["alice", "bob", "carol"] {
        let opened = setting.open(subject).await?;
        let sockets = all((0..EACH).map(|_| socket(&setting.gate, "/app/ws", &opened.access))).await?;
        let streams = all((0..EACH).map(|_| events(&setting.gate, "/app/events", &opened.access))).await?;
        kept.push((opened, sockets, streams));
    }
    assert_eq!(setting.gate.status().await?["connections"]["open"], 6 * EACH);
    let (ended_one, mut sockets, mut streams) = kept.remove(1);
    end_session(&setting, &ended_one).await?;
    let since = Instant::now();
    let codes = all(sockets.iter_mut().map(closed)).await?;
    all(streams.iter_mut().map(ended)).await?;
    println!("{} connections were cut {:?} after the acknowledgement", codes.len() + streams.len(), since.elapsed());
    assert!(codes.iter().all(|code| *code == Some(CloseCode::from(4401))), "{codes:?}");

    for (opened, sockets, streams) in &mut kept {
        assert!(all(sockets.iter_mut().map(echoes)).await?.iter().all(|echoes| *echoes));
        assert!(all(streams.iter_mut().map(goes_on)).await?.iter().all(|goes_on| *goes_on));
        assert_eq!(setting.gate.status_of("/app/x", &opened.access).await?, 200);
    }
    drop(kept);
    let gone = async || (setting.gate.status().await.ok()?["connections"]["open"] == 0).then_some(());
    eventually("the end of what the clients left", gone).await?;
    assert_eq!(setting.gate.status().await?["connections"]["cut"], 2 * EACH);
    setting.origin.stop().await;
    Ok(())
}

/// A connection lives no longer than its token: whoever may come back comes back with a newer one.
#[tokio::test]
async fn connections_end_when_their_token_expires() -> Tested {
    let (issuer, upstream) = (TestIssuer::new()?, TestUpstream::start().await?);
    let settings = issuer.settings().with_upstream("app", upstream.address());
    let gate = GatePlace::new(POLICY)?.start(settings).await?;
    let short = issuer.token("AAAAAAAAAAAAAAAAAAAAAA", Duration::from_secs(15))?;
    let long = issuer.token("AAAAAAAAAAAAAAAAAAAAAA", Duration::from_secs(600))?;
    let (mut kept, mut ending) = (socket(&gate, "/app/ws", &long).await?, socket(&gate, "/app/ws", &short).await?);
    let mut stream = events(&gate, "/app/events", &short).await?;
    assert!(echoes(&mut ending).await?);
    assert_eq!(closed(&mut ending).await?, Some(CloseCode::from(4401)));
    ended(&mut stream).await?;
    assert_eq!(gate.status_of("/app/x", &short).await?, 401);
    assert!(echoes(&mut kept).await?, "a newer token of the same session");
    Ok(())
}

/// I7: when the gate knows too little for a route, its connections are told to come back later; those of a route that goes on
/// without fresh knowledge go on.
#[tokio::test]
async fn connections_follow_what_their_route_says_of_a_stale_gate() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("alice").await?;
    let mut strict = socket(&setting.gate, "/app/ws", &opened.access).await?;
    let mut asking = socket(&setting.gate, "/asking/ws", &opened.access).await?;
    let mut relaxed = socket(&setting.gate, "/relaxed/ws", &opened.access).await?;
    let mut public = setting.gate.request(Method::GET, "/public/events").send().await?;
    setting.origin.stop().await;
    assert_eq!(closed(&mut strict).await?, Some(CloseCode::Again));
    assert_eq!(closed(&mut asking).await?, Some(CloseCode::Again));
    assert!(echoes(&mut relaxed).await? && goes_on(&mut public).await?);
    Ok(())
}

/// What either end says at its end reaches the other one.
#[tokio::test]
async fn an_end_of_a_socket_is_told_to_the_other_end() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("alice").await?;
    let mut socket = socket(&setting.gate, "/app/ws", &opened.access).await?;
    socket.send(Message::binary(vec![1, 2, 3])).await?;
    assert_eq!(timeout(WAIT_MAX, socket.next()).await?.transpose()?, Some(Message::binary(vec![1, 2, 3])));
    socket.send(Message::text("end with 4000")).await?;
    assert_eq!(closed(&mut socket).await?, Some(CloseCode::from(4000)));
    setting.origin.stop().await;
    Ok(())
}

/// I8: how many connections may be open, and how much may wait for a client that does not read.
#[tokio::test]
async fn connections_are_bounded() -> Tested {
    in_node("edge/connections.mjs", &[], "").await?;
    Ok(())
}
