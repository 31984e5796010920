//! The demonstration application in this process, and Chromium to open its page with.

use std::{env, net::SocketAddr, path::PathBuf};

use ::demo::{Origin, guarded, router};
use anyhow::Context as _;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{ASSERTION_KEY, TestOrigin, in_node};

/// The application, which signs people in at an origin of the test; it ends when it is dropped.
pub struct TestDemo {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl TestDemo {
    /// Starts it on a free port.
    ///
    /// # Errors
    ///
    /// No port.
    pub async fn start(origin: &TestOrigin) -> anyhow::Result<Self> {
        let guard = guarded(&origin.base().parse()?, origin.issuer(), origin.feed_key(), ASSERTION_KEY)?;
        guard.ready().await;
        let router = router(Origin::new(origin.base().parse()?, origin.management_key().into())?, &guard);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, serving })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for TestDemo {
    fn drop(&mut self) {
        self.serving.abort();
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
