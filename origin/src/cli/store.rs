//! `portcullis store`: everything that a store holds, into a file and from there into another store.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Subcommand;

use super::{ConfigFile, print, runtime};
use crate::{
    config::{Config, secrets::load_master_key},
    server,
    store::AnyStore,
    transfer::{self, Counts, Taken, Whole},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write everything of the store that the configuration names into a new file. Stop every origin first.
    ///
    /// The file is for the owner's eyes only: signing keys are sealed in it, sessions and the audit trail are not.
    Export {
        /// The file; it must not be there yet.
        file: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Write everything of such a file into the store that the configuration names. Start the origins afterwards, with the
    /// master key of before; no session ends. One that was cut off is finished by repeating it.
    Import {
        /// The file.
        file: PathBuf,
        /// Into a store that is not empty: what both hold is as in the file afterwards; what only the store holds stays.
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
}

pub(super) fn run(command: &Command) -> anyhow::Result<()> {
    let counts = match command {
        Command::Export { file, config } => export(file, &config.load()?),
        Command::Import { file, replace, config } => {
            import(file, &config.load()?, if *replace { Taken::Replaced } else { Taken::Refused })
        }
    }?;
    print(&format!("{}\n", serde_json::to_string(&counts)?))
}

fn export(file: &Path, config: &Config) -> anyhow::Result<Counts> {
    let master_key = load_master_key(&config.secrets)?;
    if let Some(path) = config.store.url.expose().strip_prefix("embedded:") {
        ensure!(Path::new(path).exists(), "cannot export: there is no store {path}");
    }
    let counts = runtime()?.block_on(async {
        let store = server::open_store(config).await?;
        anyhow::Ok(transfer::export(&store, file, &master_key).await?)
    });
    counts.with_context(|| format!("nothing was exported to {}", file.display()))
}

fn import(file: &Path, config: &Config, taken: Taken) -> anyhow::Result<Counts> {
    let master_key = load_master_key(&config.secrets)?;
    let counts = runtime()?.block_on(async {
        // Opening an embedded store makes one.
        let whole = Whole::read(file, &master_key)?;
        let store = AnyStore::open(&config.store).await;
        let store = store.with_context(|| format!("cannot open the store {}", config.store.url))?;
        anyhow::Ok(whole.import(&store, taken).await?)
    });
    counts.with_context(|| format!("cannot import {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_refused_leaves_no_store_behind() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        std::fs::write(place("damaged"), "no export\n").unwrap();
        let key = place("key");
        std::fs::write(&key, "07".repeat(32)).unwrap();
        let mut config = Config::default();
        config.store.url = format!("embedded:{}", place("new.db").display()).into();
        config.secrets.master_key_file = Some(key);
        for (name, why) in [("damaged", "it is no export of a store"), ("not there", "it cannot be opened")] {
            let refused = import(&place(name), &config, Taken::Refused).unwrap_err();
            assert!(format!("{refused:#}").contains(why), "{refused:#}");
        }
        let mut left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["damaged", "key"]);
    }
}
