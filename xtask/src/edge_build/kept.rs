//! The build that is there already: whether it is as new as what it is made of, and copies of it.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    time::SystemTime,
};

use anyhow::Context as _;

use super::{EdgeBuild, build, default_out_dir};
use crate::command::{root, spinner};

/// Beside a build that is complete, and has the policy of the crate; its time is that at which the build began.
const STAMP: &str = ".built";

/// What the edge is made of, from the root of the repository.
const MADE_OF: [&str; 6] =
    ["edge", "shared", "xtask/src/edge_build.rs", "Cargo.toml", "Cargo.lock", "package-lock.json"];

/// Builds the edge into the default folder with the policy of the crate, unless nothing that it is made of has changed.
///
/// # Errors
///
/// As [`build`].
pub(crate) fn build_if_changed() -> anyhow::Result<()> {
    let out_dir = default_out_dir();
    if is_new(&out_dir) {
        return Ok(());
    }
    let bytes = build(&EdgeBuild { policy: None, out_dir: out_dir.clone() })?;
    println!("{}: the module has {bytes} bytes gzipped", out_dir.display());
    Ok(())
}

fn is_new(out_dir: &Path) -> bool {
    let built = fs::metadata(out_dir.join(STAMP)).and_then(|stamp| stamp.modified());
    built.is_ok_and(|built| MADE_OF.iter().all(|part| changed(&root().join(part)).is_ok_and(|at| at < built)))
}

/// Says that the build in a folder is not complete.
pub(super) fn unstamp(out_dir: &Path) -> anyhow::Result<()> {
    match fs::remove_file(out_dir.join(STAMP)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context("cannot change the build of the edge")
        }
        _ => Ok(()),
    }
}

/// Says that the build in a folder is complete, of what there was at this time.
pub(super) fn stamp(out_dir: &Path, began: SystemTime) -> anyhow::Result<()> {
    let stamp = out_dir.join(STAMP);
    let stamped = File::create(&stamp).and_then(|stamp| stamp.set_modified(began));
    stamped.with_context(|| format!("cannot write {}", stamp.display()))
}

/// Copies the build in the default folder into another one, which it makes.
///
/// # Errors
///
/// A file cannot be read or written.
pub(crate) fn copy_to(directory: &Path) -> anyhow::Result<()> {
    let copy = || -> io::Result<()> {
        fs::create_dir_all(directory)?;
        for entry in fs::read_dir(default_out_dir())? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), directory.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    copy().with_context(|| format!("cannot copy the build of the edge to {}", directory.display()))
}

/// One build at a time, until the file is dropped.
pub(super) fn alone() -> anyhow::Result<File> {
    let path = root().join("build/edge.lock");
    let made = fs::create_dir_all(root().join("build")).and_then(|()| File::create(&path));
    let file = made.with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let waiting = spinner("waiting for another build of the edge");
            file.lock()?;
            waiting.finish_and_clear();
        }
        locked => locked?,
    }
    Ok(file)
}

/// When a file, or anything in a folder, last changed.
fn changed(path: &Path) -> io::Result<SystemTime> {
    let metadata = fs::metadata(path)?;
    let mut latest = metadata.modified()?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            latest = latest.max(changed(&entry?.path())?);
        }
    }
    Ok(latest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_change_deep_down_counts() {
        let directory = std::env::temp_dir().join(format!("xtask-changed-{}", std::process::id()));
        fs::create_dir_all(directory.join("a/b")).unwrap();
        let file = File::create(directory.join("a/b/c")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(3_600);
        assert!(changed(&directory).unwrap() < later);
        file.set_modified(later).unwrap();
        assert_eq!(changed(&directory).unwrap(), later);
        fs::remove_dir_all(directory).unwrap();
        assert!(changed(Path::new("/there/is/nothing")).is_err());
    }
}
