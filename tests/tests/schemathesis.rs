//! The API against its own document: Schemathesis makes calls that the document allows and calls that it forbids, follows
//! its links, and checks every answer against it.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use origin::config::Unregistered;
use portcullis_tests::{MANAGEMENT_KEY, TestOrigin, root};
use tokio::process::Command;

/// Some three times what a run takes on a machine with two cores.
const DEADLINE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_what_its_document_says_by_schemathesis() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start_with(directory.path(), |config| {
        // The clients of the document's examples and any other.
        config.tokens.unregistered_clients = Unregistered::Public;
        let limits = &mut config.limits;
        limits.client_requests_per_minute = 1_000_000;
        limits.address_requests_per_minute = 1_000_000;
        limits.address_failures_per_minute = 1_000_000;
    });
    let origin = origin.await?;
    let mut run = Command::new(program()?);
    run.args(["--config-file", "schemathesis.toml", "run", "--checks", "all", "--no-color"]);
    run.arg(format!("{}/openapi.json", origin.base())).current_dir(root().join("tests/schemathesis"));
    run.env("PORTCULLIS_MANAGEMENT_KEY", MANAGEMENT_KEY).env("PYTHONDONTWRITEBYTECODE", "1");
    run.env("HYPOTHESIS_STORAGE_DIRECTORY", directory.path().join("hypothesis"));
    run.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, run.output()).await.context("Schemathesis takes too long")?;
    let output = output.context("cannot start Schemathesis; run cargo xtask setup")?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    origin.stop().await;
    Ok(())
}

/// Where `cargo xtask setup` puts it: the requirements name the version.
fn program() -> anyhow::Result<PathBuf> {
    let requirements = std::fs::read_to_string(root().join("tests/schemathesis/requirements.txt"))?;
    let package = requirements.lines().find(|line| line.starts_with("schemathesis==")).context("no schemathesis")?;
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) if !cache.is_empty() => PathBuf::from(cache),
        _ => std::env::home_dir().context("there is no home directory")?.join(".cache"),
    };
    Ok(cache.join("portcullis").join(package.replace("==", "-")).join("bin/schemathesis"))
}
