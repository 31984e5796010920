//! A disk of a few megabytes, in memory.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// Its size, and pieces in which it is filled.
const SIZE: &str = "size=8m";
const PIECE_BYTES: usize = 64 * 1024;

pub(super) struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts one; none without the right to.
    pub(super) fn mount() -> anyhow::Result<Option<Self>> {
        let directory = tempfile::tempdir()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(directory.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        Ok(mounted.then_some(Self(directory)))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it to the last byte.
    pub(super) fn fill(&self) -> anyhow::Result<()> {
        for bytes in [PIECE_BYTES, 1] {
            for number in 0.. {
                let file = self.path().join(format!("filler-{bytes}-{number}"));
                if fs::write(file, vec![0; bytes]).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes away what filled it.
    pub(super) fn free(&self) -> anyhow::Result<()> {
        for file in fs::read_dir(self.path())? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with("filler-") {
                fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whatever still has a file open there is killed by its own drop.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
