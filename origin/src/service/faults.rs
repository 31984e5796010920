//! Every command over a store whose writes fail one after the other, and the same command once more after it.
//!
//! What is shown of each: nothing that was acknowledged is lost (I2), no session has two live generations and no alarm is
//! false (I3), no floor falls (I4), what ended stays ended. The last round of each is the twin without a fault.

use std::time::Duration;

use shared::{
    feed::Cursor,
    id::{Role, SessionId},
    refresh::Generation,
    revocation::Version,
    session::{EndReason, Initiator},
    token::Claims,
};

use super::{
    Service, ServiceError, Tokens,
    introspect::{ActiveToken, Viewer},
    open::{OpenSession, Opened},
    refresh::RefreshRequest,
    subjects,
};
use crate::{
    config::{
        Config,
        secrets::{ManagementKey, MasterKey, Secrets},
    },
    feed::Feed,
    keys::Keys,
    shell,
    store::{
        AnyStore, Entries, Store as _, StoreError,
        faulty::{Fault, FaultyStore},
    },
};

/// The claims of an access token that counts.
pub(super) async fn claims(judge: &Service, token: &str) -> Option<Box<Claims>> {
    match judge.introspect(token, &Viewer::Management).await.unwrap() {
        Some(ActiveToken::Access(claims)) => Some(claims),
        _ => None,
    }
}

/// Where the command is sent once more after it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    SameOrigin,
    OtherOrigin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Open,
    Refresh,
    Reuse,
    RevokeSession,
    RevokeToken,
    RevokeSubject,
    SetRoles,
    Disable,
    RevokeTenant,
}

/// An origin that follows the log only when it is told to: what it knows it did itself, or read when it started.
pub(super) async fn origin(store: &AnyStore) -> Service {
    origin_with(store, &Config::default()).await
}

pub(super) async fn origin_with(store: &AnyStore, config: &Config) -> Service {
    let store = std::sync::Arc::new(store.clone());
    let master_key = MasterKey::new([7; 32]);
    let keys = Keys::open(store.clone(), &master_key, config, shell::now()).await.unwrap();
    let feed = Feed::load(store.clone(), keys.clone(), config).await.unwrap();
    let secrets = Secrets { master_key, management_key: ManagementKey::new("management-key-of-a-test") };
    Service::new(store, keys, feed, config, &secrets).unwrap()
}

pub(super) fn request(subject: &str, tenant: &str) -> OpenSession {
    OpenSession {
        subject: subject.parse().unwrap(),
        tenant: Some(tenant.parse().unwrap()),
        client_id: "web".parse().unwrap(),
        roles: None,
        scope: None,
        acr: None,
        amr: vec![],
        auth_time: None,
        tier: None,
        device: None,
        on_limit: None,
    }
}

pub(super) async fn refresh(service: &Service, token: &str) -> Result<Tokens, ServiceError> {
    let client = "web".parse().unwrap();
    service.refresh(RefreshRequest { token: token.to_owned(), client, scope: None, user_agent: None }).await
}

fn admin() -> Vec<Role> {
    vec!["admin".parse().unwrap()]
}

struct World {
    store: FaultyStore,
    service: Service,
    alice: Opened,
    bystander: Opened,
}

impl World {
    async fn new(command: Command) -> Self {
        let store = FaultyStore::new();
        let service = origin(&AnyStore::new(store.clone())).await;
        let mut alice = service.open(request("alice", "acme")).await.unwrap();
        let bystander = service.open(request("bob", "other")).await.unwrap();
        if command == Command::Reuse {
            // The token that is used again is two generations old.
            let second = refresh(&service, &alice.tokens.refresh_token).await.unwrap();
            let third = refresh(&service, &second.refresh_token).await.unwrap();
            alice.tokens.access_token = third.access_token;
        }
        Self { store, service, alice, bystander }
    }

    async fn other(&self) -> Service {
        origin(&AnyStore::new(self.store.clone())).await
    }

    /// The tokens that the command brought, if it brings any.
    async fn run(&self, service: &Service, command: Command) -> Result<Option<Tokens>, ServiceError> {
        let (id, alice) = (self.alice.session_id, "alice".parse().unwrap());
        match command {
            Command::Open => return Ok(Some(service.open(request("zoe", "acme")).await?.tokens)),
            Command::Refresh => return refresh(service, &self.alice.tokens.refresh_token).await.map(Some),
            Command::Reuse => match refresh(service, &self.alice.tokens.refresh_token).await {
                Err(ServiceError::InvalidGrant) => return Ok(None),
                Err(error) => return Err(error),
                Ok(_) => panic!("a token that was used before brought tokens"),
            },
            Command::RevokeSession => service.revoke_session(id, EndReason::Revoked, Initiator::Admin).await?,
            Command::RevokeToken => {
                let client = service.clients().get(&"web".parse().unwrap()).unwrap();
                service.revoke_token(&self.alice.tokens.refresh_token, &client).await?;
                return Ok(None);
            }
            Command::RevokeSubject => service.change_subject(alice, subjects::Command::RevokeSessions).await?,
            Command::SetRoles => service.change_subject(alice, subjects::Command::SetRoles(admin())).await?,
            Command::Disable => service.change_subject(alice, subjects::Command::Disable).await?,
            Command::RevokeTenant => service.revoke_tenant("acme".parse().unwrap()).await?,
        };
        Ok(None)
    }

    /// What must hold after the command was acknowledged, as an origin sees it that has nothing but the store.
    async fn check(&self, command: Command, tokens: Option<Tokens>) {
        let judge = self.other().await;
        let access = &self.alice.tokens.access_token;
        let over = judge.session(self.alice.session_id).await.unwrap().over;
        match command {
            Command::Open => {
                assert_eq!(over, None);
                assert!(claims(&judge, access).await.is_some());
                lives(&judge, &tokens.unwrap()).await;
            }
            Command::Refresh => {
                let (tokens, id) = (tokens.unwrap(), self.alice.session_id);
                assert_eq!((over, generation(&judge, id).await), (None, Generation(1)));
                let repeated = refresh(&judge, &self.alice.tokens.refresh_token).await.unwrap();
                assert_eq!(repeated.refresh_token, tokens.refresh_token, "one successor");
                lives(&judge, &tokens).await;
                assert_eq!(generation(&judge, id).await, Generation(2));
            }
            Command::SetRoles => {
                assert_eq!(over, None);
                assert!(claims(&judge, access).await.is_none());
                let renewed = refresh(&judge, &self.alice.tokens.refresh_token).await.unwrap();
                let claims = claims(&judge, &renewed.access_token).await.unwrap();
                assert_eq!(claims.roles, admin());
            }
            Command::Reuse => self.is_over(&judge, over, &["token_reuse", "revoked"]).await,
            Command::RevokeSession => self.is_over(&judge, over, &["revoked"]).await,
            Command::RevokeToken => self.is_over(&judge, over, &["signed_out", "revoked"]).await,
            Command::RevokeSubject | Command::RevokeTenant => {
                self.is_over(&judge, over, &["all_sessions_ended"]).await;
                let later = judge.open(request("alice", "acme")).await.unwrap();
                lives(&judge, &later.tokens).await;
            }
            Command::Disable => {
                self.is_over(&judge, over, &["subject_disabled"]).await;
                let refused = judge.open(request("alice", "acme")).await.err();
                assert_eq!(refused, Some(shared::session::OpenError::SubjectDisabled.into()));
            }
        }
        lives(&judge, &self.bystander.tokens).await;
        floors_never_fall(&self.store).await;
    }

    async fn is_over(&self, judge: &Service, over: Option<&str>, expected: &[&str]) {
        assert!(over.is_some_and(|over| expected.contains(&over)), "{over:?}");
        assert!(claims(judge, &self.alice.tokens.access_token).await.is_none());
        let refused = Some(ServiceError::InvalidGrant);
        assert_eq!(refresh(judge, &self.alice.tokens.refresh_token).await.err(), refused);
        // An origin that has not heard of it yet makes nothing that counts; once it has heard, it refuses.
        if let Ok(stale) = refresh(&self.service, &self.alice.tokens.refresh_token).await {
            assert!(claims(judge, &stale.access_token).await.is_none());
        }
        self.service.feed.follow(Duration::ZERO).await.unwrap();
        assert_eq!(refresh(&self.service, &self.alice.tokens.refresh_token).await.err(), refused);
    }
}

/// The access token counts and the refresh token brings another that counts.
pub(super) async fn lives(service: &Service, tokens: &Tokens) {
    assert!(claims(service, &tokens.access_token).await.is_some());
    let renewed = refresh(service, &tokens.refresh_token).await.unwrap();
    assert!(claims(service, &renewed.access_token).await.is_some());
}

async fn generation(service: &Service, id: SessionId) -> Generation {
    service.session(id).await.unwrap().session.generation
}

pub(super) async fn floors_never_fall(store: &FaultyStore) {
    let Entries::Contiguous(floors) = store.read_log(Cursor(0), 100).await.unwrap().entries else { panic!("a gap") };
    let mut highest = std::collections::BTreeMap::new();
    for floor in floors {
        let held = highest.entry(floor.key).or_insert(Version::NONE);
        assert!(floor.lowest >= *held, "{floor:?}");
        *held = floor.lowest;
    }
}

/// Lets every write of a command fail in turn; how many there were.
async fn each_write_in_turn(command: Command, fault: Fault, again: Again) -> usize {
    for nth in 0.. {
        let world = World::new(command).await;
        world.store.arm(fault, nth);
        let first = world.run(&world.service, command).await;
        let twin = world.store.disarm();
        let tokens = match first {
            Ok(tokens) => tokens,
            Err(error) => {
                let expected = match &error {
                    ServiceError::Store(error) => error.may_have_happened() || fault == Fault::Before,
                    // An id that another session has cannot be drawn.
                    _ => command == Command::Open && fault == Fault::Conflict,
                };
                assert!(expected && !twin, "{command:?} {fault:?} {nth}: {error}");
                match again {
                    Again::SameOrigin => world.run(&world.service, command).await.unwrap(),
                    Again::OtherOrigin => world.run(&world.other().await, command).await.unwrap(),
                }
            }
        };
        world.check(command, tokens).await;
        if twin {
            return nth;
        }
    }
    0
}

async fn every_fault(command: Command, writes: usize, swaps: usize) {
    for again in [Again::SameOrigin, Again::OtherOrigin] {
        assert_eq!(each_write_in_turn(command, Fault::After, again).await, writes);
        assert_eq!(each_write_in_turn(command, Fault::Before, again).await, writes);
        assert_eq!(each_write_in_turn(command, Fault::Conflict, again).await, swaps);
    }
}

#[tokio::test]
async fn an_open_whose_writes_fail() {
    every_fault(Command::Open, 3, 2).await;
}

/// REF-04, I3: the answer was lost with the write done; the same token brings the same successor and no alarm.
#[tokio::test]
async fn a_refresh_whose_write_fails() {
    every_fault(Command::Refresh, 1, 1).await;
}

#[tokio::test]
async fn an_end_by_reuse_whose_writes_fail() {
    every_fault(Command::Reuse, 3, 1).await;
}

#[tokio::test]
async fn a_revocation_whose_writes_fail() {
    every_fault(Command::RevokeSession, 3, 1).await;
}

/// REV-07: an end that was not written is an error, never a success.
#[tokio::test]
async fn a_revocation_by_token_whose_writes_fail() {
    every_fault(Command::RevokeToken, 3, 1).await;
}

#[tokio::test]
async fn a_revocation_of_a_subject_whose_writes_fail() {
    every_fault(Command::RevokeSubject, 2, 1).await;
}

#[tokio::test]
async fn a_change_of_roles_whose_writes_fail() {
    every_fault(Command::SetRoles, 2, 1).await;
}

#[tokio::test]
async fn a_disabling_whose_writes_fail() {
    every_fault(Command::Disable, 2, 1).await;
}

#[tokio::test]
async fn a_revocation_of_a_tenant_whose_writes_fail() {
    every_fault(Command::RevokeTenant, 2, 1).await;
}

/// I2: a refresh that read the record before the end of the session and writes after it does not bring it back.
#[tokio::test]
async fn a_held_refresh_does_not_revive_an_ended_session() {
    let world = World::new(Command::Refresh).await;
    world.store.arm(Fault::Held, 0);
    let revoke = async {
        world.store.held().await;
        world.other().await.revoke_session(world.alice.session_id, EndReason::Revoked, Initiator::Admin).await.unwrap();
        world.store.release();
    };
    let (refreshed, ()) = tokio::join!(world.run(&world.service, Command::Refresh), revoke);
    assert_eq!(refreshed.err(), Some(ServiceError::InvalidGrant));
    world.check(Command::RevokeSession, None).await;
}

/// I3: two refreshes with one token at two origins get one successor.
#[tokio::test]
async fn two_refreshes_at_once_get_one_successor() {
    let world = World::new(Command::Refresh).await;
    world.store.arm(Fault::Held, 0);
    let other = async {
        world.store.held().await;
        let tokens = world.run(&world.other().await, Command::Refresh).await.unwrap();
        world.store.release();
        tokens
    };
    let (one, other) = tokio::join!(world.run(&world.service, Command::Refresh), other);
    let (one, other) = (one.unwrap().unwrap(), other.unwrap());
    assert_eq!(one.refresh_token, other.refresh_token);
    world.check(Command::Refresh, Some(one)).await;
}

/// A failure after the floor was appended says that something may have been written.
#[tokio::test]
async fn a_failure_between_log_and_record_is_an_unknown_outcome() {
    let world = World::new(Command::RevokeSession).await;
    world.store.arm(Fault::Before, 1);
    let failed = world.run(&world.service, Command::RevokeSession).await.err();
    assert!(matches!(failed, Some(ServiceError::Store(StoreError::OutcomeUnknown(_)))), "{failed:?}");
    world.store.arm(Fault::Before, 0);
    let failed = world.run(&world.service, Command::RevokeTenant).await.err();
    assert!(matches!(failed, Some(ServiceError::Store(StoreError::Unavailable(_)))), "{failed:?}");
}

/// A session that is too large is refused with a reason, and nothing is written, neither of it nor of its subject.
#[tokio::test]
async fn what_is_too_large_is_refused_before_anything_is_written() {
    let world = World::new(Command::Open).await;
    let long = |bytes| Some("s".repeat(bytes));
    let roles = Some((0..16).map(|n| format!("{n:032}").parse().unwrap()).collect());
    let zoe = || request("zoe", "acme");
    for refused in [
        OpenSession { scope: long(1_000), ..zoe() },
        OpenSession { acr: long(2_000), ..zoe() },
        OpenSession { amr: vec!["otp".to_owned(); 300], ..zoe() },
        OpenSession { scope: long(400), roles, ..zoe() },
        OpenSession { auth_time: Some(shared::time::Timestamp::EPOCH), ..zoe() },
    ] {
        world.store.arm(Fault::Before, 0);
        let error = world.service.open(refused.clone()).await.err().expect("too large");
        use ServiceError::{Invalid, Open, TokenTooLarge, TooLarge};
        assert!(matches!(error, Invalid(_) | Open(_) | TokenTooLarge(_) | TooLarge(_)), "{error}");
        assert!(world.store.disarm(), "{refused:?} wrote something");
    }
    assert!(world.service.open(OpenSession { scope: long(300), ..zoe() }).await.is_ok());
}
