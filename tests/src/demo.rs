//! The demonstration application in this process, and Chromium to open its page with.

use std::{
    env,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
};

use ::demo::{Origin, guarded, router};
use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

use crate::{ASSERTION_KEY, TestOrigin, eventually, in_node};

/// The application, which signs people in at an origin of the test; it ends when it is dropped, with all its connections.
pub struct TestDemo {
    address: SocketAddr,
    /// Its own, so that nothing of it outlives it.
    runtime: Option<Runtime>,
}

impl TestDemo {
    /// Starts it on a free port.
    ///
    /// # Errors
    ///
    /// No port.
    pub async fn start(origin: &TestOrigin) -> anyhow::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), origin).await
    }

    /// As [`Self::start`], at this address.
    ///
    /// # Errors
    ///
    /// The address is taken for long.
    pub async fn start_at(address: SocketAddr, origin: &TestOrigin) -> anyhow::Result<Self> {
        let guard = guarded(&origin.base().parse()?, origin.issuer(), origin.feed_key(), ASSERTION_KEY)?;
        guard.ready().await;
        // Connections of before may still be ending there.
        let listener = eventually("the address", async || TcpListener::bind(address).ok()).await?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let router = router(Origin::new(origin.base().parse()?, origin.management_key().into())?, &guard, address)?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.spawn(async move {
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                let _ = axum::serve(listener, router).await;
            }
        });
        Ok(Self { address, runtime: Some(runtime) })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for TestDemo {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Has Chromium use the page at this address by a script of `tests/browser`; what it saw, in lines.
///
/// # Errors
///
/// Chromium is not installed, or something on the page is not as the script says.
pub async fn in_chromium(script: &str, page: &str) -> anyhow::Result<String> {
    let chromium = chromium()?.display().to_string();
    in_node(&format!("browser/{script}"), &[&chromium, page], "").await
}

fn chromium() -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|directory| directory.join("chromium")).find(|program| program.is_file());
    found.context("there is no chromium in PATH; run cargo xtask setup")
}
