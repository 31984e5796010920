use futures_util::future::{join_all, poll_immediate};

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

/// I8: while a thread is busy, so many calls wait for it and no more; one more is refused at once, and all that waited are
/// answered.
#[tokio::test]
async fn a_full_queue_refuses_the_next_call_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&directory.path().join("store.db"), TIMEOUT).await.unwrap();
    let (release, busy) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let mut blocking = std::pin::pin!(store.reader.call(move |_| {
        let _ = begun.send(());
        let _ = busy.recv();
        Ok(())
    }));
    assert!(poll_immediate(&mut blocking).await.is_none());
    has_begun.await.unwrap();
    let mut waiting: Vec<_> = (0..worker::WAITING_MAX).map(|_| store.ping()).collect();
    for call in &mut waiting {
        assert!(poll_immediate(call).await.is_none(), "there is a place for it");
    }
    let refused = poll_immediate(store.ping()).await;
    assert_eq!(refused, Some(Err(StoreError::Unavailable("too many calls are waiting".to_owned()))));
    release.send(()).unwrap();
    assert_eq!(blocking.await, Ok(()));
    assert!(join_all(waiting).await.iter().all(Result::is_ok));
    assert_eq!(store.ping().await, Ok(()));
}
