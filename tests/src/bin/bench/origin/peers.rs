//! What other people keep sessions with, doing the same work over a Redis of their own.

use std::{
    env,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::ensure;
use http_body_util::Full;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Bytes, header};
use portcullis_tests::{eventually, free_port, root};
use serde_json::{Value, json};

use super::{
    load::{SUBJECTS, ordinary},
    meter::{Meter, Samples},
    redis_url,
};
use crate::{client::send_all, process::Process, redis::Redis};

/// What it is, how it is started, and how it is spoken to.
pub(super) struct Kind {
    pub(super) name: &'static str,
    program: Program,
    /// Opens a session of the subject with this number.
    open: (&'static str, fn(usize) -> Value, StatusCode),
    load: &'static str,
    renew: (Method, &'static str),
    revoke: &'static str,
    /// Whether a renewed session has another id.
    rotates: bool,
}

/// How it is started.
enum Program {
    /// A program beside this one.
    Rust(&'static str),
    /// A script of the folder `tests/peers/origin`.
    Node(&'static str),
}

/// One that holds a session under its cookie, at the paths of ours.
const COOKIE: Kind = Kind {
    name: "",
    program: Program::Rust(""),
    open: ("/sessions", ordinary, StatusCode::CREATED),
    load: "/session",
    renew: (Method::POST, "/session/renew"),
    revoke: "/session/revoke",
    rotates: true,
};

/// All of them. Each is told in its own source how it is set up.
pub(super) const KINDS: [Kind; 3] = [
    Kind { name: "tower-sessions", program: Program::Rust("tower-sessions"), ..COOKIE },
    Kind { name: "express-session", program: Program::Node("express.mjs"), ..COOKIE },
    Kind {
        name: "better-auth",
        program: Program::Node("better-auth.mjs"),
        open: ("/api/auth/sign-in/email", sign_in, StatusCode::OK),
        load: "/api/auth/get-session?disableRefresh=true",
        renew: (Method::GET, "/api/auth/get-session"),
        revoke: "/api/auth/sign-out",
        rotates: false,
    },
];

fn sign_in(subject: usize) -> Value {
    json!({ "email": format!("u_{subject:022}@bench.example"), "password": "password-of-a-benchmark" })
}

/// One that runs.
pub(super) struct Peer {
    pub(super) kind: Kind,
    /// By operation.
    pub(super) samples: [Samples; 4],
    // Ends before its Redis does, so that it has nothing to complain of.
    process: Process,
    pub(super) redis: Redis,
    address: SocketAddr,
}

impl Peer {
    /// Starts one that knows so many users.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(super) async fn start(kind: Kind, users: usize) -> anyhow::Result<Self> {
        let redis = Redis::start().await?;
        let (process, address) = listening(kind.name, |listen| {
            let mut command = match kind.program {
                Program::Rust(name) => Command::new(beside(name)?),
                Program::Node(script) => {
                    let mut node = Command::new(root().join("node_modules/.bin/node"));
                    node.arg(root().join("tests/peers/origin").join(script)).env("NODE_ENV", "production");
                    node
                }
            };
            match kind.program {
                Program::Rust(_) => command.arg(listen.to_string()),
                Program::Node(_) => command.arg(listen.port().to_string()),
            };
            command.arg(redis_url(redis.address)).arg(users.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
            Ok(command)
        })
        .await?;
        Ok(Self { kind, samples: Default::default(), redis, process, address })
    }

    /// Sees that it does what is measured, so that nobody is quick by doing less.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        let first = self.open([0], 1).await?.remove(0);
        ensure!(self.knows(&first).await?, "{} does not know an open session", self.kind.name);
        let (method, path) = self.kind.renew.clone();
        let renewed = self.send(vec![follow(method, path, &first)?], StatusCode::OK, 1).await?.remove(0);
        let second = cookie(renewed.headers());
        ensure!(self.knows(&second).await?, "{} does not know a renewed session", self.kind.name);
        ensure!(self.kind.rotates != self.knows(&first).await?, "{} and the old id", self.kind.name);
        self.send(vec![follow(Method::POST, self.kind.revoke, &second)?], StatusCode::OK, 1).await?;
        ensure!(!self.knows(&second).await?, "{} knows a session that is over", self.kind.name);
        Ok(())
    }

    /// Opens, loads, renews and revokes `count` sessions.
    ///
    /// # Errors
    ///
    /// Something is not answered as it must be.
    pub(super) async fn turn(&mut self, count: u32, connections: usize, counts: bool) -> anyhow::Result<()> {
        let count = usize::try_from(count)?;
        let subjects = (0..count).map(|number| number % SUBJECTS);
        let opens = subjects.map(|subject| self.kind.opening(subject)).collect::<Result<_, _>>()?;
        let opened = self.measured(0, opens, connections, counts).await?;
        let mut cookies: Vec<_> = opened.iter().map(|answer| cookie(answer.headers())).collect();
        let (method, renew) = self.kind.renew.clone();
        let then = [(Method::GET, self.kind.load), (method, renew), (Method::POST, self.kind.revoke)];
        for (operation, (method, path)) in (1..).zip(then) {
            let each = cookies.iter().map(|cookie| follow(method.clone(), path, cookie)).collect::<Result<_, _>>()?;
            let answers = self.measured(operation, each, connections, counts).await?;
            for (held, answer) in cookies.iter_mut().zip(answers) {
                let given = cookie(answer.headers());
                if !given.is_empty() {
                    *held = given;
                }
            }
        }
        Ok(())
    }

    /// Opens a session of each of these subjects; their cookies.
    ///
    /// # Errors
    ///
    /// One is not opened.
    pub(super) async fn open(
        &self,
        subjects: impl IntoIterator<Item = usize>,
        connections: usize,
    ) -> anyhow::Result<Vec<String>> {
        let opens = subjects.into_iter().map(|subject| self.kind.opening(subject)).collect::<Result<_, _>>()?;
        let opened = self.send(opens, self.kind.open.2, connections).await?;
        Ok(opened.iter().map(|answer| cookie(answer.headers())).collect())
    }

    async fn measured(
        &mut self,
        operation: usize,
        requests: Vec<Request<Full<Bytes>>>,
        connections: usize,
        counts: bool,
    ) -> anyhow::Result<Vec<Response<Bytes>>> {
        let (count, expected) = (requests.len(), if operation == 0 { self.kind.open.2 } else { StatusCode::OK });
        let meter = Meter::start(&self.process, Some(&self.redis))?;
        let answers = send_all(self.address, connections, requests, expected).await?;
        if counts {
            meter.stop(count, &mut self.samples[operation])?;
        }
        Ok(answers)
    }

    async fn send(
        &self,
        requests: Vec<Request<Full<Bytes>>>,
        expected: StatusCode,
        connections: usize,
    ) -> anyhow::Result<Vec<Response<Bytes>>> {
        send_all(self.address, connections, requests, expected).await
    }

    /// Whether its session is told of; whoever has none is refused, or told `null`.
    async fn knows(&self, cookie: &str) -> anyhow::Result<bool> {
        let mut connection = crate::client::Connection::open(self.address).await?;
        let answer = connection.send(follow(Method::GET, self.kind.load, cookie)?).await?;
        Ok(answer.status() == StatusCode::OK && String::from_utf8_lossy(answer.body()).contains("u_00000"))
    }
}

impl Kind {
    fn opening(&self, subject: usize) -> anyhow::Result<Request<Full<Bytes>>> {
        let (path, who, _) = self.open;
        crate::client::post(path, "application/json", who(subject).to_string(), None)
    }
}

fn follow(method: Method, path: &str, cookie: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "bench.example");
    let request = request.header(header::ORIGIN, "http://bench.example").header(header::COOKIE, cookie);
    Ok(request.body(Full::default())?)
}

/// What a browser would send back.
fn cookie(headers: &HeaderMap) -> String {
    let set = headers.get_all(header::SET_COOKIE).iter().filter_map(|value| value.to_str().ok());
    set.filter_map(|value| value.split(';').next()).collect::<Vec<_>>().join("; ")
}

/// A program that Cargo puts beside this one.
pub(super) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let program = env::current_exe()?.with_file_name(name);
    ensure!(program.is_file(), "{} is missing; cargo xtask bench origin builds it", program.display());
    Ok(program)
}

/// Starts what listens at the address that `command` is given, and waits until it does.
pub(super) async fn listening(
    name: &str,
    command: impl FnOnce(SocketAddr) -> anyhow::Result<Command>,
) -> anyhow::Result<(Process, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let process = Process::start(&mut command(address)?)?;
    eventually(name, async || TcpStream::connect(address).ok()).await?;
    Ok((process, address))
}
