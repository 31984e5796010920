//! The configuration as an operator meets it: the documented one is valid, a wrong one is refused by name.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::Write as _;

use portcullis_origin::config::{Config, ConfigError, document};

fn load(text: &str) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Config::load(Some(file.path()))
}

#[test]
fn the_documented_configuration_is_the_default_one() {
    assert_eq!(load(&document()).unwrap(), Config::default());
    assert_eq!(load("").unwrap(), Config::default());
}

#[test]
fn every_setting_is_documented() {
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let document = document();
    for (section, settings) in defaults.as_object().unwrap() {
        for (name, value) in settings.as_object().into_iter().flatten() {
            let inner = value.as_object().into_iter().flat_map(|inner| inner.keys());
            let mut names: Vec<_> = inner.map(|inner| format!("{name}.{inner}")).collect();
            if names.is_empty() {
                names.push(name.clone());
            }
            for name in names {
                assert!(document.contains(&format!("\n{name} = ")), "{section}.{name}");
            }
        }
    }
}

#[test]
fn a_wrong_value_is_refused_by_name_with_what_is_allowed() {
    let table = [
        ("[tokens]\naccess_ttl_s = 5", &["tokens.access_ttl_s", "5", "60 to 3600", ".toml"][..]),
        (
            "[tokens]\naccess_ttl_s = \"5\"",
            &["tokens.access_ttl_s", "the text \"5\"", "whole number from 60 to 3600", ".toml"],
        ),
        ("[tokens]\naccess_ttl_s = -5", &["tokens.access_ttl_s", "-5", "whole number from 60 to 3600"]),
        ("[tokens]\naccess_ttl_s = 60.5", &["tokens.access_ttl_s", "60.5", "whole number from 60 to 3600"]),
        ("[tokens]\naccess_ttl_s = true", &["tokens.access_ttl_s", "true", "whole number from 60 to 3600"]),
        ("[store]\nurl = 5", &["store.url", "5", "embedded:PATH", ".toml"]),
        ("[tokens]\naccess_ttl = 300", &["access_ttl", "access_ttl_s"]),
        ("[tokens]\nalgorithm = \"HS256\"", &["tokens.algorithm", "HS256", "Ed25519", "ES256"]),
        ("[token]\naccess_ttl_s = 300", &["token", "tokens"]),
        ("[server]\nlisten = \"localhost\"", &["server.listen"]),
        ("[server]\npublic_url = \"http://a/\"", &["server.public_url", "http://a/", "trailing slash"]),
        ("[sessions]\nstandard_idle_s = 90000", &["sessions.standard_idle_s", "at most sessions.standard_absolute_s"]),
        ("[sessions]\nprivileged_absolute_s = 43201", &["sessions.privileged_absolute_s", "60 to 43200"]),
        ("[sessions]\ntier = \"root\"", &["sessions.tier", "root", "privileged"]),
        ("[sessions]\nconcurrent_max = 101", &["sessions.concurrent_max", "0 to 100"]),
        ("[sessions]\non_limit = \"evict\"", &["sessions.on_limit", "evict-oldest"]),
        ("[store]\nurl = \"mysql://x\"", &["store.url", "mysql", "embedded:PATH"]),
        ("[store.acknowledge]\nfloors = \"replicated 6\"", &["store.acknowledge.floors", "replicated N", "1 to 5"]),
        ("[store]\nacknowledge.timeout_ms = 5", &["store.acknowledge.timeout_ms", "5", "10 to 10000"]),
        ("[store]\naccept = [\"everything\"]", &["store.accept", "everything", "fsync-everysec"]),
        ("[telemetry]\nlog_filter = \"a=b=c\"", &["telemetry.log_filter"]),
        ("[[hubs]]\nname = \"a b\"\nurl = \"http://h\"", &["hubs[0].name", "a b"]),
        ("[[hubs]]\nname = \"a\"\nurl = \"ftp://h\"", &["hubs[0].url", "ftp"]),
        ("[[hubs]]\nname = \"a\"", &["url"]),
        ("[[clients]]\nid = \"a b\"\nkind = \"public\"", &["clients[0].id", "a b"]),
        ("[[clients]]\nid = \"a\"\nkind = \"secret\"", &["secret", "public", "confidential"]),
        ("[[clients]]\nid = \"a\"\nkind = \"confidential\"", &["clients[0].kind", "secret_sha256"]),
        ("[[clients]]\nid = \"a\"\nkind = \"public\"\njwks = '{}'", &["clients[0].jwks", "JWKS"]),
        ("[[clients]]\nid = \"a\"\nkind = \"public\"\njwks_file = \"/nowhere\"", &["clients[0].jwks", "/nowhere"]),
        ("[[clients]]\nid = \"a\"\nkind = \"public\"\nscopes = [\"a b\"]", &["clients[0].scopes", "a b"]),
        ("[[clients]]\nid = \"a\"\nkind = \"public\"\naccess_ttl_s = 5", &["clients[0].access_ttl_s", "60 to 3600"]),
        ("[tokens]\nunregistered_clients = \"maybe\"", &["tokens.unregistered_clients", "maybe", "refuse", "public"]),
        ("[tokens]\naccess_cookie = \"at\"", &["tokens.access_cookie", "at", "__Host-"]),
        ("[tokens]\nrefresh_cookie = \"__Host-Http-AT\"", &["tokens.refresh_cookie", "another name"]),
        ("[tokens", &["TOML"]),
    ];
    for (text, expected) in table {
        let error = load(text).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{text:?} says {error:?}, without {part:?}");
        }
    }
}

#[test]
fn clients_are_read_and_replace_the_default_one() {
    assert_eq!(load("").unwrap().clients[0].id, "web");
    let digest = "ab".repeat(32);
    let client = format!("[[clients]]\nid = \"backend\"\nkind = \"confidential\"\nsecret_sha256 = \"{digest}\"\n");
    let clients = load(&client).unwrap().clients;
    assert_eq!((clients.len(), clients[0].id.as_str()), (1, "backend"));
    assert!(load(&client.repeat(2)).unwrap_err().to_string().contains("clients[1].id"));
}

/// I10: someone may put the secret itself where its hash belongs.
#[test]
fn a_secret_in_the_place_of_its_hash_is_refused_and_not_shown() {
    let text = "[[clients]]\nid = \"backend\"\nkind = \"confidential\"\nsecret_sha256 = \"hunter2\"";
    let error = load(text).unwrap_err();
    assert!(error.to_string().contains("clients[0].secret_sha256"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[test]
fn two_hubs_may_not_share_a_name() {
    let hub = "[[hubs]]\nname = \"a\"\nurl = \"http://h\"\n";
    assert!(load(&hub.repeat(2)).unwrap_err().to_string().contains("hubs[1].name"));
}

#[test]
fn a_missing_file_is_an_error() {
    let error = Config::load(Some("/nowhere/portcullis.toml".as_ref())).unwrap_err();
    assert!(error.to_string().contains("/nowhere/portcullis.toml"), "{error}");
}

/// I10: an address with a password does not print.
#[test]
fn a_password_in_the_address_of_the_store_is_not_shown() {
    let config = load("[store]\nurl = \"redis://user:hunter2@host:6379/0\"").unwrap();
    assert!(config.store.url.expose().contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let error = load("[store]\nurl = \"mysql://user:hunter2@host\"").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}
