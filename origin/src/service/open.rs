//! Opens a session.

use metrics::counter;
use shared::{
    id::{ClientId, Role, SessionId, SubjectId, TenantId},
    refresh::{ClientContext, Seed},
    revocation::Version,
    session::{Open, Session, Surroundings},
    subject::Subject,
    time::Timestamp,
};

use super::{
    RECORD_MARGIN, Service, ServiceError, Tokens,
    surroundings::subject_target,
    write::{Change, encode},
};
use crate::{
    shell,
    store::{Key, Swapped},
    telemetry::metrics::SESSIONS_OPENED,
};

/// With texts of this length neither a token nor a record comes near its limit.
const TEXT_BYTES_SMALL: usize = 256;

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
    /// The subject is disabled or of another tenant, a value is too large, or the store fails: then the session may
    /// exist, but nobody has its tokens.
    pub async fn open(&self, request: OpenSession) -> Result<Opened, ServiceError> {
        check_texts(&request)?;
        self.check_client(&request)?;
        let now = shell::now();
        self.check_sizes(&request, now)?;
        let subject = self.ensure_subject(&request, now).await?;
        let tenant = match &request.tenant {
            Some(tenant) => Some(self.tenant_record(tenant, now).await?),
            None => None,
        };
        let around = self.around_with(None, &request.subject, subject, request.tenant.as_ref().zip(tenant));
        let around = around.as_surroundings();
        let id = SessionId::from_random(shell::random()?);
        let seed = Seed(shell::random()?);
        let session = Session::open(request.command(seed), &around, &self.lifetimes, now)?;
        // A session that was just opened is alive, unless it was opened for no time at all.
        let live = session.live(around, now).map_err(|_| ServiceError::Invalid("the session would be over at once"))?;
        let tokens = self.tokens(&live, &id, session.generation, None, now)?;
        let bytes = encode(&session)?;
        let kept_until = session.expires_at.saturating_add(RECORD_MARGIN);

        // An entry without a session is passed over; a session without an entry could not be listed.
        self.store.index_add(&session.subject, &id, session.expires_at).await?;
        if self.store.swap(&Key::Session(id), None, &bytes, Some(kept_until)).await? == Swapped::Conflict {
            return Err(ServiceError::Library);
        }
        counter!(SESSIONS_OPENED).increment(1);
        tracing::info!(event = "session_created", session = %id, client = session.client_id.as_str());
        Ok(Opened { session_id: id, expires_at: session.expires_at, tokens })
    }

    /// Refuses a session that is too large or over already before its subject is made or changed. What is obviously
    /// small enough is not made twice.
    fn check_sizes(&self, request: &OpenSession, now: Timestamp) -> Result<(), ServiceError> {
        if request.auth_time.is_none() && request.text_bytes() <= TEXT_BYTES_SMALL {
            return Ok(());
        }
        let roles = request.roles.clone().unwrap_or_default();
        let subject = Subject::new(request.tenant.clone(), roles, Version::NONE)?;
        let versions = subject.versions;
        let around = Surroundings {
            subject: &subject,
            tenant: request.tenant.is_some().then_some(&versions),
            session_floor: Version::NONE,
            subject_floor: Version::NONE,
            tenant_floor: Version::NONE,
        };
        let session = Session::open(request.command(Seed([0; 16])), &around, &self.lifetimes, now)?;
        let live = session.live(around, now).map_err(|_| ServiceError::Invalid("the session would be over at once"))?;
        self.tokens(&live, &SessionId::from_random([0; 16]), session.generation, None, now)?;
        encode(&session).map(drop)
    }

    /// A session of a client that cannot refresh it, or with a scope that it is never given, helps nobody.
    fn check_client(&self, request: &OpenSession) -> Result<(), ServiceError> {
        let client = self.clients.get(&request.client_id);
        let client = client.ok_or(ServiceError::Invalid("client_id is not a client of the configuration"))?;
        if request.scope.as_deref().is_none_or(|scope| client.may_have(scope)) {
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
        let (_, subject) = self.change(&subject_target(&request.subject), now, rule, |_| None).await?;
        Ok(self.keep_subject(&request.subject, subject.ok_or(ServiceError::NotFound)?))
    }
}

impl OpenSession {
    fn command(&self, seed: Seed) -> Open {
        Open {
            context: ClientContext::new(&self.client_id, None),
            subject: self.subject.clone(),
            tenant: self.tenant.clone(),
            client_id: self.client_id.clone(),
            seed,
            auth_time: self.auth_time,
            acr: self.acr.clone(),
            amr: self.amr.clone(),
            scope: self.scope.clone(),
        }
    }

    /// How much of a token and a record the caller chose.
    fn text_bytes(&self) -> usize {
        let names = [self.subject.as_str(), self.client_id.as_str(), self.tenant.as_ref().map_or("", TenantId::as_str)];
        let texts = [&self.scope, &self.acr].map(|text| text.as_deref().unwrap_or_default());
        let lists = self.roles.iter().flatten().map(Role::as_str).chain(self.amr.iter().map(String::as_str));
        // Two quotes and a comma around each.
        names.into_iter().chain(texts).chain(lists).map(|text| text.len().saturating_add(3)).sum()
    }
}

/// RFC 6749 §3.3: scope tokens of visible ASCII without quote and backslash, one space between them.
fn check_texts(request: &OpenSession) -> Result<(), ServiceError> {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    };
    if request.scope.as_deref().is_some_and(|scope| !scope.split(' ').all(is_token)) {
        return Err(ServiceError::Invalid(
            "scope must be scope tokens with one space between them (RFC 6749, section 3.3)",
        ));
    }
    if request.acr.as_deref().is_some_and(|acr| !is_token(acr)) || !request.amr.iter().all(|amr| is_token(amr)) {
        return Err(ServiceError::Invalid(
            "acr and amr must be visible ASCII without quote and backslash, and not empty",
        ));
    }
    Ok(())
}
