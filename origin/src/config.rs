//! The configuration of the origin: one TOML file, overridden by `PORTCULLIS_SECTION__NAME` variables of the environment.
//!
//! Invariant: every value has its unit last in its name, a default and a limit, all listed in [`settings`]. An unknown
//! key, a wrong type or a value outside of its limits is an error that names the key, what was found, what is allowed
//! and where it stands. Secrets are not part of the file: see [`secrets`].

mod clients;
pub mod secrets;
mod sections;
mod settings;
mod store;

use std::path::Path;

use figment::{
    Figment,
    error::{Actual, Kind},
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

pub use self::{
    clients::{Client, ClientKind, Introspects, Unregistered},
    sections::{Feed, Hub, Limits, LogFormat, SecretFiles, Server, Sessions, SigningAlgorithm, Telemetry, Tokens},
    settings::document,
    store::{Acknowledge, Level, NoLevel, Risk, Store, StoreUrl},
};

/// Prefix of every variable of the environment that Portcullis reads.
const ENV_PREFIX: &str = "PORTCULLIS_";

/// Everything that an operator can choose, secrets apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP server.
    pub server: Server,
    /// Access and refresh tokens.
    pub tokens: Tokens,
    /// Lifetimes of sessions.
    pub sessions: Sessions,
    /// Where sessions are kept.
    pub store: Store,
    /// The feed of floors to the hubs.
    pub feed: Feed,
    /// The hubs that floors are pushed to.
    pub hubs: Vec<Hub>,
    /// The OAuth clients.
    pub clients: Vec<Client>,
    /// Bounds on what one process takes in and holds.
    pub limits: Limits,
    /// Logs.
    pub telemetry: Telemetry,
    /// Files that hold the secrets, if they are not in the environment.
    pub secrets: SecretFiles,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            tokens: Tokens::default(),
            sessions: Sessions::default(),
            store: Store::default(),
            feed: Feed::default(),
            hubs: Vec::new(),
            clients: vec![Client::public("web")],
            limits: Limits::default(),
            telemetry: Telemetry::default(),
            secrets: SecretFiles::default(),
        }
    }
}

/// Why the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file that was named is not there or cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable {
        /// The file as it was named.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The text is not TOML, a key is unknown, or a value has the wrong type.
    #[error("wrong configuration: {0}")]
    Shape(Box<figment::Error>),
    /// A value is outside of its limits.
    #[error("wrong configuration: `{key}` is {found}, but must be {allowed} (from {place})")]
    Value {
        /// The key with its section.
        key: String,
        /// The value that was found.
        found: String,
        /// What is allowed.
        allowed: String,
        /// The file, the environment, or the defaults.
        place: String,
    },
    /// A variable of the environment that looks like a setting, but is none.
    #[error("wrong configuration: the environment variable {found} is not known; settings are written {expected}")]
    Variable {
        /// The variable.
        found: String,
        /// How it should have been written.
        expected: String,
    },
    /// A secret is missing or malformed.
    #[error(transparent)]
    Secret(#[from] secrets::SecretError),
}

impl Config {
    /// Reads `file`, if one is named, then the environment over it, and checks every value.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], naming the first setting that is wrong.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(path) = file {
            // Figment takes a file that is missing for one that is empty.
            std::fs::File::open(path)
                .map_err(|source| ConfigError::Unreadable { path: path.display().to_string(), source })?;
            figment = figment.merge(Toml::file_exact(path));
        }
        refuse_misspelt_variables()?;
        let variables =
            Env::prefixed(ENV_PREFIX).filter(|name| name.as_str().contains("__") || is_list(name.as_str())).split("__");
        let figment = figment.merge(variables);
        let config: Self = figment.extract().map_err(|error| refused(&figment, error))?;
        settings::check(&config, |key| place_of(&figment, key))?;
        Ok(config)
    }

    /// `iss` of every token.
    pub fn issuer(&self) -> &str {
        match self.tokens.issuer.as_str() {
            "" => &self.server.public_url,
            issuer => issuer,
        }
    }
}

/// Why values cannot be taken over. One of another type is told as one outside of its limits is, in the words of the
/// settings.
fn refused(figment: &Figment, error: figment::Error) -> ConfigError {
    let key = error.path.join(".");
    let found = match &error.kind {
        Kind::InvalidType(found, _) | Kind::InvalidValue(found, _) => match found {
            Actual::Signed(number) => number.to_string(),
            Actual::Unsigned(number) => number.to_string(),
            Actual::Float(number) => number.to_string(),
            Actual::Str(text) => format!("the text {text:?}"),
            other => other.to_string(),
        },
        _ => return ConfigError::Shape(Box::new(error)),
    };
    match settings::allowed(&key) {
        Some(allowed) => ConfigError::Value { found, allowed, place: place_of(figment, &key), key },
        None => ConfigError::Shape(Box::new(error)),
    }
}

/// Settings that have no section.
fn is_list(name: &str) -> bool {
    name.eq_ignore_ascii_case("HUBS") || name.eq_ignore_ascii_case("CLIENTS")
}

/// `PORTCULLIS_TOKENS_ACCESS_TTL_S` would be ignored in silence; one underscore too few is an error instead.
fn refuse_misspelt_variables() -> Result<(), ConfigError> {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
            continue;
        };
        if rest.contains("__") {
            continue;
        }
        let Some((section, key)) = rest.split_once('_') else {
            continue;
        };
        if settings::SECTIONS.contains(&section.to_ascii_lowercase().as_str()) {
            return Err(ConfigError::Variable {
                found: name.to_string(),
                expected: format!("{ENV_PREFIX}{section}__{key}"),
            });
        }
    }
    Ok(())
}

/// Where the value of `key` came from, in words.
fn place_of(figment: &Figment, key: &str) -> String {
    // Entries of a list are looked up through the list itself.
    let key = key.split('[').next().unwrap_or(key);
    match figment.find_metadata(key) {
        Some(metadata) => match &metadata.source {
            Some(figment::Source::File(path)) => format!("the file {}", path.display()),
            _ if metadata.name.contains("environment") => {
                format!("the environment, {}", variable_of(key))
            }
            _ => "the defaults".to_owned(),
        },
        None => "the defaults".to_owned(),
    }
}

/// The variable of the environment that sets `key`.
fn variable_of(key: &str) -> String {
    format!("{ENV_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}
