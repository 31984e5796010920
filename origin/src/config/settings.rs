//! The one table of settings: what each means, what is allowed. It checks a configuration and documents it.

use std::fmt::Write as _;

use shared::cookie::{are_apart, is_name};

use super::{
    Config, ConfigError,
    clients::{self, CLIENTS_MAX, Client, Refused},
    sections::Hub,
    store::{Risk, StoreUrl},
};

/// The sections that hold plain settings.
pub(super) const SECTIONS: &[&str] =
    &["server", "tokens", "sessions", "store", "feed", "limits", "telemetry", "secrets"];

/// The most hubs that one origin pushes to: one task and one connection each.
const HUBS_MAX: usize = 64;

struct Setting {
    key: &'static str,
    about: &'static str,
    rule: Rule,
}

enum Rule {
    /// A whole number in a closed range.
    Number { min: u64, max: u64, value: fn(&Config) -> u64 },
    /// A text that a function accepts.
    Text { allowed: &'static str, value: fn(&Config) -> String, accepts: fn(&str) -> bool },
    /// A list of names, which its type checks.
    Risks { value: fn(&Config) -> &[Risk] },
}

impl Rule {
    /// What is allowed, in words; none for names that their type tells.
    fn allowed(&self) -> Option<String> {
        match self {
            Self::Number { min, max, .. } => Some(format!("a whole number from {min} to {max}")),
            Self::Text { allowed, .. } => Some((*allowed).to_owned()),
            Self::Risks { .. } => None,
        }
    }
}

/// What is allowed as the value of a plain setting, in words.
pub(super) fn allowed(key: &str) -> Option<String> {
    SETTINGS.iter().find(|setting| setting.key == key)?.rule.allowed()
}

/// What stands for a level of acknowledgement.
const LEVELS: &str = "local, or replicated N with N from 1 to 5 (Redis WAIT)";

const COOKIE_NAMES: &str = "__Host- with letters, digits, - and _ after it, at most 64 bytes in all";

const SETTINGS: &[Setting] = &[
    Setting {
        key: "server.listen",
        about: "Address and port to listen on; port 0 takes a free one.",
        rule: Rule::Text {
            allowed: "an IP address with a port",
            value: |c| c.server.listen.to_string(),
            accepts: |_| true,
        },
    },
    Setting {
        key: "server.public_url",
        about: "Address under which clients reach this service, without a trailing slash.",
        rule: Rule::Text {
            allowed: "an http or https URL without query, fragment or trailing slash, at most 256 bytes",
            value: |c| c.server.public_url.clone(),
            accepts: is_base_url,
        },
    },
    Setting {
        key: "server.drain_ms",
        about: "After a stop signal, requests in flight have this long to finish.",
        rule: Rule::Number { min: 0, max: 600_000, value: |c| c.server.drain_ms },
    },
    Setting {
        key: "server.client_address_header",
        about: "Header to whose end a proxy in front adds the client's address, for rate limits; empty without a proxy.",
        rule: Rule::Text {
            allowed: "empty, or the name of a header such as x-forwarded-for",
            value: |c| c.server.client_address_header.clone(),
            accepts: |t| t.is_empty() || axum::http::HeaderName::try_from(t).is_ok(),
        },
    },
    Setting {
        key: "tokens.issuer",
        about: "`iss` of every token; empty means server.public_url.",
        rule: Rule::Text {
            allowed: "visible ASCII, at most 256 bytes",
            value: |c| c.tokens.issuer.clone(),
            accepts: |t| t.len() <= 256 && t.bytes().all(|b| b.is_ascii_graphic()),
        },
    },
    Setting {
        key: "tokens.audience",
        about: "`aud` of every token; the gates ask for the same.",
        rule: Rule::Text {
            allowed: "visible ASCII, 1 to 256 bytes",
            value: |c| c.tokens.audience.clone(),
            accepts: |t| (1..=256).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic()),
        },
    },
    Setting {
        key: "tokens.algorithm",
        about: "Signature of new access tokens. A key of another algorithm stays valid for tokens that it signed.",
        rule: Rule::Text { allowed: "Ed25519 or ES256", value: |c| serialized(&c.tokens.algorithm), accepts: |_| true },
    },
    Setting {
        key: "tokens.access_ttl_s",
        about: "Lifetime of an access token.",
        rule: Rule::Number { min: 60, max: 3_600, value: |c| c.tokens.access_ttl_s },
    },
    Setting {
        key: "tokens.access_ttl_spread_percent",
        about: "By how much of its lifetime a token may expire earlier; its session decides, so that a mass login is no mass \
                refresh.",
        rule: Rule::Number { min: 0, max: 50, value: |c| c.tokens.access_ttl_spread_percent },
    },
    Setting {
        key: "tokens.key_lead_s",
        about: "How long a signing key is published before it signs: longer than any verifier keeps the JWKS.",
        rule: Rule::Number { min: 1, max: 86_400, value: |c| c.tokens.key_lead_s },
    },
    Setting {
        key: "tokens.key_rotation_s",
        about: "How long a signing key is used; 0 for as long as nobody rotates it.",
        rule: Rule::Number { min: 0, max: 31_536_000, value: |c| c.tokens.key_rotation_s },
    },
    Setting {
        key: "tokens.retry_window_s",
        about: "For how long the last rotated refresh token still gets the same successor (a retry, not a reuse).",
        rule: Rule::Number { min: 0, max: 300, value: |c| c.tokens.retry_window_s },
    },
    Setting {
        key: "tokens.unregistered_clients",
        about: "What a client_id means that no [[clients]] names: nothing, or a public client without limits.",
        rule: Rule::Text {
            allowed: "refuse or public",
            value: |c| serialized(&c.tokens.unregistered_clients),
            accepts: |_| true,
        },
    },
    Setting {
        key: "tokens.access_cookie",
        about: "Name of the access token's cookie in Set-Cookie lines: that of the gates (ACCESS_COOKIE).",
        rule: Rule::Text { allowed: COOKIE_NAMES, value: |c| c.tokens.access_cookie.clone(), accepts: is_name },
    },
    Setting {
        key: "tokens.refresh_cookie",
        about: "Name of the refresh token's cookie: that of the gates (REFRESH_COOKIE).",
        rule: Rule::Text { allowed: COOKIE_NAMES, value: |c| c.tokens.refresh_cookie.clone(), accepts: is_name },
    },
    Setting {
        key: "sessions.tier",
        about: "Tier of a session that is opened without one.",
        rule: Rule::Text {
            allowed: "browse, standard or privileged",
            value: |c| serialized(&c.sessions.tier),
            accepts: |_| true,
        },
    },
    Setting {
        key: "sessions.browse_idle_s",
        about: "A browse session that was not refreshed for this long is over (SP 800-63B-4, AAL1: optional).",
        rule: Rule::Number { min: 60, max: 2_592_000, value: |c| c.sessions.browse_idle_s },
    },
    Setting {
        key: "sessions.browse_absolute_s",
        about: "A browse session is over this long after the authentication (AAL1: at most 30 days).",
        rule: Rule::Number { min: 60, max: 2_592_000, value: |c| c.sessions.browse_absolute_s },
    },
    Setting {
        key: "sessions.standard_idle_s",
        about: "As browse_idle_s, for standard sessions (AAL2: at most 1 h should be).",
        rule: Rule::Number { min: 60, max: 2_592_000, value: |c| c.sessions.standard_idle_s },
    },
    Setting {
        key: "sessions.standard_absolute_s",
        about: "As browse_absolute_s, for standard sessions (AAL2: at most 24 h should be).",
        rule: Rule::Number { min: 60, max: 2_592_000, value: |c| c.sessions.standard_absolute_s },
    },
    Setting {
        key: "sessions.privileged_idle_s",
        about: "As browse_idle_s, for privileged sessions (AAL3: at most 15 min should be).",
        rule: Rule::Number { min: 60, max: 43_200, value: |c| c.sessions.privileged_idle_s },
    },
    Setting {
        key: "sessions.privileged_absolute_s",
        about: "As browse_absolute_s, for privileged sessions (AAL3: at most 12 h shall be).",
        rule: Rule::Number { min: 60, max: 43_200, value: |c| c.sessions.privileged_absolute_s },
    },
    Setting {
        key: "sessions.concurrent_max",
        about: "Sessions that a subject may have at the same time; 0 for no limit. At the first limit, those of before count.",
        rule: Rule::Number { min: 0, max: 100, value: |c| c.sessions.concurrent_max },
    },
    Setting {
        key: "sessions.on_limit",
        about: "What happens to a session over concurrent_max, if the call that opens it does not say.",
        rule: Rule::Text {
            allowed: "evict-oldest or refuse",
            value: |c| serialized(&c.sessions.on_limit),
            accepts: |_| true,
        },
    },
    Setting {
        key: "sessions.recent_auth_s",
        about: "A user ends another device only with an authentication that is at most this old (ASVS 7.5.2).",
        rule: Rule::Number { min: 30, max: 86_400, value: |c| c.sessions.recent_auth_s },
    },
    Setting {
        key: "store.url",
        about: "Where sessions are kept: one file of this machine, a Redis, a primary behind sentinels, or a cluster.",
        rule: Rule::Text {
            allowed: "embedded:PATH, redis://USER:PASSWORD@HOST:PORT/DB, redis+sentinel://HOST:PORT,HOST:PORT/NAME or \
                      redis+cluster://HOST:PORT,HOST:PORT; rediss in place of redis for TLS",
            value: |c| c.store.url.to_string(),
            accepts: |t| t.len() <= 4_096 && (t.starts_with("embedded:") || t.starts_with("redis")),
        },
    },
    Setting {
        key: "store.timeout_ms",
        about: "Deadline of one call to the store.",
        rule: Rule::Number { min: 50, max: 60_000, value: |c| c.store.timeout_ms },
    },
    Setting {
        key: "store.acknowledge.floors",
        about: "Who has a floor before it is acknowledged: what ends or changes a session, subject, tenant or key.",
        rule: Rule::Text { allowed: LEVELS, value: |c| c.store.acknowledge.floors.into(), accepts: |_| true },
    },
    Setting {
        key: "store.acknowledge.sessions",
        about: "Who has a session that was opened, refreshed or ended before that is acknowledged.",
        rule: Rule::Text { allowed: LEVELS, value: |c| c.store.acknowledge.sessions.into(), accepts: |_| true },
    },
    Setting {
        key: "store.acknowledge.records",
        about: "Who has everything else: subjects, tenants, keys, the audit trail.",
        rule: Rule::Text { allowed: LEVELS, value: |c| c.store.acknowledge.records.into(), accepts: |_| true },
    },
    Setting {
        key: "store.acknowledge.timeout_ms",
        about: "How long replicas have to confirm; after it the outcome is unknown: 503, and the command may be repeated.",
        rule: Rule::Number { min: 10, max: 10_000, value: |c| c.store.acknowledge.timeout_ms },
    },
    Setting {
        key: "store.calls_concurrent",
        about: "Calls to Redis at the same time; more are answered 503 at once.",
        rule: Rule::Number { min: 16, max: 65_536, value: |c| c.store.calls_concurrent },
    },
    Setting {
        key: "store.accept",
        about: "Ways to lose acknowledged writes that are accepted; `portcullis doctor` names those of a store.",
        rule: Rule::Risks { value: |c| &c.store.accept },
    },
    Setting {
        key: "store.tls_ca_file",
        about: "Certificate authorities (PEM) for rediss:// addresses, in place of those of the system.",
        rule: Rule::Text { allowed: "a path", value: |c| path_text(c.store.tls_ca_file.as_deref()), accepts: |_| true },
    },
    Setting {
        key: "feed.heartbeat_ms",
        about: "Every hub hears from the origin at least this often.",
        rule: Rule::Number { min: 50, max: 60_000, value: |c| c.feed.heartbeat_ms },
    },
    Setting {
        key: "feed.clock_skew_ms_max",
        about: "How far apart the clocks of store, origin and gates may be; floors are kept that much longer.",
        rule: Rule::Number { min: 0, max: 60_000, value: |c| c.feed.clock_skew_ms_max },
    },
    Setting {
        key: "feed.push_timeout_ms",
        about: "Deadline of one push to one hub.",
        rule: Rule::Number { min: 50, max: 60_000, value: |c| c.feed.push_timeout_ms },
    },
    Setting {
        key: "feed.remember_s",
        about: "Origins and hubs remember for at least this long what was ended: set it to the age of the oldest backup of the \
                store that would be put back, and a little more.",
        rule: Rule::Number { min: 0, max: 604_800, value: |c| c.feed.remember_s },
    },
    Setting {
        key: "limits.body_bytes",
        about: "The largest request body; more is 413.",
        rule: Rule::Number { min: 1_024, max: 1_048_576, value: |c| c.limits.body_bytes },
    },
    Setting {
        key: "limits.requests_concurrent",
        about: "Requests worked on at the same time; more are answered 503 at once.",
        rule: Rule::Number { min: 1, max: 65_536, value: |c| c.limits.requests_concurrent },
    },
    Setting {
        key: "limits.request_timeout_ms",
        about: "Deadline of one request; 503 after it.",
        rule: Rule::Number { min: 100, max: 120_000, value: |c| c.limits.request_timeout_ms },
    },
    Setting {
        key: "limits.floors",
        about: "Floors held in memory, 32 bytes each; over it writes that raise a new floor are refused.",
        rule: Rule::Number { min: 1_000, max: 1_048_576, value: |c| c.limits.floors },
    },
    Setting {
        key: "limits.subjects_cached",
        about: "Subject records held in memory, and as many tenant records.",
        rule: Rule::Number { min: 0, max: 10_000_000, value: |c| c.limits.subjects_cached },
    },
    Setting {
        key: "limits.subjects_cached_s",
        about: "Age at which a cached subject record is read again.",
        rule: Rule::Number { min: 1, max: 60, value: |c| c.limits.subjects_cached_s },
    },
    Setting {
        key: "limits.client_requests_per_minute",
        about: "Management calls of one client (API key) in a minute; more are answered 429.",
        rule: Rule::Number { min: 1, max: 100_000_000, value: |c| c.limits.client_requests_per_minute },
    },
    Setting {
        key: "limits.address_requests_per_minute",
        about: "Requests of one address (IPv6: /64) in a minute where no key is asked for; more are answered 429.",
        rule: Rule::Number { min: 1, max: 100_000_000, value: |c| c.limits.address_requests_per_minute },
    },
    Setting {
        key: "limits.address_failures_per_minute",
        about: "Credentials that do not count, of one address in a minute; after them it is answered 429. A gate is one address.",
        rule: Rule::Number { min: 1, max: 100_000_000, value: |c| c.limits.address_failures_per_minute },
    },
    Setting {
        key: "limits.idempotency_s",
        about: "For how long the answer to an Idempotency-Key is kept.",
        rule: Rule::Number { min: 60, max: 86_400, value: |c| c.limits.idempotency_s },
    },
    Setting {
        key: "limits.idempotency_answers",
        about: "Answers that one process keeps in that time; over it a request with such a key is answered 429.",
        rule: Rule::Number { min: 1, max: 100_000_000, value: |c| c.limits.idempotency_answers },
    },
    Setting {
        key: "limits.audit_s",
        about: "For how long the audit trail is kept; at most 65,536 acts are.",
        rule: Rule::Number { min: 3_600, max: 31_536_000, value: |c| c.limits.audit_s },
    },
    Setting {
        key: "telemetry.log_format",
        about: "How a line of the log (standard error) looks.",
        rule: Rule::Text { allowed: "text or json", value: |c| serialized(&c.telemetry.log_format), accepts: |_| true },
    },
    Setting {
        key: "telemetry.log_filter",
        about: "Which events are logged.",
        rule: Rule::Text {
            allowed: "a filter such as `info` or `info,portcullis_origin=debug`",
            value: |c| c.telemetry.log_filter.clone(),
            accepts: |t| tracing_subscriber::EnvFilter::try_new(t).is_ok(),
        },
    },
    Setting {
        key: "secrets.master_key_file",
        about: "File with the master key, if PORTCULLIS_MASTER_KEY is not set.",
        rule: Rule::Text {
            allowed: "a path",
            value: |c| path_text(c.secrets.master_key_file.as_deref()),
            accepts: |_| true,
        },
    },
    Setting {
        key: "secrets.master_key_second_file",
        about: "File with a second master key, if PORTCULLIS_MASTER_KEY_SECOND is not set. Only while the key is changed.",
        rule: Rule::Text {
            allowed: "a path",
            value: |c| path_text(c.secrets.master_key_second_file.as_deref()),
            accepts: |_| true,
        },
    },
    Setting {
        key: "secrets.management_key_file",
        about: "File with the management key, if PORTCULLIS_MANAGEMENT_KEY is not set.",
        rule: Rule::Text {
            allowed: "a path",
            value: |c| path_text(c.secrets.management_key_file.as_deref()),
            accepts: |_| true,
        },
    },
];

/// Checks every value against its limits. `place` says where the value of a key came from.
pub(super) fn check(config: &Config, place: impl Fn(&str) -> String) -> Result<(), ConfigError> {
    let wrong = |key: &str, found: String, allowed: String| ConfigError::Value {
        key: key.to_owned(),
        found,
        allowed,
        place: place(key),
    };
    for setting in SETTINGS {
        let refused = match &setting.rule {
            Rule::Number { min, max, value } => {
                let found = value(config);
                (!(min..=max).contains(&&found)).then(|| found.to_string())
            }
            Rule::Text { value, accepts, .. } => {
                let found = value(config);
                (!accepts(&found)).then(|| format!("{found:?}"))
            }
            Rule::Risks { .. } => None,
        };
        if let Some((found, allowed)) = refused.zip(setting.rule.allowed()) {
            return Err(wrong(setting.key, found, allowed));
        }
    }
    let sessions = &config.sessions;
    for (tier, idle_s, absolute_s) in [
        ("browse", sessions.browse_idle_s, sessions.browse_absolute_s),
        ("standard", sessions.standard_idle_s, sessions.standard_absolute_s),
        ("privileged", sessions.privileged_idle_s, sessions.privileged_absolute_s),
    ] {
        if idle_s > absolute_s {
            let allowed = format!("at most sessions.{tier}_absolute_s");
            return Err(wrong(&format!("sessions.{tier}_idle_s"), idle_s.to_string(), allowed));
        }
    }
    let tokens = &config.tokens;
    if !are_apart(&tokens.access_cookie, &tokens.refresh_cookie) {
        let allowed = "another name than tokens.access_cookie".to_owned();
        return Err(wrong("tokens.refresh_cookie", format!("{:?}", tokens.refresh_cookie), allowed));
    }
    check_clients(&config.clients, &wrong)?;
    check_hubs(&config.hubs, wrong)
}

fn check_clients(clients: &[Client], wrong: &impl Fn(&str, String, String) -> ConfigError) -> Result<(), ConfigError> {
    if clients.len() > CLIENTS_MAX {
        let found = format!("a list of {}", clients.len());
        return Err(wrong("clients", found, format!("at most {CLIENTS_MAX} clients")));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, client) in clients.iter().enumerate() {
        let key = |name: &str| format!("clients[{index}].{name}");
        client.check().map_err(|Refused(name, found, allowed)| wrong(&key(name), found, allowed.to_owned()))?;
        if !seen.insert(&client.id) {
            return Err(wrong(&key("id"), format!("{:?}", client.id), "unique".to_owned()));
        }
    }
    Ok(())
}

fn check_hubs(hubs: &[Hub], wrong: impl Fn(&str, String, String) -> ConfigError) -> Result<(), ConfigError> {
    if hubs.len() > HUBS_MAX {
        return Err(wrong("hubs", format!("a list of {}", hubs.len()), format!("at most {HUBS_MAX} hubs")));
    }
    for (index, hub) in hubs.iter().enumerate() {
        if !is_hub_name(&hub.name) {
            let allowed = "1 to 32 of a-z A-Z 0-9 - _".to_owned();
            return Err(wrong(&format!("hubs[{index}].name"), format!("{:?}", hub.name), allowed));
        }
        if hubs.iter().take(index).any(|other| other.name == hub.name) {
            return Err(wrong(&format!("hubs[{index}].name"), format!("{:?}", hub.name), "unique".to_owned()));
        }
        if !is_http_url(&hub.url) {
            let allowed = "an http or https URL".to_owned();
            let shown = StoreUrl::from(hub.url.clone()).to_string();
            return Err(wrong(&format!("hubs[{index}].url"), format!("{shown:?}"), allowed));
        }
    }
    Ok(())
}

/// The documented configuration: TOML that `--config` accepts as it stands, every value at its default, with its
/// meaning and limits above it.
pub fn document() -> String {
    let defaults = Config::default();
    let mut text = String::from(
        "# Configuration of `portcullis serve`. Every value is shown with its default.\n\
         # In the environment: PORTCULLIS_SECTION__NAME, for example PORTCULLIS_TOKENS__ACCESS_TTL_S=120.\n\
         # The unit of a number is the end of its name: _ms, _s, _bytes; without one it is a count.\n\
         #\n\
         # Secrets are read from the environment, or from files named in [secrets]:\n\
         #   PORTCULLIS_MASTER_KEY      32 random bytes, base64url or hexadecimal; seals the signing keys in the store\n\
         #   PORTCULLIS_MASTER_KEY_SECOND  the one after it before a change, the one before it afterwards: opens, never seals\n\
         #   PORTCULLIS_MANAGEMENT_KEY  22 to 256 visible ASCII characters; the bearer key of management calls\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (of, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if of != section {
            section = of;
            let _ = write!(text, "\n[{section}]\n");
        }
        let _ = writeln!(text, "# {}", setting.about);
        match &setting.rule {
            Rule::Number { min, max, value } => {
                let _ = writeln!(text, "# From {min} to {max}.\n{name} = {}", value(&defaults));
            }
            Rule::Text { allowed, value, .. } => {
                let unset = if section == "secrets" || setting.key == "store.tls_ca_file" { "# " } else { "" };
                let _ = writeln!(text, "# Allowed: {allowed}.\n{unset}{name} = {:?}", value(&defaults));
            }
            Rule::Risks { value } => {
                let [all, set] = [&Risk::ALL, value(&defaults)].map(|risks| risks.iter().map(|risk| risk.name()));
                let _ = writeln!(text, "# Any of: {}.", all.collect::<Vec<_>>().join(", "));
                let _ = writeln!(text, "{name} = {:?}", set.collect::<Vec<_>>());
            }
        }
    }
    let _ = write!(
        text,
        "\n# Hubs that floors are pushed to, at most {HUBS_MAX}; one block each. In the environment:\n\
         # PORTCULLIS_HUBS='[{{name=\"local\",url=\"http://127.0.0.1:8787/.portcullis/hubs/local/frames\"}}]'\n\
         # [[hubs]]\n\
         # Allowed: 1 to 32 of a-z A-Z 0-9 - _, unique.\n\
         # name = \"local\"\n\
         # Allowed: an http or https URL.\n\
         # url = \"http://127.0.0.1:8787/.portcullis/hubs/local/frames\"\n",
    );
    text.push_str(&clients::document());
    text
}

fn is_base_url(text: &str) -> bool {
    text.len() <= 256 && !text.ends_with('/') && !text.contains(['?', '#']) && is_http_url(text)
}

fn is_http_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn is_hub_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// The configuration's own spelling of a choice.
fn serialized(choice: &impl serde::Serialize) -> String {
    serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn path_text(path: Option<&std::path::Path>) -> String {
    path.map(|path| path.display().to_string()).unwrap_or_default()
}
