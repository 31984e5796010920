use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use shared::{
    id::{SessionId, SubjectId},
    revocation::Floor,
};

use super::*;
use crate::{
    config::secrets::MasterKey,
    shell,
    store::{
        AnyStore, Kept, Key, Place, StoreError,
        contract::floor,
        faulty::{Fault, FaultyStore},
    },
};

fn master() -> MasterKey {
    MasterKey::new([7; 32])
}

/// A store with some of everything, and an export of it.
struct Exported {
    directory: tempfile::TempDir,
    from: AnyStore,
    counts: Counts,
}

impl Exported {
    async fn new() -> Self {
        let from = AnyStore::new(FaultyStore::new());
        from.append(&[floor(1, 5), floor(2, 3), floor(1, 4)]).await.unwrap();
        from.trim(shell::now()).await.unwrap();
        let hour = shell::now().saturating_add(std::time::Duration::from_secs(3_600));
        for (number, key) in [session(1), session(2), Key::Keys, Key::AuditSegment(3)].iter().enumerate() {
            from.swap(key, None, &[number as u8, b'\n'], (number < 2).then_some(hour)).await.unwrap();
        }
        from.index_add(&alice(), &SessionId::from_random([1; 16]), hour).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let counts = export(&from, &directory.path().join("export"), &master()).await.unwrap();
        Self { directory, from, counts }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("export")
    }

    /// What an import of other bytes comes to, into an empty store that must stay empty.
    async fn refused(&self, bytes: &[u8]) -> ImportError {
        let path = self.directory.path().join("changed");
        fs::write(&path, bytes).unwrap();
        let to = AnyStore::new(FaultyStore::new());
        let refused = import(&to, &path, &master(), Taken::Refused).await.unwrap_err();
        assert_eq!((everything(&to).await, to.snapshot().await.unwrap().head.0), (vec![], 0));
        refused
    }
}

fn session(number: u8) -> Key {
    Key::Session(SessionId::from_random([number; 16]))
}

fn alice() -> SubjectId {
    "alice".parse().unwrap()
}

async fn everything(store: &AnyStore) -> Vec<Kept> {
    let mut kept = store.scan(Place::default()).await.unwrap().kept;
    kept.sort_by_key(|kept| format!("{kept:?}"));
    kept
}

async fn floors(store: &AnyStore) -> Vec<Floor> {
    let mut floors = store.snapshot().await.unwrap().floors;
    floors.sort_by_key(|floor| floor.lowest);
    floors
}

/// I2, I4: what is in the other store is what was in the first one; its log is a newer one. Nobody else may read the file.
#[tokio::test]
async fn everything_is_in_the_other_store() {
    let exported = Exported::new().await;
    assert_eq!(exported.counts, Counts { floors: 2, records: 4, sessions: 1 });
    assert_eq!(fs::metadata(exported.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let again = export(&exported.from, &exported.path(), &master()).await;
    assert!(matches!(again, Err(ExportError::File(_))), "it is not written over");

    let to = AnyStore::new(FaultyStore::new());
    let counts = import(&to, &exported.path(), &master(), Taken::Refused).await.unwrap();
    assert_eq!(counts, exported.counts);
    assert_eq!(everything(&to).await, everything(&exported.from).await);
    assert_eq!(floors(&to).await, [floor(2, 3), floor(1, 5)]);
    assert!(to.snapshot().await.unwrap().epoch > exported.from.snapshot().await.unwrap().epoch);
    assert_eq!(check_not_importing(&to).await, Ok(()));
}

#[tokio::test]
async fn an_empty_store_is_not_exported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("export");
    let refused = export(&AnyStore::new(FaultyStore::new()), &path, &master()).await;
    assert!(matches!(refused, Err(ExportError::Empty)));
    assert!(!path.exists());
}

/// A byte that is changed, a line that is missing, moved or repeated, and an end that is cut off: each is told at its line,
/// and nothing is written.
#[tokio::test]
async fn a_file_that_was_changed_is_refused_as_a_whole() {
    let exported = Exported::new().await;
    let whole = fs::read(exported.path()).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 9);
    let mut offset = 0;
    for (number, line) in lines.iter().enumerate() {
        for at in 0..line.len() {
            let mut changed = whole.clone();
            changed[offset + at] ^= 1;
            let refused = exported.refused(&changed).await;
            match &refused {
                ImportError::File(FileError::Strange | FileError::Format { .. }) => assert_eq!(number, 0, "{refused}"),
                ImportError::File(FileError::Changed { line, offset: told }) => {
                    assert_eq!((*line, *told), (number as u64 + 1, offset as u64));
                }
                // The end of the last line itself.
                ImportError::File(FileError::Truncated { .. }) => assert_eq!((number, at), (8, line.len() - 1)),
                other => panic!("line {number} byte {at}: {other}"),
            }
        }
        offset += line.len();
    }
    for end in 0..whole.len() {
        let refused = exported.refused(&whole[..end]).await;
        let is_told = matches!(&refused, ImportError::File(FileError::Truncated { .. } | FileError::Strange));
        assert!(is_told, "{end}: {refused}");
    }
    let text = exported.refused(&whole[..whole.len() - 9]).await.to_string();
    assert!(text.starts_with("it ends at line 9 (offset "), "{text}");
    for changed in [
        [&lines[..2], &lines[3..]].concat(),
        [&lines[..2], &[lines[3], lines[2]], &lines[4..]].concat(),
        [&lines[..3], &lines[2..]].concat(),
    ] {
        let refused = exported.refused(&changed.concat()).await;
        assert!(matches!(refused, ImportError::File(FileError::Changed { .. })), "{refused}");
    }
    let longer = exported.refused(&[whole.as_slice(), lines[2]].concat()).await;
    assert!(matches!(longer, ImportError::File(FileError::Trailing { line: 10, .. })), "{longer}");
    let newer = String::from_utf8(whole).unwrap().replacen("\"format\":1", "\"format\":2", 1);
    assert_eq!(exported.refused(newer.as_bytes()).await.to_string(), "it has format 2; this version reads format 1");
}

/// The file is read under the master key that it was written with, also while that is changed, and under no other.
#[tokio::test]
async fn another_master_key_reads_nothing() {
    let exported = Exported::new().await;
    let to = AnyStore::new(FaultyStore::new());
    let other = import(&to, &exported.path(), &MasterKey::new([8; 32]), Taken::Refused).await;
    assert!(matches!(other, Err(ImportError::File(FileError::Strange))));
    let changing = MasterKey::new([8; 32]).with_second([7; 32]);
    import(&to, &exported.path(), &changing, Taken::Refused).await.unwrap();
}

/// A store that holds something is left alone unless told otherwise; then the file wins, and no floor falls.
#[tokio::test]
async fn a_store_that_is_not_empty_is_left_alone() {
    let exported = Exported::new().await;
    let to = AnyStore::new(FaultyStore::new());
    to.append(&[floor(1, 9), floor(3, 3)]).await.unwrap();
    to.swap(&session(1), None, b"own", None).await.unwrap();
    to.swap(&session(9), None, b"own", None).await.unwrap();
    let before = everything(&to).await;
    let refused = import(&to, &exported.path(), &master(), Taken::Refused).await;
    assert!(matches!(refused, Err(ImportError::NotEmpty)));
    assert_eq!(everything(&to).await, before);

    for _ in 0..2 {
        import(&to, &exported.path(), &master(), Taken::Replaced).await.unwrap();
        assert_eq!(to.load(&session(1)).await, exported.from.load(&session(1)).await);
        assert_eq!(to.load(&session(9)).await, Ok(Some(b"own".to_vec())));
        let held = floors(&to).await;
        assert!([floor(1, 9), floor(2, 3), floor(3, 3)].iter().all(|floor| held.contains(floor)), "{held:?}");
    }
}

/// Whichever write of an import fails, nobody opens the store until the same import was repeated, and then it is whole.
#[tokio::test]
async fn an_import_that_was_cut_off_is_repeated() {
    let exported = Exported::new().await;
    for fault in [Fault::Before, Fault::After] {
        for nth in 0.. {
            let faulty = FaultyStore::new();
            let to = AnyStore::new(faulty.clone());
            faulty.arm(fault, nth);
            let done = import(&to, &exported.path(), &master(), Taken::Refused).await;
            if faulty.disarm() {
                // mark, epoch, all floors at once, four records, a session, and two attempts to take the mark away
                assert!(done.is_ok() && nth == 10, "{nth}");
                break;
            }
            if done.is_err() {
                let opened = check_not_importing(&to).await;
                let is_marked = matches!(&opened, Err(StoreError::Unsuitable(text)) if text.contains("not finished"));
                assert!(is_marked || nth == 0, "{nth} {opened:?}");
                import(&to, &exported.path(), &master(), Taken::Refused).await.unwrap();
            }
            assert_eq!(check_not_importing(&to).await, Ok(()));
            assert_eq!(everything(&to).await, everything(&exported.from).await);
            assert_eq!(floors(&to).await, floors(&exported.from).await);
        }
    }
}
