//! `[[clients]]`: the OAuth clients that sessions are opened by and refreshed for.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::{
    id::{ClientId, NAME_BYTES_MAX},
    keys::{JWKS_BYTES_MAX, KeySet},
};

use super::secrets::parse_key;

/// The most clients that one origin knows.
pub(super) const CLIENTS_MAX: usize = 1_024;

/// The most scope tokens that one client may be limited to.
const SCOPES_MAX: usize = 64;

/// Lifetimes of access tokens, as for `tokens.access_ttl_s`.
pub(super) const ACCESS_TTL_S: std::ops::RangeInclusive<u64> = 60..=3_600;

/// A client (RFC 6749 §2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Its `client_id`.
    pub id: String,
    /// Whether it can keep a secret.
    pub kind: ClientKind,
    /// SHA-256 of its secret, hexadecimal or base64url, for `client_secret_basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_sha256: Option<String>,
    /// Its public keys as a JWKS, for `private_key_jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// A file with the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// The scope tokens that it may be given; any if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Lifetime of its access tokens; `tokens.access_ttl_s` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_ttl_s: Option<u64>,
    /// The tokens that it may introspect.
    #[serde(default)]
    pub introspects: Introspects,
}

/// Client types of RFC 6749 §2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientKind {
    /// Runs where everyone can read it; names itself, proves nothing.
    Public,
    /// Authenticates at every call.
    Confidential,
}

/// The tokens that a confidential client may introspect (RFC 7662 §4); all others are inactive to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Introspects {
    /// Those of its own sessions.
    #[default]
    Own,
    /// Those of every client: for a resource server.
    Any,
}

/// What a `client_id` means that no `[[clients]]` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unregistered {
    /// Nothing: `invalid_client`.
    Refuse,
    /// A public client without limits.
    Public,
}

/// Why a client is refused: its key in the configuration, what was found, what is allowed.
pub(super) struct Refused(pub(super) &'static str, pub(super) String, pub(super) &'static str);

impl Client {
    /// A public client that may be given any scope.
    pub fn public(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            kind: ClientKind::Public,
            secret_sha256: None,
            jwks: None,
            jwks_file: None,
            scopes: None,
            access_ttl_s: None,
            introspects: Introspects::Own,
        }
    }

    /// A confidential client with the SHA-256 of its secret, or with a JWKS.
    pub fn confidential(id: &str, secret_sha256: Option<String>, jwks: Option<String>) -> Self {
        Self { kind: ClientKind::Confidential, secret_sha256, jwks, ..Self::public(id) }
    }

    /// SHA-256 of the secret; none if there is none.
    ///
    /// # Errors
    ///
    /// Neither 64 digits of hexadecimal nor 43 characters of base64url.
    pub fn secret_digest(&self) -> Result<Option<[u8; 32]>, &'static str> {
        let Some(text) = &self.secret_sha256 else { return Ok(None) };
        parse_key(text).map(Some).ok_or(SECRET_ALLOWED)
    }

    /// Its public keys, read from the file if one is named; none if it has none.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or the text is no JWKS of Ed25519 and P-256 keys; in words.
    pub fn keys(&self) -> Result<Option<KeySet>, String> {
        let text = match (&self.jwks, &self.jwks_file) {
            (Some(_), Some(_)) => return Err("jwks and jwks_file are both set: keep one".to_owned()),
            (Some(text), None) => text.clone(),
            (None, Some(path)) => read(path)?,
            (None, None) => return Ok(None),
        };
        KeySet::from_jwks(&text).map(Some).map_err(|error| error.to_string())
    }

    pub(super) fn check(&self) -> Result<(), Refused> {
        let shown = |text: &str| format!("{text:?}");
        if self.id.parse::<ClientId>().is_err() {
            return Err(Refused("id", shown(&self.id), ID_ALLOWED));
        }
        if self.secret_digest().is_err() {
            // Not shown: someone may have put the secret itself there (I10).
            return Err(Refused("secret_sha256", "something else".to_owned(), SECRET_ALLOWED));
        }
        self.keys().map_err(|found| Refused("jwks", found, JWKS_ALLOWED))?;
        let proves = self.secret_sha256.is_some() || self.jwks.is_some() || self.jwks_file.is_some();
        match self.kind {
            ClientKind::Public if proves || self.introspects == Introspects::Any => {
                let allowed = "confidential if it has secret_sha256, jwks or introspects = \"any\"";
                return Err(Refused("kind", shown("public"), allowed));
            }
            ClientKind::Confidential if !proves => {
                return Err(Refused("kind", shown("confidential"), "public unless it has secret_sha256 or jwks"));
            }
            ClientKind::Public | ClientKind::Confidential => {}
        }
        let scopes = self.scopes.as_deref().unwrap_or_default();
        if scopes.len() > SCOPES_MAX || !scopes.iter().all(|scope| is_scope_token(scope)) {
            return Err(Refused("scopes", format!("{scopes:?}"), SCOPES_ALLOWED));
        }
        match self.access_ttl_s {
            Some(ttl) if !ACCESS_TTL_S.contains(&ttl) => {
                Err(Refused("access_ttl_s", ttl.to_string(), "from 60 to 3600"))
            }
            _ => Ok(()),
        }
    }
}

// The texts below name these limits.
const _: () = assert!(NAME_BYTES_MAX == 128 && SCOPES_MAX == 64 && JWKS_BYTES_MAX == 65_536);
const ID_ALLOWED: &str = "1 to 128 bytes, without spaces and control characters";
const SECRET_ALLOWED: &str = "the SHA-256 of the secret, 64 hexadecimal or 43 base64url characters";
const JWKS_ALLOWED: &str = "a JWKS of public Ed25519 and P-256 keys with a kid each, at most 65536 bytes";
const SCOPES_ALLOWED: &str = "at most 64 scope tokens of 1 to 64 visible ASCII characters without quote and backslash";

/// What the documented configuration says of clients.
pub(super) fn document() -> String {
    format!(
        "\n# OAuth clients, at most {CLIENTS_MAX}; one block each. The default is one public client, `web`; naming any\n\
         # replaces it. In the environment: PORTCULLIS_CLIENTS='[{{id=\"web\",kind=\"public\"}}]'\n\
         # [[clients]]\n\
         # Allowed: {ID_ALLOWED}, unique.\n\
         # id = \"backend\"\n\
         # Allowed: public (names itself) or confidential (authenticates at every call).\n\
         # kind = \"confidential\"\n\
         # For client_secret_basic. Allowed: {SECRET_ALLOWED}.\n\
         # Draw the secret at random (`openssl rand -hex 32`); its hash is `printf %s \"$SECRET\" | sha256sum`.\n\
         # secret_sha256 = \"…\"\n\
         # For private_key_jwt, here or in a file. Allowed: {JWKS_ALLOWED}.\n\
         # jwks_file = \"backend.jwks.json\"\n\
         # jwks = '{{\"keys\":[…]}}'\n\
         # Scope it may be given; any if left out. Allowed: {SCOPES_ALLOWED}.\n\
         # scopes = [\"read\", \"write\"]\n\
         # Lifetime of its access tokens; tokens.access_ttl_s if left out. From 60 to 3600.\n\
         # access_ttl_s = 120\n\
         # Tokens it may introspect. Allowed: own, or any (for a resource server).\n\
         # introspects = \"own\"\n"
    )
}

/// RFC 6749 §3.3: `scope-token`.
fn is_scope_token(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
}

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let unreadable = |error: std::io::Error| format!("the file {} that cannot be read: {error}", path.display());
    let mut text = String::new();
    let max = u64::try_from(JWKS_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path).map_err(unreadable)?.take(max).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}
