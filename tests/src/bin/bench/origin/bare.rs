//! What no refresh can do without, each part measured alone.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};

use http_body_util::Full;
use hyper::{Request, StatusCode, body::Bytes, header};

use super::{
    load::OPERATIONS,
    meter::{Meter, Samples},
    peers::{beside, listening},
    redis_url,
};
use crate::{
    client::{Connection, send_all},
    process::Process,
    redis::Redis,
    report::{Report, Table, figure},
    stats::{median, ratio},
};

/// What a refresh may take of the sum of the parts: the origin, and Redis.
const ORIGIN_MAX: f64 = 1.7;
const REDIS_MAX: f64 = 1.8;

/// Each with its path; the part before the last slash is done by the program itself, as often as the path says.
const PARTS: [(&str, &str); 4] = [
    ("answer of axum over HTTP", "/hello"),
    ("GET", "/get"),
    ("compare-and-swap (EVALSHA)", "/swap"),
    ("Ed25519 signature", "/sign"),
];

/// The parts that an operation of [`OPERATIONS`] cannot do without, as positions in [`PARTS`]: its answer, the record that it
/// reads, what it writes and what it signs. Opening writes the record and the note of the subject, revoking the floor and
/// the record; the check of a signature that a first introspection makes is not among the parts.
const NEEDED: [&[usize]; OPERATIONS.len()] = [&[0, 2, 2, 3], &[0, 1], &[0, 1], &[0, 1, 2, 3], &[0, 1, 2, 2]];

/// The program that does them.
pub(super) struct Bare {
    process: Process,
    address: SocketAddr,
    redis: Redis,
    /// By part.
    samples: [Samples; 4],
}

impl Bare {
    /// Starts it, with `records` records.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(super) async fn start(records: u32) -> anyhow::Result<Self> {
        let redis = Redis::start().await?;
        let (process, address) = listening("bare", |listen| {
            let mut command = Command::new(beside("bare")?);
            command.arg(listen.to_string()).arg(redis_url(redis.address)).stdin(Stdio::null());
            Ok(command)
        })
        .await?;
        let bare = Self { process, address, redis, samples: Default::default() };
        bare.ask(&format!("/set/{records}/1")).await?;
        Ok(bare)
    }

    /// Does every part `count` times, so many at once.
    ///
    /// # Errors
    ///
    /// One fails.
    pub(super) async fn turn(&mut self, count: u32, at_once: usize, counts: bool) -> anyhow::Result<()> {
        let number = usize::try_from(count)?;
        for (index, (_, path)) in PARTS.iter().enumerate() {
            let meter = Meter::start(&self.process, Some(&self.redis))?;
            match *path {
                "/hello" => {
                    let requests = (0..count).map(|_| request("GET", path)).collect::<Result<_, _>>()?;
                    send_all(self.address, at_once, requests, StatusCode::OK).await?;
                }
                "/sign" => self.ask(&format!("{path}/{count}")).await?,
                _ => self.ask(&format!("{path}/{count}/{at_once}")).await?,
            }
            if counts {
                meter.stop(number, &mut self.samples[index])?;
            }
        }
        Ok(())
    }

    async fn ask(&self, path: &str) -> anyhow::Result<()> {
        let answer = Connection::open(self.address).await?.send(request("POST", path)?).await?;
        anyhow::ensure!(answer.status() == StatusCode::OK, "{path} was answered {}", answer.status());
        Ok(())
    }

    /// What program and Redis take for the bare parts of an operation, by its position in [`OPERATIONS`]: without the audit
    /// trail, and without what a request says and is told.
    pub(super) fn of(&self, operation: usize) -> Vec<f64> {
        let needed = NEEDED[operation].iter().map(|part| self.samples[*part].both());
        needed.reduce(|sum, part| sum.iter().zip(part).map(|(sum, part)| sum + part).collect()).unwrap_or_default()
    }

    /// Tells the parts, and holds a refresh against their sum.
    pub(super) fn judge(&self, report: &mut Report, refresh: &Samples) {
        let mut table = Table::new("The bare parts of a refresh", ["", "program, µs", "Redis, µs"]);
        for ((name, path), samples) in PARTS.iter().zip(&self.samples) {
            let asks = ["/get", "/swap"].contains(path);
            let redis = if asks { figure(median(&samples.store)) } else { "-".to_owned() };
            table.row([(*name).to_owned(), figure(median(&samples.program)), redis]);
        }
        let [hello, get, swap, sign] = &self.samples;
        let program = sum([hello, get, swap, sign].map(|samples| samples.program.as_slice()));
        let redis = sum([get, swap].map(|samples| samples.store.as_slice()));
        table.row(["all of them".to_owned(), figure(median(&program)), figure(median(&redis))]);
        table.row(["a refresh".to_owned(), figure(median(&refresh.program)), figure(median(&refresh.store))]);
        report.table(table);
        let (program, redis) = (ratio(&refresh.program, &program), ratio(&refresh.store, &redis));
        report.target("a refresh at the origin, of its bare parts", program, ORIGIN_MAX, "times");
        report.target("a refresh in Redis, of its bare parts", redis, REDIS_MAX, "times");
    }
}

/// Round by round.
fn sum<const PARTS: usize>(parts: [&[f64]; PARTS]) -> Vec<f64> {
    let rounds = parts.iter().map(|part| part.len()).min().unwrap_or_default();
    (0..rounds).map(|round| parts.iter().map(|part| part[round]).sum()).collect()
}

fn request(method: &str, path: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    Ok(Request::builder().method(method).uri(path).header(header::HOST, "bench.example").body(Full::default())?)
}
