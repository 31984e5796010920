//! The application as a program.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use portcullis_demo::{Origin, guarded, router};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{net::TcpListener, signal::unix::SignalKind};
use url::Url;

/// A small application behind the gate of Portcullis. It listens on this machine only.
#[derive(Parser)]
#[command(name = "portcullis-demo", version)]
struct Arguments {
    /// Port to listen on; the gate's upstream.
    #[arg(long, default_value_t = 8790)]
    port: u16,
    /// The origin.
    #[arg(long, default_value = "http://127.0.0.1:8780")]
    origin: Url,
    /// The origin's public feed key.
    #[arg(long, allow_hyphen_values = true)]
    feed_key: String,
    /// By which the gate's word is known, 64 hexadecimal digits.
    #[arg(long, env = "PORTCULLIS_ASSERTION_KEY", hide_env_values = true)]
    assertion_key: SecretString,
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
    let Arguments { port, origin, feed_key, assertion_key, management_key } = arguments;
    // An origin on this machine is its own issuer.
    let issuer = origin.as_str().trim_end_matches('/');
    let guard = guarded(&origin, issuer, &feed_key, assertion_key.expose_secret())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await;
    let listener = listener.with_context(|| format!("cannot listen on port {port}"))?;
    let address = listener.local_addr()?;
    let router = router(Origin::new(origin, management_key)?, &guard, address)?;
    println!("listening on {address}");
    // Nothing is kept here, so nothing has to be finished.
    tokio::select! {
        ended = axum::serve(listener, router) => ended?,
        () = stopped() => {}
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One key of 64 begins so: base64url has hyphens.
    #[test]
    fn a_feed_key_may_begin_with_a_hyphen() {
        let arguments = |key| ["portcullis-demo", "--feed-key", key, "--assertion-key", "a", "--management-key", "m"];
        for key in ["-eypwsLHYSrrNEEZTlQ2kZ0_Y0n5vZp0WQVb4wFAaKU", "--", "eypwsLHYSrrNEEZTlQ2kZ0_Y0n5vZp0WQVb4wFAaKU"] {
            let parsed = Arguments::try_parse_from(arguments(key)).map(|arguments| arguments.feed_key);
            assert_eq!(parsed.ok().as_deref(), Some(key));
        }
        assert!(
            Arguments::try_parse_from(arguments("k").into_iter().chain(["-x"])).is_err(),
            "no option is hidden by it"
        );
    }
}
