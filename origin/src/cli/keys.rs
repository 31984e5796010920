//! `portcullis keys`: the signing keys. Origins that run notice a change within a heartbeat.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Subcommand;

use super::{ConfigFile, print, runtime};
use crate::{
    config::secrets::load_master_key,
    keys::{Keys, KeysView},
    server, shell,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the public keys as JSON, `{"version", "feed_key", "keys", "jwks"}`; makes the keys if there are none yet.
    Show(ConfigFile),
    /// Let the token key that stands by sign, once it was published for `tokens.key_lead_s`. No valid token is refused.
    Rotate(ConfigFile),
    /// Refuse every token of a key that others may know, from now on and everywhere; another key signs.
    Revoke {
        /// The name of the key, as `show` prints it.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Seal the keys under PORTCULLIS_MASTER_KEY if PORTCULLIS_MASTER_KEY_SECOND opens them; every start does this too.
    Rewrap(ConfigFile),
    /// Make the next feed key. Pin it beside the present one at every gate and hub, then `feed-switch`.
    FeedPrepare(ConfigFile),
    /// Sign the feed with the next feed key. Afterwards pin that one alone.
    FeedSwitch(ConfigFile),
}

pub(super) fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Show(file) | Command::Rewrap(file) => with_keys(file, async |_| Ok(())),
        Command::Rotate(file) => {
            with_keys(file, async |keys| keys.rotate(shell::now()).await.map(drop).map_err(Into::into))
        }
        Command::Revoke { kid, file } => with_keys(file, async |keys| Ok(keys.revoke(kid, shell::now()).await?)),
        Command::FeedPrepare(file) => {
            with_keys(file, async |keys| keys.prepare_feed_key(shell::now()).await.map(drop).map_err(Into::into))
        }
        Command::FeedSwitch(file) => {
            with_keys(file, async |keys| keys.switch_feed_key(shell::now()).await.map(drop).map_err(Into::into))
        }
    }
}

/// Opens the keys, changes them, prints them.
fn with_keys(file: &ConfigFile, change: impl AsyncFn(&Keys) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let config = file.load()?;
    let master_key = load_master_key(&config.secrets)?;
    let keys: Arc<Keys> = runtime()?.block_on(async {
        let store = server::open_store(&config).await?;
        let keys = server::open_keys(&store, &config, &master_key).await?;
        change(&keys).await?;
        anyhow::Ok(keys)
    })?;
    let ring = keys.current();
    let mut shown = serde_json::to_value(KeysView::new(&ring, keys.policy(), shell::now(), |_| false))?;
    shown
        .as_object_mut()
        .context("the keys are no object")?
        .insert("jwks".to_owned(), serde_json::to_value(ring.jwks())?);
    print(&format!("{shown}\n"))
}
