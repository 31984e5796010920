//! A small application to see Portcullis at work: it signs people in at the origin, and stands behind the gate.
//!
//! It listens twice. The *application* is the upstream of the gate. The *front door* is what a browser opens: it serves
//! the page and the sign-in, which need no session, and hands everything under `/app` and `/relaxed` to the gate.

mod app;
mod front;
mod origin;
mod sign_in;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use secrecy::SecretString;
use tokio::{net::TcpListener, signal::unix::SignalKind};
use url::Url;

use crate::{front::Gate, origin::Origin};

/// A small application behind the gate of Portcullis. It listens on this machine only.
#[derive(Parser)]
#[command(name = "portcullis-demo", version)]
struct Arguments {
    /// Port of the application, which is the gate's upstream.
    #[arg(long, default_value_t = 8790)]
    port: u16,
    /// Port of the front door, which a browser opens.
    #[arg(long, default_value_t = 8791)]
    front_port: u16,
    /// The origin.
    #[arg(long, default_value = "http://127.0.0.1:8780")]
    origin: Url,
    /// The gate.
    #[arg(long, default_value = "http://127.0.0.1:8787")]
    gate: Url,
    /// Opens management calls to the origin.
    #[arg(long, env = "PORTCULLIS_MANAGEMENT_KEY", hide_env_values = true)]
    management_key: SecretString,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = origin::client()?;
    let origin = Origin::new(client.clone(), arguments.origin, arguments.management_key);
    let gate = Gate::new(client, arguments.gate);
    let application = listen(arguments.port).await?;
    let front = listen(arguments.front_port).await?;
    println!("http://localhost:{}/", front.local_addr()?.port());
    // Nothing is kept here, so nothing has to be finished.
    tokio::select! {
        ended = axum::serve(application, app::router()) => ended?,
        ended = axum::serve(front, front::router(origin, gate)) => ended?,
        () = stopped() => {}
    }
    Ok(())
}

async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).await.with_context(|| format!("cannot listen on port {port}"))
}

/// Ends with SIGTERM or SIGINT, or at once if they cannot be listened for.
async fn stopped() {
    let signal = tokio::signal::unix::signal;
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
