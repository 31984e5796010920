//! What one origin acknowledged, a session that is opened or stepped up at another one right after stands on, although
//! that one has not heard of it: a login service behind a load balancer changes a password and signs its user in.

use shared::session::{EndReason, Initiator};

use super::{
    Service,
    everyone::EveryoneCommand,
    faults::{claims, lives, origin, refresh, request},
    step_up::StepUpSession,
    subjects::Command,
};
use crate::{
    store::{AnyStore, faulty::FaultyStore},
    telemetry::metrics::Metrics,
};

/// Two origins of which neither follows the log, both with alice in their caches, and a store.
async fn two_origins() -> (Service, Service, AnyStore) {
    let store = AnyStore::new(FaultyStore::new());
    let (one, other) = (origin(&store).await, origin(&store).await);
    for service in [&one, &other] {
        lives(service, &service.open(request("alice", "acme")).await.unwrap().tokens).await;
    }
    (one, other, store)
}

#[tokio::test]
async fn a_session_that_is_opened_after_an_end_lives() {
    let (one, other, store) = two_origins().await;
    for round in 0..4 {
        match round {
            0 => one.change_subject("alice".parse().unwrap(), Command::RevokeSessions).await.unwrap(),
            1 => one.revoke_tenant("acme".parse().unwrap()).await.unwrap(),
            2 => one.change_everyone(EveryoneCommand::EndSessions).await.unwrap(),
            _ => {
                one.change_subject("alice".parse().unwrap(), Command::Disable).await.unwrap();
                assert!(other.open(request("alice", "acme")).await.is_err());
                one.change_subject("alice".parse().unwrap(), Command::Enable).await.unwrap()
            }
        };
        let opened = other.open(request("alice", "acme")).await.unwrap();
        let judge = origin(&store).await;
        assert_eq!(judge.session(opened.session_id).await.unwrap().over, None, "{round}");
        lives(&judge, &opened.tokens).await;
    }
}

#[tokio::test]
async fn a_session_that_is_kept_can_be_stepped_up_at_once() {
    let (one, other, store) = two_origins().await;
    let kept = other.open(request("alice", "acme")).await.unwrap();
    one.change_subject("alice".parse().unwrap(), Command::RevokeOthers(kept.session_id)).await.unwrap();
    let command = StepUpSession { tier: None, scope: None, acr: None, amr: vec![], auth_time: None, device: None };
    let stepped_up = other.step_up(kept.session_id, command).await.unwrap();
    lives(&origin(&store).await, &stepped_up.tokens).await;
}

/// The other origin holds the record of a disabled subject, and has not heard that it was enabled.
#[tokio::test]
async fn a_session_of_a_subject_that_was_enabled_elsewhere_is_refreshed() {
    let (one, other, _) = two_origins().await;
    let alice = || "alice".parse().unwrap();
    one.change_subject(alice(), Command::Disable).await.unwrap();
    assert!(other.open(request("alice", "acme")).await.is_err(), "it holds the record now");
    one.change_subject(alice(), Command::Enable).await.unwrap();
    let opened = one.open(request("alice", "acme")).await.unwrap();
    lives(&other, &opened.tokens).await;
}

/// The twin: an origin that has not heard of an end changes nothing about it.
#[tokio::test]
async fn a_session_that_was_ended_elsewhere_is_not_changed() {
    let (one, other, store) = two_origins().await;
    let opened = other.open(request("alice", "acme")).await.unwrap();
    one.revoke_session(opened.session_id, EndReason::Revoked, Initiator::Admin).await.unwrap();
    assert!(other.set_scope(opened.session_id, Some("read".to_owned())).await.is_err());
    assert!(refresh(&other, &opened.tokens.refresh_token).await.is_err());
    assert!(claims(&origin(&store).await, &opened.tokens.access_token).await.is_none());
}

/// I1: whatever an origin makes from a copy that another origin's command has made stale is refused by everyone who has heard
/// of the command, and its twin from a fresh copy is not; hits, misses and stale copies are counted.
#[tokio::test]
async fn a_stale_copy_makes_only_what_is_refused_already() {
    let lookups = |outcome: &str| {
        let series = format!("portcullis_cache_lookups_total{{cache=\"subject\",outcome=\"{outcome}\"}} ");
        let text = Metrics::install().render();
        let line = text.lines().find_map(|line| line.strip_prefix(&series)).map(str::to_owned);
        line.unwrap_or_default().parse::<u64>().unwrap()
    };
    let (one, other, store) = two_origins().await;
    let opened = other.open(request("alice", "acme")).await.unwrap();
    let hits = lookups("hit");
    one.change_subject("alice".parse().unwrap(), Command::SetRoles(vec!["admin".parse().unwrap()])).await.unwrap();
    // It holds alice as she was, and has not heard.
    let stale = refresh(&other, &opened.tokens.refresh_token).await.unwrap();
    assert!(lookups("hit") > hits);
    let judge = origin(&store).await;
    assert!(claims(&judge, &stale.access_token).await.is_none());
    let misses = lookups("miss");
    let fresh = refresh(&judge, &stale.refresh_token).await.unwrap();
    assert!(lookups("miss") > misses);
    assert_eq!(claims(&judge, &fresh.access_token).await.unwrap().roles.len(), 1);
    // Once it has heard, its copy is under the floor, and is read again.
    let before = lookups("stale");
    other.feed.follow(std::time::Duration::ZERO).await.unwrap();
    let heard = refresh(&other, &fresh.refresh_token).await.unwrap();
    assert!(lookups("stale") > before);
    assert_eq!(claims(&judge, &heard.access_token).await.unwrap().roles.len(), 1);
}
