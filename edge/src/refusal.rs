//! Answers of the gate itself.

use shared::{decision::Denied, policy::Route, request::RequestError, resource::Resource, revocation::ScopeKind};

/// An answer that is not the application's.
pub(crate) struct Refusal {
    status: u16,
    /// The name in metrics, and in the answer.
    pub(crate) name: &'static str,
    /// `WWW-Authenticate`, if any.
    challenge: String,
    /// `Allow`, if any.
    allow: String,
    detail: String,
    /// Where a browser may sign in instead, as [`Route::sign_in`]; empty if it does not help.
    sign_in: String,
}

impl Refusal {
    /// A decision not to let the request pass.
    pub(crate) fn denied(denied: Denied, route: &Route) -> Self {
        let challenge = denied.challenge(route).unwrap_or_default();
        let sign_in = match denied {
            Denied::NoCredential | Denied::InvalidToken(_) | Denied::Revoked(_) => route.sign_in.clone(),
            _ => None,
        };
        let sign_in = sign_in.unwrap_or_default();
        Self { challenge, sign_in, ..Self::plain(denied.status(), denied.name(), denied.detail()) }
    }

    /// The origin says that the session of a refresh token is over.
    pub(crate) fn session_over(route: &Route, sign_in: &str) -> Self {
        let challenge = Denied::Revoked(ScopeKind::Session).challenge(route).unwrap_or_default();
        Self { challenge, sign_in: sign_in.to_owned(), ..Self::plain(401, "session_over", "the session is over") }
    }

    /// No route has this host and path.
    pub(crate) fn not_found() -> Self {
        Self::plain(404, "no_route", "there is nothing here")
    }

    /// Routes have this host and path, with these methods only.
    pub(crate) fn method(allowed: Vec<&str>) -> Self {
        Self { allow: allowed.join(", "), ..Self::plain(405, "method", "this method is not allowed here; see Allow") }
    }

    /// Names the metadata of the resource wherever a token is asked for (RFC 9728 §5.1).
    pub(crate) fn naming(mut self, resource: Option<&Resource>) -> Self {
        if let (401, Some(resource)) = (self.status, resource) {
            self.challenge.push_str(", ");
            self.challenge.push_str(&resource.challenge_parameter());
        }
        self
    }

    /// Six lines: status, name, `WWW-Authenticate`, `Allow`, detail, where to sign in.
    pub(crate) fn write(&self, said: &mut String) {
        let Self { status, name, challenge, allow, detail, sign_in } = self;
        said.push_str(&[&status.to_string(), *name, challenge, allow, detail, sign_in].join("\n"));
    }

    fn plain(status: u16, name: &'static str, detail: &str) -> Self {
        let (challenge, allow, sign_in) = (String::new(), String::new(), String::new());
        Self { status, name, challenge, allow, detail: detail.to_owned(), sign_in }
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::plain(error.status(), error.name(), &error.to_string())
    }
}
