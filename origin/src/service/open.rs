//! Opens a session.

use metrics::counter;
use shared::{
    id::{ClientId, Role, SessionId, SubjectId, TenantId},
    refresh::{ClientContext, Seed},
    revocation::Version,
    roster::{Limit, OnLimit},
    session::{Device, Open, Session, Tier},
    subject::{Subject, Versions},
    time::Timestamp,
};

use super::{
    Service, ServiceError, Tokens, events,
    sessions::kept_until,
    surroundings::{Wider, subject_target},
    write::{Change, encode},
};
use crate::{
    failpoints, shell,
    store::{Key, Swapped},
    telemetry::metrics::SESSIONS_OPENED,
};

/// With texts of this length neither a token nor a record comes near its limit.
const TEXT_BYTES_SMALL: usize = 256;

/// The longest scope.
pub const SCOPE_BYTES_MAX: usize = 512;

/// The longest name of an authentication context class or method.
pub const AUTHENTICATION_BYTES_MAX: usize = 64;

/// What a login service says of someone whom it authenticated.
#[derive(Debug, Clone)]
pub struct OpenSession {
    /// Who.
    pub subject: SubjectId,
    /// Of which organisation.
    pub tenant: Option<TenantId>,
    /// By which client.
    pub client_id: ClientId,
    /// Replaces the subject's roles if given and different.
    pub roles: Option<Vec<Role>>,
    /// Space-separated scope.
    pub scope: Option<String>,
    /// Authentication context class.
    pub acr: Option<String>,
    /// Authentication methods.
    pub amr: Vec<String>,
    /// When, if not just now.
    pub auth_time: Option<Timestamp>,
    /// Decides how long the session may last; `sessions.tier` if left out.
    pub tier: Option<Tier>,
    /// The device.
    pub device: Option<Device>,
    /// What happens over `sessions.concurrent_max`, if there is such a limit; `sessions.on_limit` if left out.
    pub on_limit: Option<OnLimit>,
}

/// A session and its first tokens.
pub struct Opened {
    /// The session.
    pub session_id: SessionId,
    /// When it is over at the latest.
    pub expires_at: Timestamp,
    /// Its tokens.
    pub tokens: Tokens,
}

impl Service {
    /// Opens a session of a subject, which is made if it was not known.
    ///
    /// # Errors
    ///
    /// The subject is disabled, of another tenant, or has as many sessions as it may have; a value is too large; or the
    /// store fails: then the session may exist, but nobody has its tokens.
    pub async fn open(&self, request: OpenSession) -> Result<Opened, ServiceError> {
        check_texts(request.scope.as_deref(), request.acr.as_deref(), &request.amr)?;
        self.check_client(&request.client_id, request.scope.as_deref())?;
        let now = shell::now();
        self.check_sizes(&request, now)?;
        self.read_wider(&request.subject, request.tenant.as_ref()).await?;
        let subject = self.ensure_subject(&request, now).await?;
        let tenant = match &request.tenant {
            Some(tenant) => Some(self.tenant_record(tenant, now).await?),
            None => None,
        };
        let id = SessionId::from_random(shell::random()?);
        let tenant = request.tenant.as_ref().zip(tenant);
        let wider = Wider { subject, tenant, everyone: self.everyone_record(now).await? };
        let around = self.around_with(&id, &request.subject, wider);
        let around = around.as_surroundings();
        let limit = self.limit.map(|limit| Limit { on_limit: request.on_limit.unwrap_or(limit.on_limit), ..limit });
        let open = request.command(Seed(shell::random()?), self.default_tier);
        let session = Session::open(open, &around, now)?;
        // A session that was just opened is alive, unless it was opened for no time at all.
        let live = session.live(around, now).map_err(|_| ServiceError::Invalid("the session would be over at once"))?;
        let tokens = self.tokens(&live, &id, session.generation, None, now)?;
        let write = self.write_new(&id, &session);
        match limit {
            Some(limit) => self.take_place(&id, &session, limit, write, now).await?,
            None => write.await?,
        }
        counter!(SESSIONS_OPENED, "tier" => session.tier.name()).increment(1);
        events::created(&self.tags.of(&id), &session, None);
        Ok(Opened { session_id: id, expires_at: session.expires_at, tokens })
    }

    /// Writes the record of a session that nobody knows yet.
    pub(super) async fn write_new(&self, id: &SessionId, session: &Session) -> Result<(), ServiceError> {
        let bytes = encode(session)?;
        // An entry without a session is passed over; a session without an entry could not be listed.
        self.store.index_add(&session.subject, id, session.expires_at).await?;
        failpoints::reached(failpoints::BETWEEN_INDEX_AND_RECORD);
        match self.store.swap(&Key::Session(*id), None, &bytes, kept_until(session)).await? {
            Swapped::Done => {
                failpoints::reached(failpoints::AFTER_OPEN);
                Ok(())
            }
            Swapped::Conflict => Err(ServiceError::Library),
        }
    }

    /// Refuses a session that is too large or over already before its subject is made or changed. What is obviously
    /// small enough is not made twice.
    fn check_sizes(&self, request: &OpenSession, now: Timestamp) -> Result<(), ServiceError> {
        if request.auth_time.is_none() && request.text_bytes() <= TEXT_BYTES_SMALL {
            return Ok(());
        }
        let roles = request.roles.clone().unwrap_or_default();
        let subject = Subject::new(request.tenant.clone(), roles, Version::NONE)?;
        let id = SessionId::from_random([0; 16]);
        let everyone = Versions::new(Version::NONE);
        let tenant = request.tenant.as_ref().map(|tenant| (tenant, everyone));
        let around = self.around_with(&id, &request.subject, Wider { subject: subject.into(), tenant, everyone });
        let around = around.as_surroundings();
        let session = Session::open(request.command(Seed([0; 16]), self.default_tier), &around, now)?;
        let live = session.live(around, now).map_err(|_| ServiceError::Invalid("the session would be over at once"))?;
        self.tokens(&live, &id, session.generation, None, now)?;
        encode(&session).map(drop)
    }

    /// A session of a client that cannot refresh it, or with a scope that it is never given, helps nobody.
    pub(super) fn check_client(&self, client_id: &ClientId, scope: Option<&str>) -> Result<(), ServiceError> {
        let client = self.clients.get(client_id);
        let client = client.ok_or(ServiceError::Invalid("client_id is not a client of the configuration"))?;
        if scope.is_none_or(|scope| client.may_have(scope)) {
            Ok(())
        } else {
            Err(ServiceError::Invalid("scope holds more than the client may be given"))
        }
    }

    /// The subject's record, made or given other roles if need be.
    async fn ensure_subject(
        &self,
        request: &OpenSession,
        now: Timestamp,
    ) -> Result<std::sync::Arc<Subject>, ServiceError> {
        if let Some(subject) = self.subject_record(&request.subject, now).await? {
            subject.check_tenant(request.tenant.as_ref())?;
            let floor = subject.versions.version;
            let same = match &request.roles {
                Some(roles) => subject.with_roles(roles.clone(), floor)?.is_none(),
                None => true,
            };
            if same {
                return Ok(subject);
            }
        }
        let rule = |subject: Option<Subject>, floor| {
            let Some(subject) = subject else {
                let roles = request.roles.clone().unwrap_or_default();
                let subject = Subject::new(request.tenant.clone(), roles, floor)?;
                return Ok(Change { record: Some(subject), raise: None, stands: floor });
            };
            subject.check_tenant(request.tenant.as_ref())?;
            let changed = match &request.roles {
                Some(roles) => subject.with_roles(roles.clone(), floor)?,
                None => None,
            };
            Ok(Change {
                raise: changed.as_ref().map(|subject| subject.versions.version),
                record: changed,
                stands: floor,
            })
        };
        let (changed, subject) = self.change(&subject_target(&request.subject), now, rule, |_| None).await?;
        if changed.raised() {
            events::roles_changed(&request.subject);
        }
        Ok(self.keep_subject(&request.subject, subject.ok_or(ServiceError::NotFound)?))
    }
}

impl OpenSession {
    fn command(&self, seed: Seed, default_tier: Tier) -> Open {
        Open {
            context: ClientContext::new(&self.client_id, None),
            subject: self.subject.clone(),
            tenant: self.tenant.clone(),
            client_id: self.client_id.clone(),
            tier: self.tier.unwrap_or(default_tier),
            seed,
            auth_time: self.auth_time,
            acr: self.acr.clone(),
            amr: self.amr.clone(),
            scope: self.scope.clone(),
            device: self.device.clone(),
        }
    }

    /// How much of a token and a record the caller chose; of a device at most about as much again is kept.
    fn text_bytes(&self) -> usize {
        let names = [self.subject.as_str(), self.client_id.as_str(), self.tenant.as_ref().map_or("", TenantId::as_str)];
        let texts = [&self.scope, &self.acr].map(|text| text.as_deref().unwrap_or_default());
        let lists = self.roles.iter().flatten().map(Role::as_str).chain(self.amr.iter().map(String::as_str));
        // Two quotes and a comma around each.
        names.into_iter().chain(texts).chain(lists).map(|text| text.len().saturating_add(3)).sum()
    }
}

/// RFC 6749 §3.3: scope tokens of visible ASCII without quote and backslash, one space between them.
pub(super) fn check_texts(scope: Option<&str>, acr: Option<&str>, amr: &[String]) -> Result<(), ServiceError> {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    };
    if scope.is_some_and(|scope| scope.len() > SCOPE_BYTES_MAX || !scope.split(' ').all(is_token)) {
        return Err(ServiceError::Invalid(
            "scope must be scope tokens with one space between them (RFC 6749, section 3.3), of 512 bytes in all",
        ));
    }
    let is_name = |text: &str| text.len() <= AUTHENTICATION_BYTES_MAX && is_token(text);
    if acr.is_some_and(|acr| !is_name(acr)) || !amr.iter().all(|amr| is_name(amr)) {
        return Err(ServiceError::Invalid(
            "acr and amr must have 1 to 64 bytes of visible ASCII without quote and backslash",
        ));
    }
    Ok(())
}
