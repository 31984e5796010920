//! One run at a time in a folder: two would take each other's secrets and data for their own.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};

/// Held by a run until its end, also if it is killed: the system lets go of it.
pub(super) struct Lock(File);

impl Lock {
    /// Takes the folder.
    ///
    /// # Errors
    ///
    /// Another run has it.
    pub(super) fn take(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                Ok(Self(file))
            }
            Err(TryLockError::WouldBlock) => {
                let mut page = String::new();
                file.read_to_string(&mut page)?;
                let page = if page.is_empty() { "it is starting".to_owned() } else { format!("its page is {page}") };
                bail!(
                    "another `cargo xtask up` runs with the data in {} ({page}); stop it with Ctrl-C there, or let this \
                     one keep its own with --data DIR",
                    directory.display()
                );
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// Lets others know which page this run serves.
    pub(super) fn tell(&mut self, page: &str) -> anyhow::Result<()> {
        self.0.rewind()?;
        Ok(self.0.write_all(page.as_bytes())?)
    }
}
