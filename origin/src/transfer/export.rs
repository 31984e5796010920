//! Writes everything of a store into a file.

use std::{
    fs::{File, OpenOptions},
    io::BufWriter,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::{Counts, file::Writer};
use crate::{
    config::secrets::MasterKey,
    keys::{SealError, TransferKeys},
    shell,
    store::{AnyStore, Place, StoreError},
};

/// Why nothing was exported; no file is left behind.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file was not written; it may be there already.
    #[error("the file cannot be written: {0}")]
    File(#[from] std::io::Error),
    /// The cryptography library failed.
    #[error(transparent)]
    Library(#[from] SealError),
    /// An origin is at work on the store.
    #[error("the store was written to meanwhile: stop every origin first")]
    InUse,
    /// The store holds nothing.
    #[error("the store is empty")]
    Empty,
}

/// Writes a new file that only its owner may read. Nothing else may write to the store meanwhile: the embedded one sees to
/// that by itself; of others it is noticed only if the log grew.
///
/// # Errors
///
/// [`ExportError`].
pub async fn export(store: &AnyStore, path: &Path, master: &MasterKey) -> Result<Counts, ExportError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path)?;
    let written = write(store, file, master).await;
    if written.is_err() {
        std::fs::remove_file(path)?;
    }
    written
}

async fn write(store: &AnyStore, file: File, master: &MasterKey) -> Result<Counts, ExportError> {
    let keys = TransferKeys::new(master)?;
    let before = store.snapshot().await?;
    let mut writer = Writer::begin(BufWriter::new(file), keys, before.epoch, shell::now())?;
    for floor in &before.floors {
        writer.floor(floor)?;
    }
    let mut from = Some(Place::default());
    while let Some(place) = from {
        let scanned = store.scan(place).await?;
        for kept in &scanned.kept {
            writer.kept(kept)?;
        }
        from = scanned.next;
    }
    let after = store.read_log(before.head, 1).await?;
    if (after.epoch, after.head) != (before.epoch, before.head) {
        return Err(ExportError::InUse);
    }
    let (file, counts) = writer.end()?;
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    if counts == Counts::default() { Err(ExportError::Empty) } else { Ok(counts) }
}
