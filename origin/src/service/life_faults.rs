//! Commands that touch several records, over a store whose writes fail one after the other, and the same command once
//! more after it: an eviction, a step-up, a change of scope, all sessions but one, everyone.
//!
//! What is shown of each: whoever has tokens never has more sessions than allowed, and what ended stays ended.

use shared::{
    id::SessionId,
    session::{EndReason, NotLive},
};

use super::{
    Service, ServiceError, Tokens,
    everyone::EveryoneCommand,
    faults::{claims, floors_never_fall, lives, origin_with, refresh, request},
    open::Opened,
    step_up::StepUpSession,
    subjects::Command,
};
use crate::{
    config::Config,
    store::{
        AnyStore,
        faulty::{Fault, FaultyStore},
    },
};

struct World {
    store: FaultyStore,
    config: Config,
    service: Service,
    alice: Opened,
    bystander: Opened,
}

impl World {
    async fn new(config: &Config) -> Self {
        let store = FaultyStore::new();
        let service = origin_with(&AnyStore::new(store.clone()), config).await;
        let alice = service.open(request("alice", "acme")).await.unwrap();
        let bystander = service.open(request("bob", "other")).await.unwrap();
        Self { store, config: config.clone(), service, alice, bystander }
    }

    /// An origin that has nothing but the store.
    async fn judge(&self) -> Service {
        origin_with(&AnyStore::new(self.store.clone()), &self.config).await
    }
}

/// Lets every write of a command fail in turn, each way; how many writes there were. `check` gets what the command came
/// to, and the twin without a fault as well.
async fn every_fault<T>(
    config: &Config,
    run: impl AsyncFn(&World) -> Result<T, ServiceError>,
    check: impl AsyncFn(&World, Result<T, ServiceError>),
) -> usize {
    let mut writes = 0;
    for fault in [Fault::Before, Fault::After, Fault::Conflict] {
        for nth in 0.. {
            let world = World::new(config).await;
            world.store.arm(fault, nth);
            let result = run(&world).await;
            let twin = world.store.disarm();
            assert!(result.is_ok() || !twin, "{fault:?} {nth}: {:?}", result.err());
            check(&world, result).await;
            floors_never_fall(&world.store).await;
            if twin {
                writes = writes.max(nth);
                break;
            }
        }
    }
    writes
}

async fn is_dead(judge: &Service, tokens: &Tokens) -> bool {
    let refused = refresh(judge, &tokens.refresh_token).await.err() == Some(ServiceError::InvalidGrant);
    refused && claims(judge, &tokens.access_token).await.is_none()
}

async fn reason(judge: &Service, id: SessionId) -> Option<&'static str> {
    judge.session(id).await.unwrap().over
}

/// SES-10: whichever write of an eviction fails, there is never one session too many, and the next sign-in gets in.
#[tokio::test]
async fn an_eviction_whose_writes_fail() {
    let mut config = Config::default();
    config.sessions.concurrent_max = 1;
    let open = async |world: &World| world.service.open(request("alice", "acme")).await;
    let check = async |world: &World, opened: Result<Opened, ServiceError>| {
        let judge = world.judge().await;
        if let Ok(opened) = &opened {
            assert!(is_dead(&judge, &world.alice.tokens).await);
            assert_eq!(reason(&judge, world.alice.session_id).await, Some("evicted"));
            lives(&judge, &opened.tokens).await;
        }
        let next = judge.open(request("alice", "acme")).await.unwrap();
        assert!(is_dead(&judge, &world.alice.tokens).await);
        if let Ok(opened) = &opened {
            assert!(is_dead(&judge, &opened.tokens).await);
        }
        lives(&judge, &next.tokens).await;
        assert_eq!(judge.sessions_of(&"alice".parse().unwrap(), None, 10).await.unwrap().sessions.len(), 1);
        lives(&judge, &world.bystander.tokens).await;
    };
    assert_eq!(every_fault(&config, open, check).await, 6, "index, record, floor, end, list, roster");
}

/// STP-06, SES-02: whichever write of a step-up fails, the old session and the new one are never both in use.
#[tokio::test]
async fn a_step_up_whose_writes_fail() {
    let command = || StepUpSession {
        tier: None,
        scope: None,
        acr: Some("high".to_owned()),
        amr: vec!["otp".to_owned()],
        auth_time: None,
        device: None,
    };
    let step_up = async |world: &World| world.service.step_up(world.alice.session_id, command()).await;
    let check = async |world: &World, stepped: Result<Opened, ServiceError>| {
        let judge = world.judge().await;
        match stepped {
            Ok(new) => lives(&judge, &new.tokens).await,
            // Nobody has the tokens of a new session; the old one goes on, or has ended for good.
            Err(error) => {
                assert!(!matches!(error, ServiceError::Over(_)), "{error}");
                match judge.step_up(world.alice.session_id, command()).await {
                    Ok(new) => lives(&judge, &new.tokens).await,
                    Err(ServiceError::Over(NotLive::Ended(EndReason::Replaced) | NotLive::UnderFloor)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(is_dead(&judge, &world.alice.tokens).await);
        assert!(is_dead(&world.judge().await, &world.alice.tokens).await);
        lives(&judge, &world.bystander.tokens).await;
    };
    assert_eq!(every_fault(&Config::default(), step_up, check).await, 5, "index, record, floor, end, list");
}

#[tokio::test]
async fn a_change_of_scope_whose_writes_fail() {
    let scope = || Some("read".to_owned());
    let change = async |world: &World| world.service.set_scope(world.alice.session_id, scope()).await;
    let check = async |world: &World, changed: Result<_, ServiceError>| {
        let judge = world.judge().await;
        if changed.is_err() {
            judge.set_scope(world.alice.session_id, scope()).await.unwrap();
        }
        assert!(claims(&judge, &world.alice.tokens.access_token).await.is_none());
        let renewed = refresh(&judge, &world.alice.tokens.refresh_token).await.unwrap();
        assert_eq!(claims(&judge, &renewed.access_token).await.unwrap().scope, scope());
    };
    assert_eq!(every_fault(&Config::default(), change, check).await, 2);
}

/// SES-07: whichever write fails, the session to keep lives on, and once acknowledged the others are dead.
#[tokio::test]
async fn the_end_of_all_but_one_whose_writes_fail() {
    let (mut kept, alice) = (None, "alice".parse().unwrap());
    let config = Config::default();
    for fault in [Fault::Before, Fault::After, Fault::Conflict] {
        for nth in 0..3 {
            let world = World::new(&config).await;
            let opened = world.service.open(request("alice", "acme")).await.unwrap();
            world.store.arm(fault, nth);
            let command = || Command::RevokeOthers(opened.session_id);
            let first = world.service.change_subject(Clone::clone(&alice), command()).await;
            world.store.disarm();
            let judge = world.judge().await;
            if first.is_err() {
                judge.change_subject(Clone::clone(&alice), command()).await.unwrap();
            }
            assert!(is_dead(&judge, &world.alice.tokens).await);
            let renewed = refresh(&judge, &opened.tokens.refresh_token).await.unwrap();
            lives(&judge, &renewed).await;
            kept = Some(renewed);
        }
    }
    assert!(kept.is_some());
}

/// SES-08: both commands for everyone.
#[tokio::test]
async fn commands_for_everyone_whose_writes_fail() {
    for command in [EveryoneCommand::EndSessions, EveryoneCommand::RenewTokens] {
        let change = async |world: &World| world.service.change_everyone(command).await;
        let check = async |world: &World, changed: Result<_, ServiceError>| {
            let judge = world.judge().await;
            if changed.is_err() {
                judge.change_everyone(command).await.unwrap();
            }
            for opened in [&world.alice, &world.bystander] {
                assert!(claims(&judge, &opened.tokens.access_token).await.is_none());
                match command {
                    EveryoneCommand::EndSessions => assert!(is_dead(&judge, &opened.tokens).await),
                    EveryoneCommand::RenewTokens => {
                        lives(&judge, &refresh(&judge, &opened.tokens.refresh_token).await.unwrap()).await;
                    }
                }
            }
            lives(&judge, &judge.open(request("zoe", "acme")).await.unwrap().tokens).await;
        };
        assert_eq!(every_fault(&Config::default(), change, check).await, 2);
    }
}

/// A log that is ahead of everyone's record after a crash makes no token that is refused, and ends the sessions that it was
/// to end; tokens that were only to be renewed can be.
#[tokio::test]
async fn a_floor_of_everyone_without_its_record_says_what_is_over() {
    for command in [EveryoneCommand::RenewTokens, EveryoneCommand::EndSessions] {
        let world = World::new(&Config::default()).await;
        world.store.arm(Fault::Before, 1);
        assert!(world.service.change_everyone(command).await.is_err());
        world.store.disarm();
        let judge = world.judge().await;
        assert!(claims(&judge, &world.alice.tokens.access_token).await.is_none());
        match (command, refresh(&judge, &world.alice.tokens.refresh_token).await) {
            (EveryoneCommand::RenewTokens, Ok(renewed)) => lives(&judge, &renewed).await,
            (EveryoneCommand::EndSessions, Err(ServiceError::InvalidGrant)) => {}
            (command, refreshed) => panic!("{command:?} {:?}", refreshed.err()),
        }
        lives(&judge, &judge.open(request("zoe", "acme")).await.unwrap().tokens).await;
    }
}
