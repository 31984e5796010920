//! `portcullis policy`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::{api::Arguments, print};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the route policy that gates get with the feed; nothing where each judges by the one that it was built with.
    Show,
    /// Have every gate judge by this policy, as soon as it hears of it.
    Set {
        /// The policy (TOML).
        file: PathBuf,
    },
    /// Have every gate judge by the policy again that it was built with.
    Withdraw,
}

pub(super) fn run(arguments: &Arguments<Command>) -> anyhow::Result<()> {
    let Arguments { api, command } = arguments;
    match command {
        Command::Show => {
            let answer = api.get(&["v1", "policy"])?;
            match answer["policy"].as_str() {
                _ if api.is_json() => api.show(&answer),
                text => print(text.unwrap_or_default()),
            }
        }
        Command::Set { file } => {
            let policy = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let answer = api.call(Method::PUT, &["v1", "policy"], Some(&json!({ "policy": policy })))?;
            api.show(&json!({ "version": answer["version"] }))
        }
        Command::Withdraw => api.act(Method::POST, &["v1", "policy", "withdraw"], &json!({})),
    }
}
