//! What the address of the store names: one server, a primary behind sentinels, or a cluster; with or without TLS.
//!
//! ```text
//! redis://[USER:PASSWORD@]HOST:PORT[/DB]                              one server
//! redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT,…/NAME[/DB]    the primary NAME, asked of the sentinels
//! redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT,…               a cluster, by any of its nodes
//! redis://HOST:PORT,redis://HOST:PORT,…                               the same
//! ```
//!
//! `rediss` in place of `redis` is TLS, to sentinels too. Sentinels with a password of their own take
//! `?sentinel_username=…&sentinel_password=…` at the end.

use std::{path::Path, time::Duration};

use redis::{
    Client, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates, TlsMode,
    cluster::{ClusterClient, ClusterClientBuilder},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

use super::{StoreError, nodes::Nodes};

/// How connections are made.
pub(super) enum Source {
    Single(Box<Client>),
    Sentinel(Box<SentinelClient>),
    Cluster(Box<ClusterClient>),
}

/// The nodes that the address of a cluster names, each as it is connected to by itself.
///
/// # Errors
///
/// As for [`Source::parse`].
pub(super) fn nodes_of(url: &str, ca_file: Option<&Path>, timeout: Duration) -> Result<Nodes, StoreError> {
    let certificates = ca_file.map(read_ca).transpose()?;
    let urls = match url.split_once("://") {
        Some(("redis+cluster", rest)) => nodes("redis", rest),
        Some(("rediss+cluster", rest)) => nodes("rediss", rest),
        _ => url.split(',').map(|url| url.trim().to_owned()).collect(),
    };
    let seeds: Option<Vec<ConnectionInfo>> = urls.into_iter().map(|url| url.into_connection_info().ok()).collect();
    let seeds = seeds.ok_or_else(|| StoreError::Unsuitable("its address is malformed".to_owned()))?;
    Ok(Nodes::new(seeds, certificates, timeout))
}

impl Source {
    /// Reads an address; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// It is malformed, or the file of the certificate authority cannot be read.
    pub(super) fn parse(url: &str, ca_file: Option<&Path>, timeout: Duration) -> Result<Self, StoreError> {
        let certificates = ca_file.map(read_ca).transpose()?;
        let source = match url.split_once("://") {
            Some(("redis+sentinel", rest)) => sentinel("redis", rest, certificates),
            Some(("rediss+sentinel", rest)) => sentinel("rediss", rest, certificates),
            Some(("redis+cluster", rest)) => cluster(&nodes("redis", rest), certificates, timeout),
            Some(("rediss+cluster", rest)) => cluster(&nodes("rediss", rest), certificates, timeout),
            _ if url.contains(",redis") => {
                let urls: Vec<String> = url.split(',').map(|url| url.trim().to_owned()).collect();
                cluster(&urls, certificates, timeout)
            }
            _ => match certificates {
                Some(certificates) => Client::build_with_tls(url, certificates).ok(),
                None => Client::open(url).ok(),
            }
            .map(|client| Self::Single(Box::new(client))),
        };
        source.ok_or_else(|| StoreError::Unsuitable("its address is malformed".to_owned()))
    }
}

fn read_ca(path: &Path) -> Result<TlsCertificates, StoreError> {
    let root_cert = std::fs::read(path)
        .map_err(|error| StoreError::Unsuitable(format!("the file of store.tls_ca_file cannot be read: {error}")))?;
    Ok(TlsCertificates { client_tls: None, root_cert: Some(root_cert) })
}

/// `CREDENTIALS@HOST,HOST` as one address per host, each with the credentials.
fn nodes(scheme: &str, rest: &str) -> Vec<String> {
    let (credentials, hosts) = split_credentials(rest.trim_end_matches('/'));
    hosts.split(',').map(|host| format!("{scheme}://{credentials}{}", host.trim())).collect()
}

/// The `@` stays with the credentials.
fn split_credentials(authority: &str) -> (&str, &str) {
    authority.rfind('@').map_or(("", authority), |at| authority.split_at(at.saturating_add(1)))
}

fn cluster(urls: &[String], certificates: Option<TlsCertificates>, timeout: Duration) -> Option<Source> {
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let mut builder = ClusterClientBuilder::new(urls).connection_timeout(timeout).response_timeout(timeout);
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    builder.build().ok().map(|client| Source::Cluster(Box::new(client)))
}

fn sentinel(scheme: &str, rest: &str, certificates: Option<TlsCertificates>) -> Option<Source> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/')?;
    let (name, db) = path.split_once('/').unwrap_or((path, "0"));
    let (credentials, hosts) = split_credentials(authority);
    let connect = |text: String| text.into_connection_info().ok();
    let sentinels: Option<Vec<ConnectionInfo>> =
        hosts.split(',').map(|host| connect(format!("{scheme}://{}", host.trim()))).collect();
    let sentinels = sentinels?;
    // Only what stands around the host is used: it is percent-decoded as in every other address.
    let server = connect(format!("{scheme}://{credentials}localhost/{db}"))?;
    if name.is_empty() || hosts.is_empty() {
        return None;
    }

    let addresses = sentinels.iter().map(|sentinel| sentinel.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master).ok()?;
    let settings = server.redis_settings();
    builder = builder.set_client_to_redis_db(settings.db());
    if let Some(username) = settings.username() {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = settings.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        builder = match &*key {
            "sentinel_username" => builder.set_client_to_sentinel_username(value),
            "sentinel_password" => builder.set_client_to_sentinel_password(value),
            _ => return None,
        };
    }
    if scheme == "rediss" {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        builder = builder.set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder.set_client_to_redis_certificates(certificates.clone());
        builder = builder.set_client_to_sentinel_certificates(certificates);
    }
    builder.build().ok().map(|client| Source::Sentinel(Box::new(client)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_address_is_told_apart() {
        let kind = |url: &str| match Source::parse(url, None, Duration::from_secs(1)) {
            Ok(Source::Single(_)) => "single",
            Ok(Source::Sentinel(_)) => "sentinel",
            Ok(Source::Cluster(_)) => "cluster",
            Err(_) => "malformed",
        };
        for (url, expected) in [
            ("redis://127.0.0.1:1/2", "single"),
            ("redis://user:p%40ss@host", "single"),
            ("rediss://user:pass@host:1", "single"),
            ("redis://a:1,redis://b:2", "cluster"),
            ("redis+cluster://a:1", "cluster"),
            ("rediss+cluster://user:pass@a:1,b:2,[::1]:3", "cluster"),
            ("redis+sentinel://a:1,b:2,c:3/primary", "sentinel"),
            ("rediss+sentinel://user:pass@a:1/primary/4?sentinel_password=x", "sentinel"),
            ("redis+sentinel://a:1", "malformed"),
            ("redis+sentinel://a:1/", "malformed"),
            ("redis+sentinel://a:1/primary?colour=red", "malformed"),
            ("redis+sentinel://a:x/primary", "malformed"),
            ("redis://", "malformed"),
        ] {
            assert_eq!(kind(url), expected, "{url}");
        }
        let missing = Source::parse("rediss://a", Some("/nowhere/ca.pem".as_ref()), Duration::from_secs(1)).err();
        assert!(matches!(missing, Some(StoreError::Unsuitable(text)) if text.contains("store.tls_ca_file")));
    }
}
