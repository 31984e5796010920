//! Protected resource metadata (RFC 9728): what a gate says of the resource that it guards, if its audience is the URL of one.
//!
//! Out of scope: an audience that is any other text. It has no place of its own where something could be published.

use alloc::{
    format,
    string::{String, ToString as _},
};

use serde_json::json;

use crate::path::Target;

/// What goes between host and path of the resource (RFC 9728 §3.1).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// A resource that tells who issues its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    authority: String,
    path: String,
    url: String,
    json: String,
}

impl Resource {
    /// Of an audience; none if it is not an `https` URL without query and fragment (RFC 9728 §1.2), or an `http` one of this
    /// machine.
    pub fn new(audience: &str, issuer: &str) -> Option<Self> {
        let with_path = format!("{audience}/");
        let target = Target::split(audience).or_else(|| Target::split(&with_path))?;
        let is_private =
            target.origin.starts_with("https://") || matches!(target.host(), "localhost" | "127.0.0.1" | "[::1]");
        // It is quoted in challenges.
        let is_quotable = audience.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        if !is_private || !is_quotable || audience.contains('?') {
            return None;
        }
        let path = format!("{WELL_KNOWN}{}", target.path.trim_end_matches('/'));
        let members =
            json!({ "resource": audience, "authorization_servers": [issuer], "bearer_methods_supported": ["header"] });
        Some(Self {
            authority: target.authority.to_string(),
            url: format!("{}{path}", target.origin),
            path,
            json: members.to_string(),
        })
    }

    /// The metadata as JSON, if this is where they are.
    pub fn metadata_at(&self, authority: &str, path: &str) -> Option<&str> {
        (authority.eq_ignore_ascii_case(&self.authority) && path == self.path).then_some(&self.json)
    }

    /// The parameter of a challenge that names them (RFC 9728 §5.1).
    pub fn challenge_parameter(&self) -> String {
        format!("resource_metadata=\"{}\"", self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://id.example";

    /// META-03, META-04: between host and path, of the host alone.
    #[test]
    fn metadata_are_where_the_rfc_puts_them() {
        for (audience, authority, path) in [
            ("https://app.example", "app.example", ""),
            ("https://app.example/", "app.example", ""),
            ("https://app.example:8443/api/v1", "app.example:8443", "/api/v1"),
            ("http://127.0.0.1:8787", "127.0.0.1:8787", ""),
        ] {
            let resource = Resource::new(audience, ISSUER).unwrap();
            let path = format!("{WELL_KNOWN}{path}");
            let json = resource.metadata_at(&authority.to_ascii_uppercase(), &path).unwrap();
            let metadata: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(metadata["resource"], audience);
            assert_eq!(metadata["authorization_servers"], json!([ISSUER]));
            let scheme = audience.split(':').next().unwrap();
            let named = format!("resource_metadata=\"{scheme}://{authority}{path}\"");
            assert_eq!(resource.challenge_parameter(), named);
            assert_eq!(resource.metadata_at("other.example", &path), None);
            assert_eq!(resource.metadata_at(authority, "/"), None);
        }
    }

    #[test]
    fn an_audience_that_is_no_url_of_a_resource_has_none() {
        for audience in [
            "portcullis",
            "",
            "urn:app",
            "http://app.example",
            "https://app.example/?x",
            "https://app.example/#x",
            "https://user@app.example/",
            "https://app.example/\"x",
            "https://app.example/ x",
            "https://",
        ] {
            assert_eq!(Resource::new(audience, ISSUER), None, "{audience}");
        }
    }
}
