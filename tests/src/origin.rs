//! An origin on a free port with a store of its own.

use ::origin::{
    config::{
        Client as OAuthClient, Config, Hub, StoreUrl,
        secrets::{ManagementKey, MasterKey, Secrets},
    },
    server::{Server, open_keys, open_store},
};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use shared::keys::PublicKey;

/// Opens management calls to every origin of a test.
pub const MANAGEMENT_KEY: &str = "management-key-of-a-test";

/// Opens the signing keys in the store of every origin of a test.
pub const MASTER_KEY: [u8; 32] = *b"a master key of thirty-two bytes";

/// An origin of this process; stop it with [`TestOrigin::stop`].
pub struct TestOrigin {
    server: Server,
    config: Config,
    client: Client,
    base: String,
}

impl TestOrigin {
    /// Starts one over the file in `directory`, pushing to `hubs`, with the public clients `web` and `other`.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn start(directory: &std::path::Path, hubs: Vec<Hub>) -> anyhow::Result<Self> {
        Self::start_with(directory, |config| config.hubs = hubs).await
    }

    /// As [`Self::start`], with a configuration that `choose` has changed.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn start_with(directory: &std::path::Path, choose: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let clients = vec![OAuthClient::public("web"), OAuthClient::public("other")];
        let mut config = Config { clients, ..Config::default() };
        config.server.listen.set_port(0);
        config.store.url = StoreUrl::from(format!("embedded:{}", directory.join("store.db").display()));
        config.feed.heartbeat_ms = 100;
        choose(&mut config);
        Self::start_again(config).await
    }

    /// Starts the one that was stopped: its store, its address.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn start_again(config: Config) -> anyhow::Result<Self> {
        Self::start_under(config, MasterKey::new(MASTER_KEY)).await
    }

    /// As [`Self::start_again`], under another master key.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn start_under(mut config: Config, master_key: MasterKey) -> anyhow::Result<Self> {
        let secrets = Secrets { master_key, management_key: ManagementKey::new(MANAGEMENT_KEY) };
        let server = Server::start(config.clone(), secrets).await?;
        // Where it is now, it can be again.
        config.server.listen = server.address();
        let base = format!("http://{}", server.address());
        Ok(Self { server, config, client: Client::builder().no_proxy().build()?, base })
    }

    /// Stops it and waits until it has stopped; with what it gives back it can be started again at the same place.
    pub async fn stop(self) -> Config {
        self.server.stop().await;
        self.config
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        self.config.issuer()
    }

    /// What opens its management calls.
    pub fn management_key(&self) -> &'static str {
        MANAGEMENT_KEY
    }

    /// The public key of its feed.
    pub fn feed_key(&self) -> &str {
        self.server.feed_key()
    }

    /// A request without credential.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// A request with the management key.
    pub fn managed(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(MANAGEMENT_KEY)
    }

    /// A management call; its answer.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn manage(&self, method: Method, path: &str, body: Value) -> anyhow::Result<(u16, Value)> {
        let request = self.request(method.clone(), path).bearer_auth(MANAGEMENT_KEY);
        let request = if method == Method::GET { request } else { request.json(&body) };
        json(request.send().await?).await
    }

    /// `POST /oauth2/token`; its answer.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn refresh(&self, token: &str, client: &str) -> anyhow::Result<(u16, Value)> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", client)];
        json(self.request(Method::POST, "/oauth2/token").form(&form).send().await?).await
    }

    /// `POST /oauth2/introspect`; whether the token is active.
    ///
    /// # Errors
    ///
    /// No answer.
    pub async fn is_active(&self, token: &str) -> anyhow::Result<bool> {
        let request = self.request(Method::POST, "/oauth2/introspect").bearer_auth(MANAGEMENT_KEY);
        let (_, answer) = json(request.form(&[("token", token)]).send().await?).await?;
        Ok(answer["active"] == true)
    }
}

/// Makes the keys of an origin that will start over the file in `directory`, and says the public feed key.
///
/// # Errors
///
/// The store does not open.
pub async fn feed_key(directory: &std::path::Path) -> anyhow::Result<PublicKey> {
    let mut config = Config::default();
    config.store.url = StoreUrl::from(format!("embedded:{}", directory.join("store.db").display()));
    let store = open_store(&config).await?;
    let keys = open_keys(&store, &config, &MasterKey::new(MASTER_KEY)).await?;
    Ok(PublicKey::ed25519_from_text(&keys.current().feed().public_text())?)
}

async fn json(response: Response) -> anyhow::Result<(u16, Value)> {
    let status = response.status().as_u16();
    Ok((status, serde_json::from_slice(&response.bytes().await?)?))
}
