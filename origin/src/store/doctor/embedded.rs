//! Judges the file of the embedded store, and the file system that it is on.

use super::{Finding, mebibytes, percent};

/// Space that is left at which somebody should look, and at which commits are about to fail: a share of the file system
/// and, on a large one, an amount.
const FREE_WARN_PERCENT: u64 = 10;
const FREE_WARN_BYTES: u64 = 10 << 30;
const FREE_BAD_BYTES: u64 = 256 << 20;

/// What is known of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// What SQLite says; none if there is no file yet.
    pub(crate) file: Option<FileReading>,
    /// Bytes that are free to an ordinary user on the file system.
    pub(crate) free_bytes: u64,
    /// Bytes of the file system.
    pub(crate) total_bytes: u64,
}

/// What SQLite says of a file.
#[derive(Debug, Clone)]
pub(crate) struct FileReading {
    /// `PRAGMA journal_mode`.
    pub(crate) journal_mode: String,
    /// `PRAGMA synchronous`, as the origin opens the file.
    pub(crate) synchronous: i64,
    /// Whether a process has it open.
    pub(crate) is_locked: bool,
    /// What `PRAGMA integrity_check` says first.
    pub(crate) integrity: String,
    /// Bytes of the file.
    pub(crate) bytes: u64,
}

impl Reading {
    /// Everything there is to say.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        match &self.file {
            Some(file) => findings.extend(file.findings()),
            None => findings.push(Finding::healthy("file", "none yet; it is made at the first start")),
        }
        findings.push(self.space());
        findings
    }

    fn space(&self) -> Finding {
        let share = percent(self.free_bytes, self.total_bytes);
        let found = format!("{} free, {share} %", mebibytes(self.free_bytes));
        let wanted = "at least 10 %, or 10 GiB; without space, commits fail";
        if self.free_bytes < FREE_BAD_BYTES {
            return Finding::bad("space", found, wanted);
        }
        if self.free_bytes < FREE_WARN_BYTES && share < FREE_WARN_PERCENT {
            return Finding::warn("space", found, wanted);
        }
        Finding::healthy("space", found)
    }
}

impl FileReading {
    /// Whether a commit that was answered outlives a power cut.
    pub(crate) fn durability(&self) -> [Finding; 2] {
        [self.journal(), self.synchronous()]
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![Finding::healthy("file", mebibytes(self.bytes))];
        findings.extend(self.durability());
        let lock = if self.is_locked { "held by a process, as while an origin runs" } else { "free" };
        findings.push(Finding::healthy("lock", lock));
        findings.push(match self.integrity.as_str() {
            "ok" => Finding::healthy("integrity", "ok"),
            broken => Finding::bad("integrity", broken, "ok; put back a copy of the file"),
        });
        findings
    }

    fn journal(&self) -> Finding {
        match self.journal_mode.as_str() {
            "wal" => Finding::healthy("journal_mode", "wal"),
            other => Finding::bad("journal_mode", other, "wal, which this file system may not support"),
        }
    }

    fn synchronous(&self) -> Finding {
        match self.synchronous {
            2 | 3 => Finding::healthy("synchronous", "full"),
            other => Finding::bad("synchronous", other.to_string(), "2, full"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::doctor::{Report, Status};

    fn reading() -> Reading {
        let file = FileReading {
            journal_mode: "wal".to_owned(),
            synchronous: 2,
            is_locked: true,
            integrity: "ok".to_owned(),
            bytes: 5 << 20,
        };
        Reading { file: Some(file), free_bytes: 50 << 30, total_bytes: 100 << 30 }
    }

    fn with_file(change: impl Fn(&mut FileReading)) -> Reading {
        let mut reading = reading();
        reading.file.as_mut().map(change);
        reading
    }

    /// I2: what a file says, and what it means.
    #[test]
    fn every_state_of_a_file_has_its_status() {
        let cases = [
            (reading(), Status::Healthy, ""),
            (Reading { file: None, ..reading() }, Status::Healthy, ""),
            (with_file(|file| file.is_locked = false), Status::Healthy, ""),
            (with_file(|file| file.journal_mode = "delete".to_owned()), Status::Bad, "journal_mode"),
            (with_file(|file| file.synchronous = 1), Status::Bad, "synchronous"),
            (with_file(|file| file.integrity = "row 3 missing".to_owned()), Status::Bad, "integrity"),
            (Reading { free_bytes: 5 << 30, ..reading() }, Status::Warn, "space"),
            (Reading { free_bytes: 11 << 30, total_bytes: 10 << 40, ..reading() }, Status::Healthy, ""),
            (Reading { free_bytes: 1 << 20, ..reading() }, Status::Bad, "space"),
        ];
        for (reading, status, check) in cases {
            let report = Report::new(reading.findings(), &[]);
            assert_eq!(report.status, status, "{report:?}");
            let worst: Vec<_> = report.findings.iter().filter(|finding| finding.status != Status::Healthy).collect();
            assert!(worst.iter().all(|finding| finding.check == check && !finding.wanted.is_empty()), "{worst:?}");
        }
    }
}
