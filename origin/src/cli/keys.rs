//! `portcullis keys`: the signing keys.

use clap::Subcommand;

use super::{ConfigFile, print, runtime};
use crate::{config::secrets::load_master_key, server};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the public keys as JSON, `{"feed_key", "jwks"}`; makes the keys if there are none yet.
    Show(ConfigFile),
}

pub(super) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Show(file) => show(file),
    }
}

fn show(file: &ConfigFile) -> anyhow::Result<()> {
    let config = file.load()?;
    let master_key = load_master_key(&config.secrets)?;
    let keys = runtime()?.block_on(async {
        let store = server::open_store(&config).await?;
        server::open_keys(&store, &config, &master_key).await
    })?;
    let shown = serde_json::json!({ "feed_key": keys.feed().public_text(), "jwks": keys.jwks() });
    print(&format!("{shown}\n"))
}
