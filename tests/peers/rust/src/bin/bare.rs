//! What no refresh can do without, each part alone: an answer over HTTP, a GET and a compare-and-swap in Redis, a signature.
//! Arguments: address to listen on, address of Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::ensure;
use aws_lc_rs::{rand::SystemRandom, signature::Ed25519KeyPair};
use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use redis::{Script, aio::MultiplexedConnection};
use tokio::{net::TcpListener, task::JoinSet};

/// The origin has it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As long as the record of an ordinary session, and as what is signed of its token.
const RECORD_BYTES: usize = 100;
const SIGNED_BYTES: usize = 500;

const KEPT: Duration = Duration::from_secs(14 * 86_400);

const SWAP: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
return 1
";

struct Parts {
    redis: MultiplexedConnection,
    swap: Script,
    key: Ed25519KeyPair,
    /// What was written last.
    generation: AtomicU64,
}

#[derive(Clone, Copy)]
enum Part {
    Set,
    Get,
    Swap,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (listen, redis) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let redis = redis::Client::open(redis)?.get_multiplexed_async_connection().await?;
    let key = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?.as_ref())?;
    let parts = Arc::new(Parts { redis, swap: Script::new(SWAP), key, generation: AtomicU64::new(0) });
    let router = Router::new()
        .route("/hello", get(async || "hello"))
        .route("/sign/{count}", post(sign))
        .route("/set/{count}/{at_once}", post(async |state, path| run(Part::Set, state, path).await))
        .route("/get/{count}/{at_once}", post(async |state, path| run(Part::Get, state, path).await))
        .route("/swap/{count}/{at_once}", post(async |state, path| run(Part::Swap, state, path).await))
        .with_state(parts);
    Ok(axum::serve(TcpListener::bind(listen).await?, router).await?)
}

async fn sign(State(parts): State<Arc<Parts>>, Path(count): Path<u32>) -> Result<(), StatusCode> {
    for number in 0..count {
        let message = [number.to_be_bytes().as_slice(), &[7; SIGNED_BYTES - 4]].concat();
        parts.key.try_sign(&message).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    }
    Ok(())
}

/// Does a part `count` times, so many at once.
async fn run(part: Part, parts: State<Arc<Parts>>, Path((count, at_once)): Path<(u64, u64)>) -> Result<(), StatusCode> {
    let held = parts.generation.load(Ordering::Relaxed);
    let mut running = JoinSet::new();
    for first in 0..at_once {
        let parts = Arc::clone(&parts);
        running.spawn(async move {
            for number in (first..count).step_by(usize::try_from(at_once)?) {
                parts.once(part, number, held).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = running.join_next().await {
        if let Some(error) = done.map_err(Into::into).flatten().err() {
            eprintln!("bare: {error:#}");
            return Err(StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
    if matches!(part, Part::Swap) {
        parts.generation.store(held + 1, Ordering::Relaxed);
    }
    Ok(())
}

impl Parts {
    async fn once(&self, part: Part, number: u64, held: u64) -> anyhow::Result<()> {
        let (mut redis, key) = (self.redis.clone(), format!("bare:session:{number:030}"));
        match part {
            Part::Set => redis::cmd("SET").arg(key).arg(record(held)).exec_async(&mut redis).await?,
            Part::Get => {
                let found: Option<Vec<u8>> = redis::cmd("GET").arg(key).query_async(&mut redis).await?;
                ensure!(found == Some(record(held)), "another record");
            }
            Part::Swap => {
                let until = (SystemTime::now().duration_since(UNIX_EPOCH)? + KEPT).as_millis().to_string();
                let mut call = self.swap.key(key);
                let call = call.arg(record(held)).arg(record(held + 1)).arg(until);
                let swapped: u64 = call.invoke_async(&mut redis).await?;
                ensure!(swapped == 1, "a conflict");
            }
        }
        Ok(())
    }
}

fn record(generation: u64) -> Vec<u8> {
    [generation.to_be_bytes().as_slice(), &[7; RECORD_BYTES - 8]].concat()
}
