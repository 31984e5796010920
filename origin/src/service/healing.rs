//! Records that fell back while the floors of what they lost are still known, as after a restore from an old backup: what
//! was ended stays ended, and no version falls (I2, I4).

use shared::{
    codec::Record as _,
    id::{SessionId, SubjectId},
    revocation::{FloorKey, Version},
    session::{EndReason, Initiator},
    subject::{Subject, Versions},
};

use super::{
    Service,
    everyone::EveryoneCommand,
    faults::{lives, origin, refresh, request},
    subjects::Command,
};
use crate::{
    config,
    store::{AnyStore, Key, Swapped, faulty::FaultyStore, test_server::Server},
};

/// The records that one subject and its session depend on.
fn keys(session: SessionId) -> Vec<Key> {
    vec![Key::Session(session), Key::Subject(alice()), Key::Tenant("acme".parse().unwrap()), Key::Everyone]
}

fn alice() -> SubjectId {
    "alice".parse().unwrap()
}

/// What is lost with the records: a command that was acknowledged.
#[derive(Debug, Clone, Copy)]
enum Lost {
    Session,
    Subject,
    /// All but the session that is looked at.
    Others,
    Disabled,
    Tenant,
    Everyone,
    Roles,
    EveryoneRenewed,
}

impl Lost {
    async fn run(self, service: &Service, session: SessionId) {
        let subject = |command| service.change_subject(alice(), command);
        match self {
            Self::Session => service.revoke_session(session, EndReason::Revoked, Initiator::Admin).await,
            Self::Subject => subject(Command::RevokeSessions).await,
            Self::Others => {
                let other = service.open(request("alice", "acme")).await.unwrap();
                subject(Command::RevokeOthers(other.session_id)).await
            }
            Self::Disabled => subject(Command::Disable).await,
            Self::Tenant => service.revoke_tenant("acme".parse().unwrap()).await,
            Self::Everyone => service.change_everyone(EveryoneCommand::EndSessions).await,
            Self::Roles => subject(Command::SetRoles(vec!["admin".parse().unwrap()])).await,
            Self::EveryoneRenewed => service.change_everyone(EveryoneCommand::RenewTokens).await,
        }
        .unwrap();
    }

    fn ends_the_session(self) -> bool {
        !matches!(self, Self::Roles | Self::EveryoneRenewed)
    }
}

/// Puts a value back.
async fn put_back(store: &AnyStore, key: &Key, old: Option<Vec<u8>>) {
    // A record that was not there yet cannot be taken away here; everyone's begins like this.
    let first = || Versions { version: Version::NONE, sessions_floor: Version::NONE }.encode().unwrap();
    let old = old.unwrap_or_else(first);
    let held = store.load(key).await.unwrap();
    if held.as_ref() != Some(&old) {
        assert_eq!(store.swap(key, held.as_deref(), &old, None).await, Ok(Swapped::Done));
    }
}

async fn a_record_that_fell_back_is_healed(store: &AnyStore) {
    use Lost::{Disabled, Everyone, EveryoneRenewed, Others, Roles, Session, Subject as All, Tenant};
    for lost in [Roles, EveryoneRenewed, Session, All, Others, Disabled, Tenant, Everyone] {
        let before = origin(store).await;
        let opened = before.open(request("alice", "acme")).await.unwrap();
        let keys = keys(opened.session_id);
        let backup = store.load_many(&keys).await.unwrap();
        lost.run(&before, opened.session_id).await;
        for (key, old) in keys.iter().zip(backup) {
            put_back(store, key, old).await;
        }

        let service = origin(store).await;
        if lost.ends_the_session() {
            assert!(refresh(&service, &opened.tokens.refresh_token).await.is_err(), "{lost:?}");
            assert!(service.session(opened.session_id).await.unwrap().over.is_some(), "{lost:?}");
            // The twin: who signs in anew is in.
            lives(&service, &service.open(request("alice", "acme")).await.unwrap().tokens).await;
        } else {
            let renewed = refresh(&service, &opened.tokens.refresh_token).await.unwrap();
            lives(&service, &renewed).await;
        }
        let stored = store.load(&Key::Subject(alice())).await.unwrap().unwrap();
        let floor = service.feed.lowest(&FloorKey::subject(&alice()));
        assert!(Subject::decode(&stored).unwrap().versions.version >= floor, "{lost:?}");
    }
}

#[tokio::test]
async fn in_memory() {
    a_record_that_fell_back_is_healed(&AnyStore::new(FaultyStore::new())).await;
}

#[tokio::test]
async fn in_the_embedded_store() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("embedded:{}", directory.path().join("store.db").display());
    let config = config::Store { url: url.into(), timeout_ms: 10_000, ..config::Store::default() };
    a_record_that_fell_back_is_healed(&AnyStore::open(&config).await.unwrap()).await;
}

#[tokio::test]
async fn in_redis() {
    let server = Server::start(&[]);
    let config = config::Store { url: server.url().into(), timeout_ms: 10_000, ..config::Store::default() };
    a_record_that_fell_back_is_healed(&AnyStore::open(&config).await.unwrap()).await;
}

/// The session stays ended when its floor is forgotten: the record that fell back was written anew when it was asked for.
#[tokio::test]
async fn what_was_healed_outlives_its_floor() {
    let faulty = FaultyStore::new();
    let store = AnyStore::new(faulty.clone());
    let before = origin(&store).await;
    let opened = before.open(request("alice", "acme")).await.unwrap();
    let backup = store.load_many(&keys(opened.session_id)).await.unwrap();
    Lost::Session.run(&before, opened.session_id).await;
    for (key, old) in keys(opened.session_id).iter().zip(backup) {
        put_back(&store, key, old).await;
    }
    assert!(refresh(&origin(&store).await, &opened.tokens.refresh_token).await.is_err());
    let epoch = store.snapshot().await.unwrap().epoch;
    faulty.lose_log(shared::feed::Epoch(epoch.0 + 1));
    assert!(refresh(&origin(&store).await, &opened.tokens.refresh_token).await.is_err());
}
