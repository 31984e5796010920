//! What every backend must do, as one suite.

use std::time::{Duration, Instant};

use shared::{
    feed::{Cursor, Epoch},
    id::{SessionId, SubjectId},
    revocation::{Floor, FloorKey, Version},
    time::Timestamp,
};

use super::{AnyStore, Entries, Indexed, Kept, Key, Place, Swapped, key::tests::of_every_kind};
use crate::shell;

/// A floor that is kept for an hour from a fixed day far ahead, so that it is the same in every call.
pub(crate) fn floor(scope: u8, lowest: u64) -> Floor {
    let forget_at = Timestamp::from_secs(4_000_000_000);
    Floor { key: FloorKey::session(&SessionId::from_random([scope; 16])), lowest: Version::new(lowest), forget_at }
}

/// Runs the whole suite on an empty store.
pub(crate) async fn check(store: &AnyStore) {
    swaps_by_content(store).await;
    expires(store).await;
    extends(store).await;
    leases(store).await;
    log_is_contiguous(store).await;
    waits_for_appends(store).await;
    indexes(store).await;
    records_and_sessions_of_a_subject_leave_each_other_alone(store).await;
    renews(store).await;
    scans(store).await;
    store.ping().await.unwrap();
    assert!(store.round_trips() > 0);
}

/// I2: exactly what was expected is replaced, and nothing else is.
async fn swaps_by_content(store: &AnyStore) {
    let key = Key::Session(SessionId::from_random([1; 16]));
    assert_eq!(store.load(&key).await, Ok(None));
    assert_eq!(store.swap(&key, Some(b"a"), b"b", None).await, Ok(Swapped::Conflict));
    assert_eq!(store.load(&key).await, Ok(None));
    assert_eq!(store.swap(&key, None, b"a", None).await, Ok(Swapped::Done));
    assert_eq!(store.swap(&key, None, b"b", None).await, Ok(Swapped::Conflict));
    assert_eq!(store.swap(&key, Some(b"a"), &[0, 255, 13, 10], None).await, Ok(Swapped::Done));
    let other = Key::Subject("s".parse().unwrap());
    let loaded = store.load_many(&[other, key]).await;
    assert_eq!(loaded, Ok(vec![None, Some(vec![0, 255, 13, 10])]));
}

/// I11: a value is gone when its time is over, and its place is free.
async fn expires(store: &AnyStore) {
    let key = Key::Session(SessionId::from_random([2; 16]));
    let soon = shell::now().saturating_add(Duration::from_millis(300));
    assert_eq!(store.swap(&key, None, b"short", Some(soon)).await, Ok(Swapped::Done));
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.load(&key).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "the value stayed");
        tokio::task::yield_now().await;
    }
    assert!(shell::now() >= soon);
    assert_eq!(store.swap(&key, None, b"again", None).await, Ok(Swapped::Done));
}

/// A value of the expected length grows, for as long as is said then; another one stays as it is.
async fn extends(store: &AnyStore) {
    let key = Key::AuditSegment(9);
    let soon = shell::now().saturating_add(Duration::from_millis(300));
    let later = shell::now().saturating_add(Duration::from_secs(3_600));
    assert_eq!(store.extend(&key, 0, b"a", later).await, Ok(Swapped::Conflict), "there is none");
    assert_eq!(store.swap(&key, None, &[0, 255], Some(soon)).await, Ok(Swapped::Done));
    for length in [0, 1, 3] {
        assert_eq!(store.extend(&key, length, b"x", later).await, Ok(Swapped::Conflict));
    }
    assert_eq!(store.extend(&key, 2, &[13, 0], later).await, Ok(Swapped::Done));
    assert_eq!(store.extend(&key, 2, b"x", later).await, Ok(Swapped::Conflict));
    while shell::now() <= soon {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.load(&key).await, Ok(Some(vec![0, 255, 13, 0])));
    assert_eq!(store.extend(&key, 4, b"x", shell::now()).await, Ok(Swapped::Done));
    assert_eq!(store.load(&key).await, Ok(None), "its time is over");
}

/// A lease has one holder, who may renew it and let it go; one that is not renewed is free again.
async fn leases(store: &AnyStore) {
    let key = Key::PushLease([7; 16]);
    let soon = || shell::now().saturating_add(Duration::from_millis(300));
    let first_end = soon();
    assert_eq!(store.swap(&key, None, b"one", Some(first_end)).await, Ok(Swapped::Done));
    assert_eq!(store.swap(&key, None, b"two", Some(soon())).await, Ok(Swapped::Conflict));
    let renewed_until = shell::now().saturating_add(Duration::from_secs(3_600));
    assert_eq!(store.swap(&key, Some(b"one"), b"one", Some(renewed_until)).await, Ok(Swapped::Done));
    while shell::now() <= first_end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.swap(&key, None, b"two", Some(soon())).await, Ok(Swapped::Conflict), "it was renewed");
    for (holder, next) in [(b"one", b"two"), (b"two", b"one")] {
        // Let go by the first, not renewed by the second.
        let until = if holder == b"one" { shell::now() } else { soon() };
        assert_eq!(store.swap(&key, Some(holder), holder, Some(until)).await, Ok(Swapped::Done));
        let deadline = Instant::now() + Duration::from_secs(30);
        while store.swap(&key, None, next, Some(renewed_until)).await != Ok(Swapped::Done) {
            assert!(Instant::now() < deadline, "it is not free");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// I4: consecutive positions, no gap unnoticed, floors that only rise.
async fn log_is_contiguous(store: &AnyStore) {
    let before = store.read_log(Cursor(0), 10).await.unwrap();
    assert_eq!((before.head, before.entries), (Cursor(0), Entries::Contiguous(vec![])));
    let floors = [floor(1, 5), floor(2, 3), floor(1, 4)];
    assert_eq!(store.append(&floors).await, Ok(Cursor(3)));
    assert_eq!(store.append(&[]).await, Ok(Cursor(3)));

    let read = store.read_log(Cursor(1), 10).await.unwrap();
    assert_eq!((read.epoch, read.head), (before.epoch, Cursor(3)));
    assert_eq!(read.entries, Entries::Contiguous(floors[1..].to_vec()));
    assert!(read.as_of >= before.as_of);
    assert_eq!(store.read_log(Cursor(0), 2).await.unwrap().entries, Entries::Contiguous(floors[..2].to_vec()));
    assert_eq!(store.read_log(Cursor(3), 10).await.unwrap().entries, Entries::Contiguous(vec![]));
    assert_eq!(store.read_log(Cursor(4), 10).await.unwrap().entries, Entries::SnapshotNeeded);

    let mut snapshot = store.snapshot().await.unwrap();
    snapshot.floors.sort_by_key(|floor| floor.lowest);
    assert_eq!((snapshot.epoch, snapshot.head), (before.epoch, Cursor(3)));
    assert_eq!(snapshot.floors, [floor(2, 3), floor(1, 5)]);

    // Long after every entry was written and before any floor may be forgotten.
    store.trim(Timestamp::from_secs(3_999_999_999)).await.unwrap();
    let read = store.read_log(Cursor(1), 10).await.unwrap();
    assert_eq!((read.head, read.entries), (Cursor(3), Entries::SnapshotNeeded));
    assert_eq!(store.snapshot().await.unwrap().floors.len(), 2);
    store.trim(Timestamp::from_secs(4_000_000_000)).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().floors, []);
    assert_eq!(store.append(&[floor(3, 1)]).await, Ok(Cursor(4)));
}

async fn waits_for_appends(store: &AnyStore) {
    let head = store.read_log(Cursor(0), 1).await.unwrap().head;
    let started = Instant::now();
    let long = Duration::from_secs(60);
    let floors = [floor(4, 1)];
    let (waited, appended) = tokio::join!(store.wait_for_append(head, long), store.append(&floors));
    assert_eq!((waited, appended), (Ok(()), Ok(Cursor(head.0 + 1))));
    assert!(started.elapsed() < long);
    assert_eq!(store.wait_for_append(head, long).await, Ok(()));
    assert!(started.elapsed() < long);
}

/// Another epoch is a higher one, asked for twice it is the same, and it keeps positions and floors.
async fn renews(store: &AnyStore) {
    let before = store.snapshot().await.unwrap();
    let renewed = store.renew(before.epoch).await.unwrap();
    assert!(renewed > before.epoch);
    assert_eq!(store.renew(before.epoch).await, Ok(renewed));
    let after = store.snapshot().await.unwrap();
    assert_eq!((after.epoch, after.head, after.floors.len()), (renewed, before.head, before.floors.len()));
    let far = Epoch(renewed.0 + (1 << 40));
    assert!(store.renew(far).await.unwrap() > far);
    assert!(store.read_log(before.head, 1).await.unwrap().epoch > far);
    assert_eq!(store.append(&[floor(5, 1)]).await, Ok(Cursor(before.head.0 + 1)));
}

async fn indexes(store: &AnyStore) {
    let subject: SubjectId = "alice".parse().unwrap();
    let id = |byte| SessionId::from_random([byte; 16]);
    let hour = |hours: u64| shell::now().saturating_add(Duration::from_secs(3_600 * hours));
    store.index_add(&subject, &id(1), hour(1)).await.unwrap();
    store.index_add(&subject, &id(2), hour(2)).await.unwrap();
    store.index_add(&subject, &id(3), shell::now()).await.unwrap();
    let listed = async |subject: &SubjectId, after: Option<Indexed>, max: usize| {
        let page = store.index_list(subject, after, max).await.unwrap();
        page.iter().map(|entry| entry.session).collect::<Vec<_>>()
    };
    assert_eq!(listed(&subject, None, 10).await, [id(2), id(1)]);
    assert_eq!(listed(&subject, None, 1).await, [id(2)]);
    store.index_add(&subject, &id(1), hour(3)).await.unwrap();
    store.index_remove(&subject, &id(2)).await.unwrap();
    store.index_remove(&subject, &id(9)).await.unwrap();
    assert_eq!(listed(&subject, None, 10).await, [id(1)]);
    assert_eq!(listed(&"bob".parse().unwrap(), None, 10).await, []);

    // Pages, among many that expire at the same moment, while some of those that were seen go away.
    let carol: SubjectId = "carol".parse().unwrap();
    let [same, later, latest] = [1, 2, 3].map(hour);
    for byte in 0..90 {
        store.index_add(&carol, &id(byte), if byte % 9 == 0 { later } else { same }).await.unwrap();
    }
    for byte in (0..90).step_by(10) {
        store.index_remove(&carol, &id(byte)).await.unwrap();
        store.index_add(&carol, &id(byte + 100), same).await.unwrap();
        store.index_add(&carol, &id(byte + 5), latest).await.unwrap();
    }
    let (mut seen, mut after) = (Vec::<Indexed>::new(), None);
    loop {
        let page = store.index_list(&carol, after, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(*last);
        store.index_remove(&carol, &last.session).await.unwrap();
        seen.extend(page);
    }
    assert!(seen.is_sorted_by(|one, next| one > next), "{seen:?}");
    let ends_at = |byte| {
        if byte % 10 == 5 && byte < 90 {
            latest
        } else if byte % 9 == 0 && byte < 90 {
            later
        } else {
            same
        }
    };
    let mut expected: Vec<_> = (0..190)
        .filter(|byte| if *byte < 90 { byte % 10 != 0 } else { byte % 10 == 0 && *byte >= 100 })
        .map(|byte| Indexed { expires_at: ends_at(byte), session: id(byte) })
        .collect();
    expected.sort_unstable_by(|one, other| other.cmp(one));
    assert_eq!(seen, expected);
    assert!(store.index_list(&carol, None, 200).await.unwrap().len() < seen.len());
}

/// I2: the record of a subject is written over what was noted meanwhile, and the other way round.
async fn records_and_sessions_of_a_subject_leave_each_other_alone(store: &AnyStore) {
    let (dora, hour) = ("dora", shell::now().saturating_add(Duration::from_secs(3_600)));
    let (key, dora): (Key, SubjectId) = (Key::Subject(dora.parse().unwrap()), dora.parse().unwrap());
    let noted = |byte| Indexed { expires_at: hour, session: SessionId::from_random([byte; 16]) };
    let note = async |byte| store.index_add(&dora, &noted(byte).session, hour).await.unwrap();
    let listed = async || store.index_list(&dora, None, 10).await.unwrap();
    note(1).await;
    assert_eq!(store.load(&key).await, Ok(None));
    assert_eq!(store.swap(&key, Some(b""), b"first", None).await, Ok(Swapped::Conflict));
    assert_eq!(store.swap(&key, None, b"first", None).await, Ok(Swapped::Done));
    note(2).await;
    assert_eq!(store.swap(&key, None, b"other", None).await, Ok(Swapped::Conflict));
    assert_eq!(store.swap(&key, Some(b"first"), &[0xff, 0, 0x80], None).await, Ok(Swapped::Done));
    assert_eq!(listed().await, [noted(2), noted(1)]);
    for byte in [1, 2] {
        store.index_remove(&dora, &noted(byte).session).await.unwrap();
        assert_eq!(store.load(&key).await, Ok(Some(vec![0xff, 0, 0x80])));
    }
    assert_eq!(listed().await, []);
    note(3).await;
    assert_eq!(store.swap(&key, Some(&[0xff, 0, 0x80]), b"", None).await, Ok(Swapped::Done));
    assert_eq!((store.load_many(&[key]).await, listed().await), (Ok(vec![Some(vec![])]), vec![noted(3)]));
}

/// I2: everything is told, with its time, and nothing whose time is over; more than fits one page.
async fn scans(store: &AnyStore) {
    let hour = |hours: u64| shell::now().saturating_add(Duration::from_secs(3_600 * hours));
    let (expires_at, mut expected) = (hour(5), Vec::new());
    for (number, key) in of_every_kind().into_iter().enumerate() {
        let end = (number % 2 == 0).then_some(expires_at);
        let held = store.load(&key).await.unwrap();
        assert_eq!(store.swap(&key, held.as_deref(), &[number as u8, 0, 255], end).await, Ok(Swapped::Done));
        expected.push(Kept::Record { key, value: vec![number as u8, 0, 255], expires_at: end });
    }
    let id =
        |number: u16| SessionId::from_random([[9; 14].as_slice(), &number.to_be_bytes()].concat().try_into().unwrap());
    for number in 0..600 {
        let (key, subject) = (Key::Session(id(number)), format!("user-{}", number % 7).parse::<SubjectId>().unwrap());
        store.swap(&key, None, b"v", Some(expires_at)).await.unwrap();
        store.index_add(&subject, &id(number), expires_at).await.unwrap();
        expected.push(Kept::Record { key, value: b"v".to_vec(), expires_at: Some(expires_at) });
        expected.push(Kept::Indexed { subject, session: id(number), expires_at });
    }
    store.swap(&Key::Session(id(999)), None, b"gone", Some(shell::now())).await.unwrap();
    let (mut kept, mut from) = (Vec::new(), Some(Place::default()));
    while let Some(place) = from {
        let scanned = store.scan(place).await.unwrap();
        kept.extend(scanned.kept);
        from = scanned.next;
    }
    for wanted in expected {
        assert!(kept.contains(&wanted), "{wanted:?}");
    }
    let gone = |kept: &Kept| matches!(kept, Kept::Record { key, .. } if *key == Key::Session(id(999)));
    assert!(!kept.iter().any(gone));
}
