//! `portcullis config`: the documented configuration, or the check of one.

use anyhow::Context as _;

use super::{ConfigFile, print};
use crate::{config::document, store::AnyStore};

pub(super) fn run(file: &ConfigFile) -> anyhow::Result<()> {
    let Some(path) = &file.config else { return print(&document()) };
    let config = file.load()?;
    AnyStore::check(&config.store).with_context(|| format!("{}: store.url is {}", path.display(), config.store.url))?;
    print(&format!("{}: every setting is known and within its limits\n", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_no_store_can_have_is_refused_without_its_password() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("p.toml");
        let checked = |url: &str| {
            std::fs::write(&config, format!("[store]\nurl = {url:?}\n")).unwrap();
            run(&ConfigFile { config: Some(config.clone()) })
        };
        for url in
            ["embedded:", "redis://:secret@host:port", "redis+sentinel://:secret@host:1", "http://:secret@host", "x"]
        {
            let refused = format!("{:#}", checked(url).unwrap_err());
            assert!(refused.contains("store.url") && !refused.contains("secret"), "{refused}");
        }
        for url in ["embedded:p.db", "redis://:secret@host:6379/1", "redis+sentinel://host:1,other:1/name"] {
            checked(url).unwrap();
        }
    }
}
