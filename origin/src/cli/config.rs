//! `portcullis config`: the documented configuration, or the check of one.

use super::{ConfigFile, print};
use crate::config::document;

pub(super) fn run(file: &ConfigFile) -> anyhow::Result<()> {
    let Some(path) = &file.config else { return print(&document()) };
    file.load()?;
    print(&format!("{}: every setting is known and within its limits\n", path.display()))
}
