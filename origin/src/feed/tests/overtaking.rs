//! What a hub behind a slow link is sent.

use shared::id::SessionId;

use super::{pieces::Pieces, *};

/// The end of the session with this number.
fn of_session(number: u128) -> Floor {
    Floor { key: FloorKey::session(&SessionId::from_random(number.to_be_bytes())), ..floor(1, 5) }
}

/// The end of a tenant.
fn of_tenant() -> Floor {
    Floor { key: FloorKey::tenant(&"acme".parse().unwrap()), ..floor(1, 5) }
}

/// I1, I5: what a slow link still has to carry goes in pieces, of which the last alone says how fresh its receiver is, and a
/// floor of a wide scope overtakes them.
#[tokio::test]
async fn pieces_vouch_for_nothing_before_the_last_and_a_wide_floor_overtakes() {
    let store = FaultyStore::new();
    let (one, mut replica) = (feed(&store).await, Replica::new());
    sync(&one, &mut replica).await;
    let before = replica.freshness();
    let floors: Vec<Floor> = (0..3_000).map(of_session).chain([of_tenant()]).collect();
    one.store.append(&floors).await.unwrap();
    follow(&one).await;

    let mut pieces = Pieces::new();
    let piece = pieces.next(&one, replica.position()).unwrap();
    take(&one, &mut replica, &piece.frames);
    assert!(holds(&replica, of_tenant()), "with the first piece");
    assert!(holds(&replica, of_session(0)) && !holds(&replica, of_session(2_999)));
    assert_eq!(replica.position().cursor, Cursor(512));
    assert_eq!(replica.freshness(), before);
    // Fast, so that the next is larger; slow, so that it is smaller; and nothing overtakes twice.
    for (took, floors) in [(1, 1_024), (2_000, 512), (300, 512)] {
        pieces.taken(&piece, Duration::from_millis(took));
        let (after, next) = (replica.position(), pieces.next(&one, replica.position()).unwrap());
        take(&one, &mut replica, &next.frames);
        assert_eq!(replica.freshness(), before);
        let sent = replica.position().cursor.0 - after.cursor.0;
        assert_eq!((sent, next.frames.len()), (floors, 112 + 28 * floors as usize));
    }
    while replica.position() != one.position() {
        let next = pieces.next(&one, replica.position()).unwrap();
        take(&one, &mut replica, &next.frames);
    }
    assert!(floors.iter().all(|floor| holds(&replica, *floor)));
    assert_eq!(replica.freshness(), Freshness::AsOf(one.read().as_of));
}

/// The same for a hub that needs a snapshot.
#[tokio::test]
async fn a_snapshot_goes_part_by_part_and_a_wide_floor_overtakes() {
    let store = FaultyStore::new();
    let floors: Vec<Floor> = (0..3_000).map(of_session).collect();
    let (one, mut replica, mut pieces) = (feed(&store).await, Replica::new(), Pieces::new());
    one.store.append(&floors).await.unwrap();
    follow(&one).await;
    let first = pieces.next(&one, replica.position()).unwrap();
    take(&one, &mut replica, &first.frames);
    raise(&one, of_tenant()).await;
    follow(&one).await;
    let second = pieces.next(&one, replica.position()).unwrap();
    take(&one, &mut replica, &second.frames);
    assert!(holds(&replica, of_tenant()));
    assert_eq!(replica.freshness(), Freshness::Unsynced, "parts are missing");
    assert!(first.frames.len().max(second.frames.len()) < 40_000);
    for _ in 0..2 {
        let next = pieces.next(&one, replica.position()).unwrap();
        take(&one, &mut replica, &next.frames);
    }
    assert_eq!(replica.position(), one.position());
    assert!(floors.iter().all(|floor| holds(&replica, *floor)));
    assert_eq!(replica.freshness(), Freshness::AsOf(one.read().as_of));
}
