use super::*;
use crate::store::{AnyStore, contract};

const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&directory.path().join("store.db"), TIMEOUT).await.unwrap();
    contract::check(&AnyStore::new(store)).await;
}

#[tokio::test]
async fn a_second_process_is_refused_and_a_later_one_finds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = EmbeddedStore::open(&path, TIMEOUT).await.unwrap();
    let second = EmbeddedStore::open(&path, TIMEOUT).await.err();
    assert_eq!(second, Some(StoreError::Unsuitable("another process has it open".to_owned())));

    assert_eq!(store.swap(&Key::Keys, None, b"sealed", None).await, Ok(Swapped::Done));
    let cursor = store.append(&[contract::floor(1, 2)]).await.unwrap();
    let epoch = store.read_log(cursor, 1).await.unwrap().epoch;
    drop(store);

    let store = EmbeddedStore::open(&path, TIMEOUT).await.unwrap();
    assert_eq!(store.load(&Key::Keys).await, Ok(Some(b"sealed".to_vec())));
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!((snapshot.epoch, snapshot.head, snapshot.floors), (epoch, cursor, vec![contract::floor(1, 2)]));
}

/// I6 of the port: a transaction that cannot begin has written nothing, and says so.
#[tokio::test]
async fn a_write_that_cannot_begin_has_not_happened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = EmbeddedStore::open(&path, Duration::from_secs(2)).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let failed = store.swap(&Key::Keys, None, b"sealed", None).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.swap(&Key::Keys, None, b"sealed", None).await, Ok(Swapped::Done));
}
