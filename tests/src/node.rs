//! Scripts of npm packages that tests are driven by.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::root;

/// Runs a script of the folder `tests` with Node, with these arguments and this input; what it said, in lines.
///
/// # Errors
///
/// Node is not installed, or something is not as the script says.
pub async fn in_node(script: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut node = Command::new(root().join("node_modules/.bin/node"));
    node.arg(root().join("tests").join(script)).args(arguments).kill_on_drop(true);
    node.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = node.spawn().context("cannot start node; run cargo xtask setup")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A script that ended already reads nothing; why it ended is told below.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{script} ended with {}\n{said}{why}", output.status);
    Ok(said.into_owned())
}
