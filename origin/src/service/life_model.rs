//! Random commands at two origins over one store whose writes fail now and then, against what the callers were told.
//!
//! Neither origin follows the log unless the script says so: what it knows it did itself, or read. A caller who was told
//! that a session is over never sees it again, one who was told that it lives can refresh it, and one who was told
//! nothing (the store failed) may find either.

use std::time::Duration;

use proptest::prelude::*;
use shared::{
    id::SessionId,
    session::{EndReason, Initiator},
};

use super::{
    Service, ServiceError, Tokens,
    everyone::EveryoneCommand,
    faults::{claims, lives, origin, refresh, request},
    step_up::StepUpSession,
    subjects,
};
use crate::store::{
    AnyStore,
    faulty::{Fault, FaultyStore},
};

#[derive(Debug, Clone, Copy)]
enum Command {
    Open,
    Refresh(usize),
    Reuse(usize),
    Revoke(usize),
    StepUp(usize),
    SetScope(usize, bool),
    RevokeAll,
    RevokeOthers(usize),
    SetRoles(bool),
    Disable,
    Enable,
    RevokeTenant,
    Everyone(bool),
    Follow,
}

#[derive(Debug, Clone)]
struct Step {
    command: Command,
    at_other: bool,
    fault: Option<(Fault, usize)>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0_usize..5;
    let command = prop_oneof![
        5 => Just(Command::Open),
        8 => which.clone().prop_map(Command::Refresh),
        1 => which.clone().prop_map(Command::Reuse),
        2 => which.clone().prop_map(Command::Revoke),
        3 => which.clone().prop_map(Command::StepUp),
        2 => (which.clone(), any::<bool>()).prop_map(|(which, read)| Command::SetScope(which, read)),
        1 => Just(Command::RevokeAll),
        2 => which.prop_map(Command::RevokeOthers),
        1 => any::<bool>().prop_map(Command::SetRoles),
        1 => Just(Command::Disable),
        3 => Just(Command::Enable),
        1 => Just(Command::RevokeTenant),
        1 => any::<bool>().prop_map(Command::Everyone),
        4 => Just(Command::Follow),
    ];
    let kind = prop_oneof![Just(Fault::Before), Just(Fault::After), Just(Fault::Conflict)];
    let fault = prop::option::weighted(0.3, (kind, 0_usize..4));
    let step = (command, any::<bool>(), fault).prop_map(|(command, at_other, fault)| Step { command, at_other, fault });
    prop::collection::vec(step, 1..40)
}

/// What its caller was told of a session, or of the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Alive,
    Nothing,
    Over,
}

struct Known {
    id: SessionId,
    told: Told,
    refresh_token: String,
    access_token: String,
    /// A token of two generations ago.
    ancestor: Option<String>,
    previous: Option<String>,
}

impl Known {
    fn new(id: SessionId, tokens: Tokens) -> Self {
        let Tokens { access_token, refresh_token, .. } = tokens;
        Self { id, told: Told::Alive, refresh_token, access_token, ancestor: None, previous: None }
    }
}

struct World {
    store: FaultyStore,
    origins: [Service; 2],
    sessions: Vec<Known>,
    enabled: Told,
}

impl World {
    async fn new() -> Self {
        let store = FaultyStore::new();
        let origins = [origin(&AnyStore::new(store.clone())).await, origin(&AnyStore::new(store.clone())).await];
        // The subject is known, so that every command finds it.
        let first = origins[0].open(request("alice", "acme")).await.unwrap();
        let sessions = vec![Known::new(first.session_id, first.tokens)];
        Self { store, origins, sessions, enabled: Told::Alive }
    }

    /// Everyone but `spared` was told that they are over, or nothing.
    fn all(&mut self, done: bool, spared: Option<usize>) {
        for (index, known) in self.sessions.iter_mut().enumerate() {
            if Some(index) != spared && known.told != Told::Over {
                known.told = if done { Told::Over } else { Told::Nothing };
            }
        }
    }

    async fn run(&mut self, step: &Step) {
        let index = |which: usize| which % self.sessions.len();
        let service = &self.origins[usize::from(step.at_other)];
        let alice = || "alice".parse().unwrap();
        if let Some((fault, nth)) = step.fault {
            self.store.arm(fault, nth);
        }
        match step.command {
            Command::Open => {
                let opened = service.open(request("alice", "acme")).await;
                match opened {
                    Ok(opened) => {
                        assert_ne!(self.enabled, Told::Over, "a disabled subject opened a session");
                        self.sessions.push(Known::new(opened.session_id, opened.tokens));
                    }
                    Err(ServiceError::Open(_)) => assert_ne!(self.enabled, Told::Alive),
                    Err(error) => failed_in_the_store(&error),
                }
            }
            Command::Refresh(which) => {
                let index = index(which);
                let result = refresh(service, &self.sessions[index].refresh_token).await;
                self.refreshed(index, result).await;
            }
            Command::Reuse(which) => {
                let known = &self.sessions[index(which)];
                let Some(ancestor) = &known.ancestor else {
                    self.store.disarm();
                    return;
                };
                let result = refresh(service, ancestor).await;
                let index = index(which);
                let done = matches!(result, Err(ServiceError::InvalidGrant));
                assert!(result.is_err(), "I3: an ancestor brought tokens");
                if self.sessions[index].told != Told::Over {
                    self.sessions[index].told = if done { Told::Over } else { Told::Nothing };
                }
            }
            Command::Revoke(which) => {
                let index = index(which);
                let result =
                    service.revoke_session(self.sessions[index].id, EndReason::Revoked, Initiator::Admin).await;
                let known = &mut self.sessions[index];
                match result {
                    Ok(_) => known.told = Told::Over,
                    Err(error) => {
                        failed_in_the_store(&error);
                        known.told = if known.told == Told::Over { Told::Over } else { Told::Nothing };
                    }
                }
            }
            Command::StepUp(which) => {
                let index = index(which);
                let command =
                    StepUpSession { tier: None, scope: None, acr: None, amr: vec![], auth_time: None, device: None };
                let result = service.step_up(self.sessions[index].id, command).await;
                let known = &mut self.sessions[index];
                match result {
                    Ok(opened) => {
                        assert_ne!(known.told, Told::Over, "a session that was over was stepped up");
                        known.told = Told::Over;
                        self.sessions.push(Known::new(opened.session_id, opened.tokens));
                    }
                    Err(ServiceError::Over(_)) => {
                        assert_ne!(known.told, Told::Alive);
                        known.told = Told::Over;
                    }
                    Err(error) => {
                        failed_in_the_store(&error);
                        known.told = if known.told == Told::Over { Told::Over } else { Told::Nothing };
                    }
                }
            }
            Command::SetScope(which, read) => {
                let index = index(which);
                let known = &mut self.sessions[index];
                match service.set_scope(known.id, read.then(|| "read".to_owned())).await {
                    Ok(_) => assert_ne!(known.told, Told::Over, "a session that was over was changed"),
                    Err(ServiceError::Over(_)) => {
                        assert_ne!(known.told, Told::Alive);
                        known.told = Told::Over;
                    }
                    Err(error) => failed_in_the_store(&error),
                }
            }
            Command::RevokeAll => {
                let result = service.change_subject(alice(), subjects::Command::RevokeSessions).await;
                self.all(acknowledged(result), None);
            }
            Command::RevokeOthers(which) => {
                let index = index(which);
                let command = subjects::Command::RevokeOthers(self.sessions[index].id);
                match service.change_subject(alice(), command).await {
                    Err(ServiceError::Subject(_)) => assert_ne!(self.sessions[index].told, Told::Alive),
                    result => {
                        let done = acknowledged(result);
                        assert!(!done || self.sessions[index].told != Told::Over, "a session that was over was kept");
                        self.all(done, Some(index));
                    }
                }
            }
            Command::SetRoles(admin) => {
                let roles = if admin { vec!["admin".parse().unwrap()] } else { vec![] };
                acknowledged(service.change_subject(alice(), subjects::Command::SetRoles(roles)).await);
            }
            Command::Disable => {
                let done = acknowledged(service.change_subject(alice(), subjects::Command::Disable).await);
                self.enabled = if done { Told::Over } else { Told::Nothing };
                self.all(done, None);
            }
            Command::Enable => {
                let done = acknowledged(service.change_subject(alice(), subjects::Command::Enable).await);
                self.enabled = if done { Told::Alive } else { Told::Nothing };
            }
            Command::RevokeTenant => {
                let done = acknowledged(service.revoke_tenant("acme".parse().unwrap()).await);
                self.all(done, None);
            }
            Command::Everyone(end) => {
                let command = if end { EveryoneCommand::EndSessions } else { EveryoneCommand::RenewTokens };
                let done = acknowledged(service.change_everyone(command).await);
                if end {
                    self.all(done, None);
                }
            }
            Command::Follow => service.feed.follow(Duration::ZERO).await.unwrap(),
        }
        self.store.disarm();
    }

    async fn refreshed(&mut self, index: usize, result: Result<Tokens, ServiceError>) {
        self.store.disarm();
        let judge = origin(&AnyStore::new(self.store.clone())).await;
        let known = &mut self.sessions[index];
        match result {
            Ok(tokens) if known.told == Told::Over => {
                // An origin that has not heard of the end of a wider scope makes nothing that counts.
                assert!(claims(&judge, &tokens.access_token).await.is_none());
            }
            Ok(tokens) => {
                known.ancestor = known.previous.replace(known.refresh_token.clone());
                (known.access_token, known.refresh_token) = (tokens.access_token, tokens.refresh_token);
            }
            Err(ServiceError::InvalidGrant) => {
                assert_ne!(known.told, Told::Alive, "a session that lives was refused");
                known.told = Told::Over;
            }
            Err(error) => failed_in_the_store(&error),
        }
    }

    async fn check(&self) {
        let judge = origin(&AnyStore::new(self.store.clone())).await;
        for known in &self.sessions {
            let over = judge.session(known.id).await.unwrap().over;
            match known.told {
                Told::Alive => assert_eq!(over, None, "{:?}", known.id),
                Told::Over => {
                    assert!(over.is_some(), "{:?} was revived", known.id);
                    assert!(claims(&judge, &known.access_token).await.is_none());
                }
                Told::Nothing => {}
            }
        }
    }

    /// Whoever was told that a session lives gets tokens that count; whoever was told that it is over gets none.
    async fn settle(&self) {
        let judge = origin(&AnyStore::new(self.store.clone())).await;
        for known in &self.sessions {
            match known.told {
                Told::Alive => lives(&judge, &refresh(&judge, &known.refresh_token).await.unwrap()).await,
                Told::Over => assert!(refresh(&judge, &known.refresh_token).await.is_err()),
                Told::Nothing => {}
            }
        }
    }
}

fn failed_in_the_store(error: &ServiceError) {
    // An id that another session has cannot be drawn.
    assert!(matches!(error, ServiceError::Store(_) | ServiceError::Library), "{error}");
}

fn acknowledged<T>(result: Result<T, ServiceError>) -> bool {
    if let Err(error) = &result {
        failed_in_the_store(error);
    }
    result.is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// I2, I3, I4, SES-02, SES-05..SES-08: what a caller was told stays true.
    #[test]
    fn what_callers_were_told_stays_true(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.run(step).await;
                world.check().await;
            }
            world.settle().await;
        });
    }
}
