//! `/.well-known/oauth-authorization-server` (RFC 8414).

use axum::{Json, extract::State, http::header};
use serde::Serialize;
use url::Url;

use crate::http::App;

/// RFC 8414 §3: the segment that goes between host and path of the issuer.
const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";

/// What a client needs to know of this authorization server (RFC 8414 §2).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metadata {
    issuer: String,
    token_endpoint: String,
    jwks_uri: String,
    revocation_endpoint: String,
    introspection_endpoint: String,
    /// Required. There is no authorization endpoint, and an empty list must be left out, so this is the registered value
    /// that promises neither code nor token.
    response_types_supported: [&'static str; 1],
    grant_types_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: [&'static str; 3],
    token_endpoint_auth_signing_alg_values_supported: [&'static str; 3],
    revocation_endpoint_auth_methods_supported: [&'static str; 3],
    revocation_endpoint_auth_signing_alg_values_supported: [&'static str; 3],
    introspection_endpoint_auth_methods_supported: [&'static str; 3],
    introspection_endpoint_auth_signing_alg_values_supported: [&'static str; 3],
}

/// Methods of RFC 7591 §2 and OpenID Connect Core §9.
const METHODS: [&str; 3] = ["none", "client_secret_basic", "private_key_jwt"];
/// `Bearer` stands for the management credential; RFC 8414 §2 allows token types here.
const INTROSPECTION_METHODS: [&str; 3] = ["client_secret_basic", "private_key_jwt", "Bearer"];
const ALGORITHMS: [&str; 3] = ["Ed25519", "EdDSA", "ES256"];

impl Metadata {
    /// The metadata of an issuer that is reached under `public_url`.
    pub fn new(issuer: &str, public_url: &str) -> Self {
        let under = |path: &str| format!("{public_url}{path}");
        Self {
            issuer: issuer.to_owned(),
            token_endpoint: under("/oauth2/token"),
            jwks_uri: under("/.well-known/jwks.json"),
            revocation_endpoint: under("/oauth2/revoke"),
            introspection_endpoint: under("/oauth2/introspect"),
            response_types_supported: ["none"],
            grant_types_supported: ["refresh_token"],
            token_endpoint_auth_methods_supported: METHODS,
            token_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
            revocation_endpoint_auth_methods_supported: METHODS,
            revocation_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
            introspection_endpoint_auth_methods_supported: INTROSPECTION_METHODS,
            introspection_endpoint_auth_signing_alg_values_supported: ALGORITHMS,
        }
    }

    /// The path that it is served under: well-known segment first, then the path of the issuer (RFC 8414 §3.1).
    pub fn path(&self) -> String {
        let path = Url::parse(&self.issuer).map(|url| url.path().trim_end_matches('/').to_owned());
        format!("{WELL_KNOWN}{}", path.unwrap_or_default())
    }
}

/// `GET /.well-known/oauth-authorization-server`, with the path of the issuer behind it if it has one.
///
/// 200 `application/json`; may be kept for five minutes.
pub(in crate::http) async fn metadata(
    State(app): State<App>,
) -> ([(header::HeaderName, &'static str); 1], Json<Metadata>) {
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(app.metadata.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// META-05.
    #[test]
    fn the_path_of_the_issuer_follows_the_well_known_segment() {
        let path = |issuer: &str| Metadata::new(issuer, "https://id.example").path();
        assert_eq!(path("https://id.example"), WELL_KNOWN);
        assert_eq!(path("https://id.example/"), WELL_KNOWN);
        assert_eq!(path("https://id.example/tenant1"), format!("{WELL_KNOWN}/tenant1"));
        assert_eq!(path("https://id.example/a/b/"), format!("{WELL_KNOWN}/a/b"));
    }

    /// META-01: nothing empty, no `none` among algorithms.
    #[test]
    fn the_metadata_hold_what_the_rfc_asks_for() {
        let json = serde_json::to_value(Metadata::new("https://id.example", "https://id.example")).unwrap();
        let members = json.as_object().unwrap();
        assert_eq!(members["issuer"], "https://id.example");
        for (name, value) in members {
            assert!(value.as_array().is_none_or(|list| !list.is_empty()), "{name}");
            if name.ends_with("_alg_values_supported") {
                assert!(!value.as_array().unwrap().iter().any(|alg| alg == "none"), "{name}");
            }
            if name.ends_with("_endpoint") || name == "jwks_uri" {
                assert!(value.as_str().unwrap().starts_with("https://id.example/"), "{name}");
            }
        }
        assert!(members.contains_key("response_types_supported"));
    }
}
