//! Load over loopback: a fixed number of connections that are kept, one request at a time on each.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::{JoinHandle, JoinSet},
};

use crate::origin_process::MANAGEMENT_KEY;

/// One connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driving: JoinHandle<()>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // An error of the connection is told to the request that it hits.
        let driving = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driving })
    }

    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }

    /// A `GET` with a bearer token; its status.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub(crate) async fn ask(&mut self, path: &str, token: &str) -> anyhow::Result<StatusCode> {
        Ok(self.send(get(path, token)?).await?.status())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

/// A `GET` with a bearer token.
pub(crate) fn get(path: &str, token: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::get(path).header(header::HOST, "bench.example");
    Ok(request.header(header::AUTHORIZATION, format!("Bearer {token}")).body(Full::default())?)
}

/// A management call with a JSON body.
///
/// # Errors
///
/// The path is none.
pub(crate) fn managed(path: &str, body: &serde_json::Value) -> anyhow::Result<Request<Full<Bytes>>> {
    post(path, "application/json", body.to_string(), Some(MANAGEMENT_KEY))
}

/// A `POST` of a body of a media type, with a bearer key if it needs one.
///
/// # Errors
///
/// The path is none.
pub(crate) fn post(path: &str, kind: &str, body: String, key: Option<&str>) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::post(path).header(header::HOST, "bench.example").header(header::CONTENT_TYPE, kind);
    let request = match key {
        Some(key) => request.header(header::AUTHORIZATION, format!("Bearer {key}")),
        None => request,
    };
    Ok(request.body(Full::new(Bytes::from(body)))?)
}

/// Sends `requests` over `connections`, each of which takes every so-manieth; the answers in the order of the requests.
///
/// # Errors
///
/// An answer has another status than `expected`: what was measured would not be what was meant.
pub(crate) async fn send_all(
    address: SocketAddr,
    connections: usize,
    requests: Vec<Request<Full<Bytes>>>,
    expected: StatusCode,
) -> anyhow::Result<Vec<Response<Bytes>>> {
    let count = requests.len();
    let mut shares: Vec<Vec<_>> = (0..connections).map(|_| Vec::new()).collect();
    for (index, request) in requests.into_iter().enumerate() {
        shares[index % connections].push((index, request));
    }
    let mut running = JoinSet::new();
    for share in shares {
        running.spawn(send_share(address, share, expected));
    }
    let mut answers: Vec<_> = (0..count).map(|_| Response::default()).collect();
    while let Some(done) = running.join_next().await {
        for (index, answer) in done?? {
            answers[index] = answer;
        }
    }
    Ok(answers)
}

async fn send_share(
    address: SocketAddr,
    requests: Vec<(usize, Request<Full<Bytes>>)>,
    expected: StatusCode,
) -> anyhow::Result<Vec<(usize, Response<Bytes>)>> {
    let mut connection = Connection::open(address).await?;
    let mut answers = Vec::with_capacity(requests.len());
    for (index, request) in requests {
        let answer = connection.send(request).await?;
        let (status, body) = (answer.status(), answer.body());
        ensure!(status == expected, "answered {status} instead of {expected}: {}", String::from_utf8_lossy(body));
        answers.push((index, answer));
    }
    Ok(answers)
}
