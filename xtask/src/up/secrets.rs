//! The secrets of a run on this machine: random, made once, readable by this user only.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::Context as _;

/// The files within the folder of a run.
pub(super) const MASTER_KEY_FILE: &str = "master.key";
pub(super) const MANAGEMENT_KEY_FILE: &str = "management.key";
pub(super) const ASSERTION_KEY_FILE: &str = "assertion.key";

/// Makes a folder that nobody else may enter.
pub(super) fn private_directory(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

/// Makes the secrets that are missing.
pub(super) fn make(directory: &Path) -> anyhow::Result<()> {
    for name in [MASTER_KEY_FILE, MANAGEMENT_KEY_FILE, ASSERTION_KEY_FILE] {
        let path = directory.join(name);
        make_one(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

fn make_one(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    write(path, &bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Writes a line that nobody else may read. Written aside and renamed: a run that was interrupted leaves no half of a key.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let aside = path.with_extension("new");
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    Ok(fs::rename(aside, path)?)
}
