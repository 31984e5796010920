//! Writes everything of a file into a store.

use std::{fs::File, io::BufReader, path::Path};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use shared::{feed::Epoch, revocation::Floor, time::Timestamp};

use super::{
    Counts,
    file::{FileError, Part, Reader},
};
use crate::{
    config::secrets::MasterKey,
    keys::{SealError, TransferKeys},
    shell,
    store::{AnyStore, Kept, Key, Place, StoreError, Swapped},
};

/// Floors per call.
const FLOORS_AT_ONCE: usize = 1_024;

/// Parts in memory, and writes at the same time; the embedded store puts these into one commit.
const PARTS_AT_ONCE: usize = 1_024;
const WRITES_AT_ONCE: usize = 64;

/// How often a record is tried again when another writer comes first.
const ATTEMPTS: u32 = 4;

/// What becomes of what the store holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The store must be empty, but for an import of the same file that was cut off.
    Refused,
    /// What both hold is as in the file afterwards; what only the store holds stays. Floors are joined.
    Replaced,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file is not what was exported; nothing was written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file cannot be opened; nothing was written.
    #[error("it cannot be opened: {0}")]
    Open(std::io::Error),
    /// The cryptography library failed; nothing was written.
    #[error(transparent)]
    Library(#[from] SealError),
    /// The store holds something; nothing was written.
    #[error("the store is not empty: import into an empty one, or with --replace let the file win over what it holds")]
    NotEmpty,
    /// The store failed; the same import may be repeated.
    #[error("{0}; repeat the import to go on")]
    Store(#[from] StoreError),
    /// Somebody else writes to the store.
    #[error("the store is being written to: stop every origin, then repeat the import")]
    InUse,
}

/// A file that was read to its end and found whole and authentic.
#[derive(Debug)]
pub struct Whole<'a> {
    path: &'a Path,
    master: &'a MasterKey,
    mark: [u8; 16],
    epoch: Epoch,
}

impl<'a> Whole<'a> {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`ImportError`].
    pub fn read(path: &'a Path, master: &'a MasterKey) -> Result<Self, ImportError> {
        let mut file = open(path, master)?;
        while file.next()?.is_some() {}
        Ok(Self { path, master, mark: file.digest().unwrap_or_default(), epoch: file.epoch() })
    }

    /// Writes it into the store.
    ///
    /// # Errors
    ///
    /// [`ImportError`].
    pub async fn import(&self, store: &AnyStore, taken: Taken) -> Result<Counts, ImportError> {
        let held = store.load(&Key::Import).await?;
        if taken == Taken::Refused && held.as_deref() != Some(&self.mark) && !is_empty(store).await? {
            return Err(ImportError::NotEmpty);
        }
        put(store, &Key::Import, &self.mark, None).await?;
        store.renew(self.epoch).await?;
        let counts = write(store, open(self.path, self.master)?).await?;
        // A time that is over takes the mark away.
        put(store, &Key::Import, &self.mark, Some(shell::now())).await?;
        Ok(counts)
    }
}

/// Reads the whole file, then writes it into the store.
///
/// # Errors
///
/// [`ImportError`].
pub async fn import(store: &AnyStore, path: &Path, master: &MasterKey, taken: Taken) -> Result<Counts, ImportError> {
    Whole::read(path, master)?.import(store, taken).await
}

/// Whether everything is there: an import that was cut off left a part of it.
///
/// # Errors
///
/// [`StoreError::Unsuitable`] if not; the store.
pub async fn check_not_importing(store: &AnyStore) -> Result<(), StoreError> {
    match store.load(&Key::Import).await? {
        None => Ok(()),
        Some(_) => Err(StoreError::Unsuitable(
            "an import into it was not finished: repeat `portcullis store import`".to_owned(),
        )),
    }
}

fn open(path: &Path, master: &MasterKey) -> Result<Reader<BufReader<File>>, ImportError> {
    let file = File::open(path).map_err(ImportError::Open)?;
    Ok(Reader::begin(BufReader::new(file), TransferKeys::new(master)?)?)
}

async fn is_empty(store: &AnyStore) -> Result<bool, StoreError> {
    if store.snapshot().await?.head.0 > 0 {
        return Ok(false);
    }
    let mut from = Some(Place::default());
    while let Some(place) = from {
        let scanned = store.scan(place).await?;
        if !scanned.kept.is_empty() {
            return Ok(false);
        }
        from = scanned.next;
    }
    Ok(true)
}

async fn write(store: &AnyStore, mut file: Reader<BufReader<File>>) -> Result<Counts, ImportError> {
    let (mut floors, mut kept) = (Vec::new(), Vec::new());
    while let Some(part) = file.next()? {
        match part {
            Part::Floor(floor) => floors.push(floor),
            Part::Kept(part) => kept.push(part),
        }
        if floors.len() == FLOORS_AT_ONCE {
            append(store, &mut floors).await?;
        }
        if kept.len() == PARTS_AT_ONCE {
            // No record stands before the floors that it may be under.
            append(store, &mut floors).await?;
            put_all(store, &mut kept).await?;
        }
    }
    append(store, &mut floors).await?;
    put_all(store, &mut kept).await?;
    Ok(file.counts())
}

async fn append(store: &AnyStore, floors: &mut Vec<Floor>) -> Result<(), ImportError> {
    if !floors.is_empty() {
        store.append(floors).await?;
        floors.clear();
    }
    Ok(())
}

async fn put_all(store: &AnyStore, kept: &mut Vec<Kept>) -> Result<(), ImportError> {
    let now = shell::now();
    let writes = stream::iter(kept.drain(..)).map(|kept| async move {
        match kept {
            Kept::Record { expires_at: Some(end), .. } | Kept::Indexed { expires_at: end, .. }
                if now.has_reached(end) =>
            {
                Ok(())
            }
            Kept::Record { key, value, expires_at } => put(store, &key, &value, expires_at).await,
            Kept::Indexed { subject, session, expires_at } => {
                Ok(store.index_add(&subject, &session, expires_at).await?)
            }
        }
    });
    writes.buffer_unordered(WRITES_AT_ONCE).try_collect().await
}

/// Puts a value under a key, whatever was there.
async fn put(store: &AnyStore, key: &Key, value: &[u8], expires_at: Option<Timestamp>) -> Result<(), ImportError> {
    let mut held: Option<Vec<u8>> = None;
    let mut failed = ImportError::InUse;
    for _ in 0..ATTEMPTS {
        match store.swap(key, held.as_deref(), value, expires_at).await {
            Ok(Swapped::Done) => return Ok(()),
            Ok(Swapped::Conflict) => failed = ImportError::InUse,
            Err(error) if error.may_have_happened() => failed = error.into(),
            Err(error) => return Err(error.into()),
        }
        held = store.load(key).await?;
    }
    Err(failed)
}
