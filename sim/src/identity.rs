//! Sessions, subjects and tenants by the rules of `shared`, and the tokens that clients hold.

use core::time::Duration;

use fastrand::Rng;
use shared::{
    id::{ClientId, Role, SessionId, SubjectId, TenantId},
    refresh::{ClientContext, Seed},
    revocation::{Floor, FloorKey, Floors, Version},
    session::{EndReason, Initiator, Lifetimes, Open, Policy, Refreshed, Session, Surroundings, Tier},
    subject::{Subject, Versions},
    time::Timestamp,
    token::{AccessToken, Claims, Expected, Issue},
};

use crate::sign::{KIDS, Signatures};

const SUBJECTS: usize = 5;
pub(crate) const TENANTS: usize = 2;
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "app";

/// Longer than any run.
const TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// As the origin's `feed.remember_s`.
const REMEMBER: Duration = Duration::from_secs(5_400);

const LIFETIMES: Lifetimes = Lifetimes { idle: Duration::from_secs(3_600), absolute: Duration::from_secs(36_000) };
const POLICY: Policy =
    Policy { browse: LIFETIMES, standard: LIFETIMES, privileged: LIFETIMES, retry_window: Duration::from_secs(30) };

/// A token that a client holds.
pub(crate) struct Held {
    pub(crate) token: AccessToken,
    /// When the first floor that revokes it was acknowledged.
    pub(crate) dead_since: Option<u64>,
}

/// What a command did.
pub(crate) enum Done {
    /// Nothing, since the rules did not let it.
    Nothing,
    /// A client has another token.
    Token(Box<AccessToken>),
    /// A floor rose.
    Raised(Floor),
}

struct Account {
    id: SubjectId,
    tenant: Option<usize>,
    record: Subject,
}

/// The records.
pub(crate) struct Identities {
    signatures: Signatures,
    accounts: Vec<Account>,
    tenants: Vec<(TenantId, Versions)>,
    everyone: Versions,
    sessions: Vec<(SessionId, usize, Session)>,
    /// Everything that was ever raised.
    floors: Floors,
    kid: usize,
    count: u64,
}

impl Identities {
    pub(crate) fn new(signatures: Signatures) -> Self {
        let tenants = (0..TENANTS).filter_map(|number| format!("tenant-{number}").parse().ok());
        let tenants: Vec<TenantId> = tenants.collect();
        let account = |number: usize| {
            let tenant = (number % (TENANTS + 1)).checked_sub(1);
            let name = tenant.and_then(|tenant| tenants.get(tenant)).cloned();
            let id = format!("subject-{number}").parse().ok()?;
            Some(Account { id, tenant, record: Subject::new(name, Vec::new(), Version::NONE).ok()? })
        };
        Self {
            signatures,
            accounts: (0..SUBJECTS).filter_map(account).collect(),
            tenants: tenants.iter().map(|id| (id.clone(), Versions::new(Version::NONE))).collect(),
            everyone: Versions::new(Version::NONE),
            sessions: Vec::new(),
            floors: Floors::new(),
            kid: 0,
            count: 0,
        }
    }

    /// A command of one kind or another.
    pub(crate) fn act(&mut self, rng: &mut Rng, now: Timestamp) -> Done {
        let session = rng.usize(..self.sessions.len().max(1));
        let done = match rng.u32(..100) {
            0..30 => self.open(rng, now).map(|token| Done::Token(Box::new(token))),
            30..60 => self.refresh(session, now).map(|token| Done::Token(Box::new(token))),
            60..85 => self.end(session, now).map(Done::Raised),
            85..91 => self.set_roles(rng, now).map(Done::Raised),
            91..95 => self.end_subject(rng.usize(..SUBJECTS), now).map(Done::Raised),
            95..98 => self.end_tenant(rng.usize(..TENANTS), now).map(Done::Raised),
            98 => Some(Done::Raised(self.end_everyone(now))),
            _ => self.revoke_key(now).map(Done::Raised),
        };
        done.unwrap_or(Done::Nothing)
    }

    pub(crate) fn open(&mut self, rng: &mut Rng, now: Timestamp) -> Option<AccessToken> {
        self.open_for(rng.usize(..self.accounts.len().max(1)), rng, now)
    }

    /// A session of a tenant.
    pub(crate) fn open_in(&mut self, tenant: usize, rng: &mut Rng, now: Timestamp) -> Option<AccessToken> {
        let number = self.accounts.iter().position(|account| account.tenant == Some(tenant))?;
        self.open_for(number, rng, now)
    }

    fn open_for(&mut self, number: usize, rng: &mut Rng, now: Timestamp) -> Option<AccessToken> {
        let (client_id, account) = (client()?, self.accounts.get(number)?);
        let mut random = [0; 16];
        rng.fill(&mut random);
        let id = SessionId::from_random(random);
        let open = Open {
            subject: account.id.clone(),
            tenant: account.record.tenant.clone(),
            context: ClientContext::new(&client_id, None),
            client_id,
            tier: Tier::Standard,
            seed: Seed(random),
            auth_time: None,
            acr: None,
            amr: Vec::new(),
            scope: None,
            device: None,
        };
        let session = Session::open(open, &self.around(&id, account), now).ok()?;
        self.sessions.push((id, number, session));
        self.mint(self.sessions.len() - 1, now)
    }

    fn refresh(&mut self, index: usize, now: Timestamp) -> Option<AccessToken> {
        let (id, account, session) = self.sessions.get(index)?;
        let (client_id, account) = (client()?, self.accounts.get(*account)?);
        let context = ClientContext::new(&client_id, None);
        let live = session.live(self.around(id, account), now).ok()?;
        if let Ok(Refreshed::Rotated { session, .. }) = live.refresh(session.generation, &client_id, context, now) {
            self.sessions.get_mut(index)?.2 = *session;
        }
        self.mint(index, now)
    }

    fn mint(&mut self, index: usize, now: Timestamp) -> Option<AccessToken> {
        self.count += 1;
        let jti = self.count.to_string();
        let (id, account, session) = self.sessions.get(index)?;
        let account = self.accounts.get(*account)?;
        let live = session.live(self.around(id, account), now).ok()?;
        let issue = Issue { issuer: ISSUER, audience: AUDIENCE, jti: &jti, lifetime: TOKEN_LIFETIME };
        let text = self.signatures.token(KIDS.get(self.kid)?, &Claims::mint(&live, id, &issue, now));
        let expected = Expected { issuer: ISSUER, audience: AUDIENCE };
        AccessToken::verify(&text, &self.signatures.token_keys(), &self.signatures, expected).ok()
    }

    fn around<'a>(&'a self, id: &'a SessionId, account: &'a Account) -> Surroundings<'a> {
        let tenant = account.tenant.and_then(|tenant| self.tenants.get(tenant));
        Surroundings {
            id,
            subject: &account.record,
            tenant: tenant.map(|(_, versions)| versions),
            everyone: &self.everyone,
            policy: &POLICY,
            session_floor: self.floors.lowest(&FloorKey::session(id)),
            subject_floor: self.floors.lowest(&FloorKey::subject(&account.id)),
            tenant_floor: tenant.map_or(Version::NONE, |(id, _)| self.floors.lowest(&FloorKey::tenant(id))),
            everyone_floor: self.floors.lowest(&FloorKey::everyone()),
        }
    }

    fn end(&mut self, index: usize, now: Timestamp) -> Option<Floor> {
        let (id, _, session) = self.sessions.get_mut(index)?;
        *session = session.ended(EndReason::Revoked, Initiator::Admin, now)?;
        let key = FloorKey::session(id);
        Some(self.raise(key, Version::ENDED, now))
    }

    /// Ends sessions whose tokens nobody shows.
    pub(crate) fn end_many(&mut self, count: u64, rng: &mut Rng, now: Timestamp) -> Vec<Floor> {
        let end = |_| {
            let mut random = [0; 16];
            rng.fill(&mut random);
            self.raise(FloorKey::session(&SessionId::from_random(random)), Version::ENDED, now)
        };
        (0..count).map(end).collect()
    }

    fn set_roles(&mut self, rng: &mut Rng, now: Timestamp) -> Option<Floor> {
        let number = rng.usize(..SUBJECTS);
        let roles: Vec<Role> =
            ["admin", "member"].iter().filter(|_| rng.bool()).filter_map(|role| role.parse().ok()).collect();
        let account = self.accounts.get_mut(number)?;
        let key = FloorKey::subject(&account.id);
        account.record = account.record.with_roles(roles, self.floors.lowest(&key)).ok()??;
        let version = account.record.versions.version;
        Some(self.raise(key, version, now))
    }

    fn end_subject(&mut self, number: usize, now: Timestamp) -> Option<Floor> {
        let account = self.accounts.get_mut(number)?;
        let key = FloorKey::subject(&account.id);
        account.record = account.record.with_sessions_ended(self.floors.lowest(&key));
        let version = account.record.versions.version;
        Some(self.raise(key, version, now))
    }

    pub(crate) fn end_tenant(&mut self, number: usize, now: Timestamp) -> Option<Floor> {
        let (id, versions) = self.tenants.get_mut(number)?;
        let key = FloorKey::tenant(id);
        *versions = versions.sessions_ended(self.floors.lowest(&key));
        let version = versions.version;
        Some(self.raise(key, version, now))
    }

    fn end_everyone(&mut self, now: Timestamp) -> Floor {
        self.everyone = self.everyone.sessions_ended(self.floors.lowest(&FloorKey::everyone()));
        self.raise(FloorKey::everyone(), self.everyone.version, now)
    }

    fn revoke_key(&mut self, now: Timestamp) -> Option<Floor> {
        let (kid, _) = (KIDS.get(self.kid)?, KIDS.get(self.kid + 1)?);
        self.kid += 1;
        Some(self.raise(FloorKey::signing_key(kid), Version::ENDED, now))
    }

    fn raise(&mut self, key: FloorKey, lowest: Version, now: Timestamp) -> Floor {
        let forget_at = Timestamp::from_secs(now.saturating_add(REMEMBER).as_secs_ceil());
        let floor = Floor { key, lowest, forget_at };
        self.floors.join(floor);
        floor
    }

    /// Everything that was ever raised.
    pub(crate) fn floors(&self) -> &Floors {
        &self.floors
    }
}

fn client() -> Option<ClientId> {
    "web".parse().ok()
}
