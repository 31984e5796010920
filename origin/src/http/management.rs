//! What every call of the management API passes before and after its handler.
//!
//! Who calls (a bearer token, RFC 6750 §2.1) → is it too often → does the operation's scope allow it → does the bound of
//! the key → was it answered before → the handler → the audit trail.

mod bounds;
mod replay;

use axum::{
    RequestPartsExt as _,
    body::{Body, Bytes},
    extract::{FromRequest as _, MatchedPath, RawPathParams, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::Response,
};
use serde::Deserialize;

use super::{
    App, acts,
    caller::{Caller, Target},
    error::Problem,
    extract::{SEVERAL_CREDENTIALS, authorization, bearer, body_refusal},
    openapi::Operation,
    rates,
};
use crate::{audit::Entry, shell};

const REASON: HeaderName = HeaderName::from_static("portcullis-reason");

/// The longest reason, in bytes.
const REASON_BYTES_MAX: usize = 256;

/// A refusal in the shape of its path.
type Refused = Box<Response>;

/// A call whose caller and operation are known.
struct Call {
    caller: Caller,
    operation: Operation,
    /// `session:…`, `subject:…`, `tenant:…` and so on, from the path.
    target: Option<String>,
    tenant: Option<String>,
    reason: Option<String>,
    request_id: String,
}

/// Lets a call pass whose key may make it.
///
/// 1. too many credentials of this address did not count, or too many calls of this client: 429
/// 2. no credential: 401 with a challenge and no error code; more than one `Authorization` header: 400
/// 3. another scheme or a key that does not count: 401 `invalid_token`; the store does not answer: 503
/// 4. the key lacks the operation's scope: 403 `insufficient_scope`
/// 5. the key is bound to a tenant: 404 for what is of another, 403 for calls that concern all
/// 6. a malformed header: 400
/// 7. the answer of the handler, or the one that was given before under this idempotency key
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let address = app.0.rates.address_of(&request);
    let caller = match app.0.rates.check_failures(address) {
        Ok(()) => authenticate(&app, request.headers()).await,
        Err(problem) => return rates::refused(problem, &path),
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(refusal) => {
            if refusal.is_failure {
                app.0.rates.note_failure(address);
                tracing::warn!(event = "authn_failed", path);
            }
            return refusal.problem.at(&path, refusal.code, refusal.description);
        }
    };
    let left = match app.0.rates.of_client(&caller.id()) {
        Ok(left) => left,
        Err(problem) => return rates::refused(problem, &path),
    };
    let mut response = admit(&app, caller, request, next).await;
    left.write(response.headers_mut());
    response
}

/// The caller of an operation that lets others in too, and so does not pass [`guard`]; the answer if it may not call.
pub(super) async fn check(app: &App, path: &str, headers: &HeaderMap) -> Result<Caller, Response> {
    let caller = authenticate(app, headers).await;
    let caller = caller.map_err(|refusal| refusal.problem.at(path, refusal.code, refusal.description))?;
    app.0.rates.of_client(&caller.id()).map_err(|problem| rates::refused(problem, path))?;
    let operation = app.0.document.operation(&Method::POST, path);
    if caller.has(operation.and_then(|operation| operation.scopes.as_ref())) {
        Ok(caller)
    } else {
        Err(lacks_scope(path))
    }
}

/// Runs a call of a known caller, and notes it.
async fn admit(app: &App, caller: Caller, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let request_id = acts::request_id();
    let mut call = call(app, caller, &mut parts, request_id).await;
    let is_act = parts.method != Method::GET;
    let mut response = match run(app, &mut call, parts, body, next).await {
        Ok(response) => response,
        Err(refused) => *refused,
    };
    acts::name_request(&mut response, &call.request_id);
    if is_act {
        app.0.trail.note(entry(call, &response)).await;
    }
    response
}

async fn call(app: &App, caller: Caller, parts: &mut Parts, request_id: String) -> Call {
    let route = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let operation = app.0.document.operation(&parts.method, route).cloned().unwrap_or_default();
    let tenant = caller.tenant().map(ToString::to_string);
    let mut call = Call { caller, operation, target: None, tenant, reason: None, request_id };
    let Ok(params) = parts.extract::<RawPathParams>().await else { return call };
    for (name, value) in &params {
        let kind = bounds::kind(name);
        call.target = Some(format!("{kind}:{value}"));
        if kind == "tenant" {
            call.tenant = Some(value.to_owned());
        }
    }
    call
}

async fn run(app: &App, call: &mut Call, mut parts: Parts, body: Body, next: Next) -> Result<Response, Refused> {
    let path = parts.uri.path().to_owned();
    let refuse = |problem: Problem, code, description| Box::new(problem.at(&path, code, description));
    if !call.caller.has(call.operation.scopes.as_ref()) {
        return Err(Box::new(lacks_scope(&path)));
    }
    let tenant = bounds::check(app, call, &mut parts)
        .await
        .map_err(|problem| refuse(problem, "access_denied", "this API key is bound to a tenant"))?;
    call.tenant = tenant.map(|tenant| tenant.to_string()).or_else(|| call.tenant.take());
    call.reason =
        reason_header(&parts.headers).map_err(|problem| refuse(problem, "invalid_request", "a header is malformed"))?;
    parts.extensions.insert(call.caller.clone());
    if parts.method == Method::GET {
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    // The body is read here once: its reason is for the trail, its hash for the idempotency key.
    let whole = Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await.map_err(|rejection| {
        let (status, detail) = body_refusal(&rejection);
        refuse(Problem::new(status, detail), "invalid_request", detail)
    })?;
    if call.reason.is_none() {
        call.reason = reason_of_body(&whole);
    }
    Ok(replay::run(app, call, parts, whole, next).await)
}

fn lacks_scope(path: &str) -> Response {
    let challenge = HeaderValue::from_static(r#"Bearer realm="portcullis", error="insufficient_scope""#);
    let detail = "this API key lacks the scope of this call";
    let problem = Problem::new(StatusCode::FORBIDDEN, detail).with(header::WWW_AUTHENTICATE, challenge);
    problem.at(path, "insufficient_scope", detail)
}

/// Why there is no caller.
struct NoCaller {
    problem: Problem,
    code: &'static str,
    description: &'static str,
    is_failure: bool,
}

async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Caller, NoCaller> {
    let description = "this call needs an API key as a bearer token";
    let unauthorized = |challenge: &'static str, is_failure| NoCaller {
        problem: Problem::new(StatusCode::UNAUTHORIZED, description)
            .with(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge)),
        code: "invalid_token",
        description,
        is_failure,
    };
    let value = authorization(headers).map_err(|_| NoCaller {
        problem: Problem::new(StatusCode::BAD_REQUEST, SEVERAL_CREDENTIALS),
        code: "invalid_request",
        description: SEVERAL_CREDENTIALS,
        is_failure: false,
    })?;
    let Some(value) = value else { return Err(unauthorized(r#"Bearer realm="portcullis""#, false)) };
    let wrong = || unauthorized(r#"Bearer realm="portcullis", error="invalid_token""#, true);
    let key = bearer(value).ok_or_else(wrong)?;
    if app.management_key.matches(key) {
        return Ok(Caller::Bootstrap);
    }
    match app.0.api_keys.authenticate(key, shell::now()).await {
        Ok(Some(key)) => Ok(Caller::Key(key)),
        Ok(None) => Err(wrong()),
        Err(error) => {
            let description = "the store does not answer";
            Err(NoCaller { problem: error.into(), code: "temporarily_unavailable", description, is_failure: false })
        }
    }
}

fn reason_header(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(REASON) else { return Ok(None) };
    // A tab, which `to_str` lets pass, would break the lines of a log or a table.
    let text = value.to_str().ok().filter(|text| text.len() <= REASON_BYTES_MAX && !text.contains('\t'));
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        let detail = format!("Portcullis-Reason must have at most {REASON_BYTES_MAX} printable ASCII characters");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

/// The `reason` of a JSON body, whatever else it holds.
fn reason_of_body(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Reason {
        reason: Option<String>,
    }
    let Reason { reason } = serde_json::from_slice(body).ok()?;
    reason.filter(|reason| reason.len() <= REASON_BYTES_MAX)
}

fn entry(call: Call, response: &Response) -> Entry {
    let (target, tenant) = match response.extensions().get::<Target>().cloned() {
        Some(Target { target, tenant }) => (Some(target), tenant.map(|tenant| tenant.to_string()).or(call.tenant)),
        None => (call.target, call.tenant),
    };
    Entry {
        at_ms: shell::now().as_millis(),
        request_id: call.request_id,
        actor: call.caller.id(),
        action: call.operation.id,
        target,
        tenant,
        reason: call.reason,
        status: response.status().as_u16(),
    }
}
