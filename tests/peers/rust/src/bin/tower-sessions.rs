//! tower-sessions over Redis, as its documentation sets it up. Arguments: address to listen on, address of Redis.

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_sessions::{Expiry, Session, SessionManagerLayer, cookie::SameSite, session::Error};
use tower_sessions_redis_store::{RedisStore, fred::prelude::*};

/// The origin has it too: what differs is how sessions are kept.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections to Redis, as in the documentation.
const POOL: usize = 6;

const WHO: &str = "who";

/// What the origin keeps of a session.
#[derive(Serialize, Deserialize)]
struct Who {
    subject: String,
    tenant: String,
    client_id: String,
    roles: Vec<String>,
    scope: String,
    amr: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (listen, redis) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let pool = Pool::new(Config::from_url(&redis)?, None, None, None, POOL)?;
    let _driving = pool.connect();
    pool.wait_for_connect().await?;
    let sessions = SessionManagerLayer::new(RedisStore::new(pool))
        .with_same_site(SameSite::Lax)
        .with_expiry(Expiry::OnInactivity(time::Duration::days(14)));
    let router = Router::new()
        .route("/sessions", post(open))
        .route("/session", get(load))
        .route("/session/renew", post(renew))
        .route("/session/revoke", post(revoke))
        .layer(sessions);
    Ok(axum::serve(TcpListener::bind(listen).await?, router).await?)
}

async fn open(session: Session, Json(who): Json<Who>) -> Result<StatusCode, StatusCode> {
    session.insert(WHO, who).await.map_err(failed)?;
    Ok(StatusCode::CREATED)
}

async fn load(session: Session) -> Result<Json<Who>, StatusCode> {
    session.get(WHO).await.map_err(failed)?.map(Json).ok_or(StatusCode::UNAUTHORIZED)
}

async fn renew(session: Session) -> Result<Json<Who>, StatusCode> {
    let who = load(session.clone()).await?;
    session.cycle_id().await.map_err(failed)?;
    Ok(who)
}

async fn revoke(session: Session) -> Result<(), StatusCode> {
    session.flush().await.map_err(failed)
}

fn failed(error: Error) -> StatusCode {
    eprintln!("tower-sessions: {error}");
    StatusCode::INTERNAL_SERVER_ERROR
}
