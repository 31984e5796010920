use std::{collections::HashMap, sync::Arc};

use futures_util::future::join_all;

use super::*;
use crate::{
    config,
    store::{
        faulty::{Fault, FaultyStore},
        test_server::Server,
    },
};

const KEPT: Duration = Duration::from_secs(3_600);

fn entry(actor: &str, number: u64) -> Entry {
    Entry {
        at_ms: crate::shell::now().as_millis(),
        request_id: number.to_string(),
        actor: actor.to_owned(),
        action: "revoke_session".to_owned(),
        target: None,
        tenant: None,
        reason: Some("a\n\"reason\"".to_owned()),
        status: 200,
    }
}

/// Every entry, newest first.
async fn all(trail: &Trail) -> Vec<Entry> {
    let (mut entries, mut before) = (Vec::new(), None);
    loop {
        let page = trail.find(&Query { before, limit: 50, ..Query::default() }).await.unwrap();
        entries.extend(page.entries);
        before = page.next;
        if before.is_none() {
            return entries;
        }
    }
}

/// I8: what several origins note at once is all there, once, each in its own order, in few segments.
#[tokio::test]
async fn origins_that_write_at_once_lose_nothing() {
    let store = Arc::new(AnyStore::new(FaultyStore::new()));
    nothing_is_lost(["one", "two", "three"].map(|name| (name, Arc::clone(&store)))).await;
}

/// I8: as above, with connections of their own.
#[tokio::test]
async fn origins_that_write_to_one_redis_at_once_lose_nothing() {
    let server = Server::start(&[]);
    let config = config::Store { url: server.url().into(), timeout_ms: 10_000, ..config::Store::default() };
    let open = async || Arc::new(AnyStore::open(&config).await.unwrap());
    nothing_is_lost([("one", open().await), ("two", open().await)]).await;
}

async fn nothing_is_lost<const ORIGINS: usize>(origins: [(&str, Arc<AnyStore>); ORIGINS]) {
    const EACH: u64 = 330;
    let trails = origins.each_ref().map(|(name, store)| {
        let (trail, writer) = trail(store, KEPT);
        tokio::spawn(writer.run());
        (*name, trail)
    });
    join_all(trails.iter().map(|(name, trail)| async move {
        for number in (0..EACH).step_by(10) {
            let kept = join_all((number..number + 10).map(|number| trail.keep(entry(name, number)))).await;
            assert!(kept.iter().all(Result::is_ok), "{kept:?}");
        }
    }))
    .await;
    let (_, first) = &trails[0];
    let mut of_origin = HashMap::<String, Vec<u64>>::new();
    for entry in all(first).await.into_iter().rev() {
        of_origin.entry(entry.actor).or_default().push(entry.request_id.parse().unwrap());
    }
    for (name, _) in &trails {
        assert_eq!(of_origin[*name], (0..EACH).collect::<Vec<_>>(), "{name}");
    }
    let entries = ORIGINS * usize::try_from(EACH).unwrap();
    // Each fills its own, one after another.
    let segments = entries.div_ceil(SEGMENT_ENTRIES_MAX) + ORIGINS;
    let newest = head(&origins[0].1).await.unwrap();
    assert!(newest < u64::try_from(segments).unwrap(), "{newest}");
}

/// An entry of which nobody knows whether it is kept is told as one that may not be; those after it are kept.
#[tokio::test]
async fn a_write_that_fails_stops_nothing() {
    for fault in [Fault::Before, Fault::After, Fault::Conflict] {
        let faulty = FaultyStore::new();
        let store = Arc::new(AnyStore::new(faulty.clone()));
        let (trail, writer) = trail(&store, KEPT);
        tokio::spawn(writer.run());
        for number in 0..40 {
            if number == 20 {
                faulty.arm(fault, 0);
            }
            let kept = trail.keep(entry("one", number)).await;
            assert_eq!(kept.is_err(), number == 20 && fault != Fault::Conflict, "{fault:?} {number}");
        }
        let lost = u64::from(fault == Fault::Before);
        assert_eq!(all(&trail).await.len() as u64, 40 - lost, "{fault:?}");
    }
}

/// The ring goes round: the place of an old segment holds the new one only.
#[tokio::test]
async fn the_newest_segments_replace_the_oldest() {
    let store = Arc::new(AnyStore::new(FaultyStore::new()));
    let last = u64::from(SEGMENTS_MAX) - 1;
    store.swap(&Key::AuditHead, None, &last.to_be_bytes(), None).await.unwrap();
    let (trail, writer) = trail(&store, KEPT);
    tokio::spawn(writer.run());
    let old = [b"0\n".to_vec(), lines(&[entry("old", 1)]).unwrap()].concat();
    store.swap(&Key::AuditSegment(0), None, &old, None).await.unwrap();
    for number in 0..40 {
        trail.keep(entry("new", number)).await.unwrap();
    }
    assert_eq!(head(&store).await, Ok(last + 1));
    let found = all(&trail).await;
    assert_eq!(found.len(), 40);
    assert!(found.iter().all(|entry| entry.actor == "new"));
}
