//! Asks the file and its file system; `doctor` judges it.

use std::{path::Path, time::Duration};

use nix::sys::{
    resource::{UsageWho, getrusage},
    statvfs::statvfs,
    time::TimeVal,
};
use rusqlite::{Connection, OpenFlags};

use super::{StoreError, connect, is_locked, unusable};
use crate::store::doctor::{
    Report, Status,
    embedded::{FileReading, Reading},
};

/// Refuses a file whose commits may not outlive a power cut.
pub(super) fn check_durability(connection: &Connection) -> Result<(), StoreError> {
    let reading = read_settings(connection).map_err(unusable)?;
    match reading.durability().into_iter().find(|finding| finding.status == Status::Bad) {
        Some(finding) => {
            let (check, found, wanted) = (finding.check, finding.found, finding.wanted);
            Err(StoreError::Unsuitable(format!("its {check} is {found}, but must be {wanted}")))
        }
        None => Ok(()),
    }
}

/// What there is to say of the file at `path`, beside a running origin too.
///
/// # Errors
///
/// File or file system cannot be read.
pub(in crate::store) fn examine(path: &Path, timeout: Duration) -> Result<Report, StoreError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let space = statvfs(directory)
        .map_err(|error| StoreError::Unsuitable(format!("its file system cannot be asked: {}", error.desc())))?;
    let mut reading = Reading {
        file: None,
        free_bytes: space.blocks_available().saturating_mul(space.fragment_size()),
        total_bytes: space.blocks().saturating_mul(space.fragment_size()),
    };
    if let Ok(found) = path.metadata() {
        let connection = connect(path, timeout, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let settings = read_settings(&connection).map_err(unusable)?;
        let integrity = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(unusable)?;
        let is_locked = is_locked(path)?;
        reading.file = Some(FileReading { is_locked, integrity, bytes: found.len(), ..settings });
    }
    Ok(Report::new(reading.findings(), &[]))
}

/// Of this process, as the store is part of it.
pub(super) fn processor_time() -> Option<Duration> {
    let used = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let time = |value: TimeVal| {
        let (seconds, micros) = (u64::try_from(value.tv_sec()).ok()?, u64::try_from(value.tv_usec()).ok()?);
        Some(Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros)))
    };
    Some(time(used.user_time())?.saturating_add(time(used.system_time())?))
}

fn read_settings(connection: &Connection) -> rusqlite::Result<FileReading> {
    Ok(FileReading {
        journal_mode: connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?,
        synchronous: connection.query_row("PRAGMA synchronous", [], |row| row.get(0))?,
        is_locked: false,
        integrity: String::new(),
        bytes: 0,
    })
}
