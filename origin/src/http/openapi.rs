//! The OpenAPI 3.1 document, made from the handlers, and the page that shows it.
//!
//! A handler says in `#[utoipa::path(…)]` what is its own; what every call of the management API has in common (the
//! headers that it takes, how it is refused) is added here once. The scope that a call needs is read from the document
//! too, so that what is documented is what is enforced.
//!
//! Invariant: an operation without `security` is open to nobody but the holder of the management key.

mod links;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde_json::{Map, Value, json};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_swagger_ui::Config;

use super::{
    App,
    error::{OAuthBody, Problem, ProblemBody, is_oauth},
    schema,
};
use crate::apikeys::Scopes;

/// The name of the security scheme in the document.
pub(super) const SCHEME: &str = "api_key";

/// Scripts and styles come from this service alone; the page cannot be framed.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Portcullis",
        description = "Management of sessions, subjects and tenants. A refusal is `application/problem+json` (RFC 9457), \
                       or the shape of RFC 6749 section 5.2 under `/oauth2`. Every command may be repeated."
    ),
    // Not guarded as the others are: it lets confidential clients in as well.
    paths(super::oauth::introspect::introspect, super::me::sessions, super::me::revoke, super::me::sign_out),
    components(schemas(
        // Named by parameters only, and so not found by themselves.
        schema::KeyName,
        schema::PageCursor,
        schema::FieldsTag,
        ProblemBody,
        OAuthBody
    )),
    modifiers(&Scheme)
)]
struct Common;

struct Scheme;

impl Modify for Scheme {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let mut bearer = Http::new(HttpAuthScheme::Bearer);
        bearer.description =
            Some("An API key (`pk_…`) or the management key. The scopes are those of API keys.".into());
        if let Some(components) = &mut openapi.components {
            components.add_security_scheme(SCHEME, SecurityScheme::Http(bearer));
            let mut access_token = Http::new(HttpAuthScheme::Bearer);
            access_token.bearer_format = Some("JWT".into());
            access_token.description = Some("The access token of the user (RFC 9068).".into());
            components.add_security_scheme("access_token", SecurityScheme::Http(access_token));
        }
    }
}

/// What the document says of one operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Its `operationId`.
    pub(crate) id: String,
    /// The scopes that it needs; none if it names no security, or a scope that no key can have.
    pub(crate) scopes: Option<Scopes>,
}

/// The document.
pub(crate) struct Document {
    text: Bytes,
    operations: HashMap<String, HashMap<String, Operation>>,
}

/// The part of the document that is there before any handler.
pub(super) fn common() -> utoipa::openapi::OpenApi {
    Common::openapi()
}

impl Document {
    /// Completes what the handlers said.
    ///
    /// # Errors
    ///
    /// It does not serialize.
    pub(super) fn new(openapi: &utoipa::openapi::OpenApi) -> serde_json::Result<Self> {
        let mut document = serde_json::to_value(openapi)?;
        document["components"]["responses"] = refusals();
        let may_be_empty = bodies_that_may_be_empty(&document["components"]["schemas"]);
        let mut operations = HashMap::new();
        for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
            let mut methods = HashMap::new();
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                if let Some(operation) = operation.as_object_mut() {
                    complete(path, method, operation);
                    operation.get_mut("requestBody").into_iter().for_each(|body| leave_out_if(&may_be_empty, body));
                    methods.insert(method.to_ascii_uppercase(), summary(operation));
                }
            }
            operations.insert(path.clone(), methods);
        }
        Ok(Self { text: serde_json::to_vec(&document)?.into(), operations })
    }

    /// The operation of a route template.
    pub(super) fn operation(&self, method: &Method, route: &str) -> Option<&Operation> {
        self.operations.get(route)?.get(method.as_str())
    }
}

fn summary(operation: &Map<String, Value>) -> Operation {
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let named = operation.get("security").and_then(|security| security.get(0)?.get(SCHEME)?.as_array());
    let scopes = named.and_then(|named| named.iter().map(|scope| scope.as_str()?.parse().ok()).collect());
    Operation { id, scopes }
}

/// References to the schemas of which no member is required: a call without a body is read as one with `{}`.
fn bodies_that_may_be_empty(schemas: &Value) -> HashSet<String> {
    let schemas = schemas.as_object().into_iter().flatten();
    let without = schemas.filter(|(_, schema)| schema["type"] == "object" && schema["required"].is_null());
    without.map(|(name, _)| format!("#/components/schemas/{name}")).collect()
}

fn leave_out_if(may_be_empty: &HashSet<String>, body: &mut Value) {
    let schema = body["content"]["application/json"]["schema"]["$ref"].as_str();
    if schema.is_some_and(|schema| may_be_empty.contains(schema)) {
        body["required"] = json!(false);
    }
}

/// Adds headers and refusals that the handler did not name itself.
fn complete(path: &str, method: &str, operation: &mut Map<String, Value>) {
    let writes = method != "get";
    let has_body = operation.contains_key("requestBody");
    let is_guarded = operation.contains_key("security");
    let is_managed = operation.get("security").is_some_and(|security| !security[0][SCHEME].is_null());
    let mut statuses = vec!["400", "429", "500", "503"];
    if is_guarded {
        statuses.extend(["401", "403"]);
    }
    if path.contains('{') {
        statuses.push("404");
    }
    if has_body {
        statuses.extend(["413", "415", "422"]);
    }
    if is_managed && writes && !is_oauth(path) {
        let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
        if let Some(parameters) = parameters.as_array_mut() {
            parameters.push(reason_header());
            if method == "post" {
                parameters.push(idempotency_header());
                statuses.extend(["409", "422"]);
            }
        }
    }
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let refusal = if is_oauth(path) { "#/components/responses/OAuthError" } else { "#/components/responses/Problem" };
    if let Some(responses) = operation.entry("responses").or_insert_with(|| json!({})).as_object_mut() {
        for status in statuses {
            responses.entry(status).or_insert_with(|| json!({ "$ref": refusal }));
        }
        links::add(&id, responses);
    }
}

fn reason_header() -> Value {
    json!({
        "name": "Portcullis-Reason", "in": "header", "required": false,
        "description": "Why this is done, for the audit trail.",
        "schema": { "type": "string", "maxLength": 256, "pattern": "^[ -~]*$" }
    })
}

fn idempotency_header() -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "required": false,
        "description": "The same key with the same request gets the same answer again, without a second effect.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" }
    })
}

fn refusals() -> Value {
    let content = |media: &str, schema: &str| json!({ media: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } });
    json!({
        "Problem": { "description": "Refused (RFC 9457).", "content": content("application/problem+json", "Problem") },
        "OAuthError": { "description": "Refused (RFC 6749 section 5.2).", "content": content("application/json", "OAuthError") },
    })
}

/// `GET /openapi.json`: the document.
pub(super) async fn document(State(app): State<App>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, app.0.document.text.clone()).into_response()
}

/// `GET /docs`: leads to the page, whose parts have relative addresses.
pub(super) async fn page_redirect() -> Redirect {
    Redirect::permanent("/docs/")
}

/// `GET /docs/{file}`: the page and its parts.
pub(super) async fn page(path: Option<Path<String>>) -> Result<Response, Problem> {
    let path = path.map_or_else(String::new, |Path(path)| path);
    // The library takes a path of its own making for granted; ours may hold anything.
    let file = utoipa_swagger_ui::serve(&path, Arc::new(Config::from("/openapi.json"))).ok().flatten();
    let file = file.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "the page has no such part"))?;
    let headers = [(header::CONTENT_TYPE, file.content_type), (header::CACHE_CONTROL, "no-cache".to_owned())];
    let mut response = (headers, file.bytes.into_owned()).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_of_the_management_api_names_its_scope_and_its_refusals() {
        let document = Document::new(&super::super::routes().1).unwrap();
        let json: Value = serde_json::from_slice(&document.text).unwrap();
        assert!(json["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in json["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
                let known = document.operation(&method.to_ascii_uppercase().parse().unwrap(), path).unwrap();
                if path.starts_with("/v1/me/") {
                    // A user's own calls take an access token, and no API key can make them.
                    assert!(operation["security"][0]["access_token"].is_array(), "{method} {path}");
                    let headers =
                        operation["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "header");
                    assert_eq!(headers.count(), 0, "{method} {path}: only the management API heeds them");
                    assert_eq!(known.scopes, None, "{method} {path}");
                } else {
                    let scopes = operation["security"][0][SCHEME].as_array().unwrap();
                    assert!(!scopes.is_empty(), "{method} {path} names no scope");
                    assert_eq!(known.scopes.as_ref().unwrap().len(), scopes.len(), "{method} {path}");
                }
                let responses = &operation["responses"];
                assert!(responses["503"].is_object() && responses["429"].is_object(), "{method} {path}");
            }
        }
        assert!(ids.len() >= 10, "{ids:?}");
    }
}
