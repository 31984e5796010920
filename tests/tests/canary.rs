//! No piece of a credential where it does not belong: log, metric, error, list, status, store, application (I10).

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use origin::{
    config::{Client, Config, StoreUrl},
    keys::jwk::Jwk,
};
use portcullis_tests::{
    MANAGEMENT_KEY, MASTER_KEY, REDIS_PASSWORD, Setting, TestRedis,
    secrets::{Canaries, assertion, private_keys},
    set_cookies,
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tracing_subscriber::filter::LevelFilter;

type Tested = anyhow::Result<()>;

const CLIENT_SECRET: &str = "kUq3c0mS7ZJ1oYw2rTg8dQ";

/// Everything that this process logged.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn log() -> MutexGuard<'static, Vec<u8>> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        log().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_default()
}

/// Head and body of an answer that refuses.
async fn refusal(request: RequestBuilder) -> anyhow::Result<String> {
    let answer = request.send().await?;
    let head = format!("{} {:?}\n", answer.status(), answer.headers());
    anyhow::ensure!(answer.status().as_u16() >= 400, "{head}");
    Ok(head + &answer.text().await?)
}

/// An answer that gives something.
async fn given(request: RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    let (status, body) = (answer.status(), answer.text().await?);
    anyhow::ensure!(status.is_success(), "{status} {body}");
    Ok(serde_json::from_str(&body)?)
}

/// Everything at one store: the setting, what is secret in it, and what was told of it.
struct Life {
    setting: Setting,
    canaries: Canaries,
    errors: String,
    lists: String,
    signer: Ed25519KeyPair,
}

impl Life {
    async fn begin(store: Option<StoreUrl>) -> anyhow::Result<Self> {
        let _ = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(|| Log)
            .try_init();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?;
        let signer = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref())?;
        let setting = Setting::start_with(|config: &mut Config| {
            let hash = digest::digest(&digest::SHA256, CLIENT_SECRET.as_bytes());
            let hash = Base64UrlUnpadded::encode_string(hash.as_ref());
            let jwks = json!({ "keys": [Jwk::ed25519(signer.public_key().as_ref())] }).to_string();
            config.clients.push(Client::confidential("backend", Some(hash), None));
            config.clients.push(Client::confidential("signer", None, Some(jwks)));
            if let Some(store) = store {
                config.store.url = store;
            }
        })
        .await?;
        let mut canaries = Canaries::default();
        canaries.add("the management key", MANAGEMENT_KEY.as_bytes());
        canaries.add("the master key", &MASTER_KEY);
        canaries.add("the password of Redis", REDIS_PASSWORD.as_bytes());
        canaries.add("a client's secret", CLIENT_SECRET.as_bytes());
        Ok(Self { setting, canaries, errors: String::new(), lists: String::new(), signer })
    }

    fn managed(&self, method: Method, path: &str, body: &Value) -> RequestBuilder {
        self.setting.origin.managed(method, path).json(body)
    }

    async fn refuse(&mut self, request: RequestBuilder) -> Tested {
        self.errors += &refusal(request).await?;
        Ok(())
    }

    async fn open(&mut self, client: &str) -> anyhow::Result<Value> {
        let body = json!({ "subject": "alice", "client_id": client, "roles": ["member"], "scope": "read" });
        let opened = given(self.managed(Method::POST, "/v1/sessions", &body)).await?;
        self.canaries.add_tokens(&opened);
        Ok(opened)
    }

    fn token_form(&self, fields: &[(&str, &str)]) -> RequestBuilder {
        self.setting
            .origin
            .request(Method::POST, "/oauth2/token")
            .form(&[&[("grant_type", "refresh_token")], fields].concat())
    }

    /// Sessions of browsers: good and bad uses at the gate, a renewal, reuse.
    async fn sessions(&mut self) -> Tested {
        let (opened, other) = (self.open("web").await?, self.open("web").await?);
        let (first, access) = (text(&opened, "refresh_token"), text(&opened, "access_token"));
        let second = given(self.token_form(&[("refresh_token", first), ("client_id", "web")])).await?;
        self.canaries.add_tokens(&second);
        let path = format!("/v1/sessions/{}/step-up", text(&other, "session_id"));
        let stepped_up = given(self.managed(Method::POST, &path, &json!({ "amr": ["otp"] }))).await?;
        self.canaries.add_tokens(&stepped_up);

        let gate = |path: &str| self.setting.gate.request(Method::GET, path);
        let good = gate("/app/x").bearer_auth(text(&stepped_up, "access_token"));
        let own = gate("/.portcullis/session/devices").bearer_auth(text(&stepped_up, "access_token"));
        let renewed = gate("/app/x").header("cookie", format!("__Host-Http-rt={}", text(&stepped_up, "refresh_token")));
        let renewed = renewed.send().await?;
        let lines = set_cookies(&renewed);
        let value =
            |at: usize| lines.get(at).and_then(|line| line.split(['=', ';']).nth(1)).unwrap_or_default().to_owned();
        self.canaries.add_tokens(&json!({ "access_token": value(0), "refresh_token": value(1) }));
        self.lists += &(renewed.text().await? + &given(good).await?.to_string() + &given(own).await?.to_string());

        let twice = format!("__Host-Http-at={access}; __Host-Http-at={access}; __Host-Http-rt={first}");
        let requests = [
            gate("/app/admin/x").bearer_auth(text(&stepped_up, "access_token")),
            gate("/app/x").bearer_auth(first),
            gate("/app/x").bearer_auth(format!("{access}A")),
            gate("/app/x").header("cookie", &twice),
            gate(&format!("/app/x?access_token={access}")),
            gate(&format!("/app/{access}//x")).bearer_auth(access),
            self.token_form(&[("refresh_token", text(&second, "refresh_token")), ("client_id", "other")]),
            self.token_form(&[("refresh_token", first), ("client_id", "web"), ("scope", "more")]),
            self.managed(Method::POST, "/v1/sessions", &json!({ "subject": first, "client_id": access })),
            self.setting.origin.request(Method::GET, &format!("/v1/sessions/{first}?access_token={access}")),
            self.setting.origin.request(Method::GET, "/v1/subjects/alice").bearer_auth(access),
        ];
        for request in requests {
            self.refuse(request).await?;
        }
        let third = self.token_form(&[("refresh_token", text(&second, "refresh_token")), ("client_id", "web")]);
        let third = given(third).await?;
        self.canaries.add_tokens(&third);
        self.refuse(self.token_form(&[("refresh_token", first), ("client_id", "web")])).await
    }

    /// Confidential clients: a secret and a signed assertion, right and wrong.
    async fn clients(&mut self) -> Tested {
        let (backend, signer) = (self.open("backend").await?, self.open("signer").await?);
        let by_secret = [("refresh_token", text(&backend, "refresh_token"))];
        let assertion = assertion("signer", self.setting.origin.issuer(), &self.signer, "canary");
        self.canaries.add_jwt("an assertion", &assertion);
        let by_assertion = [
            ("refresh_token", text(&signer, "refresh_token")),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.as_str()),
        ];
        let in_body = [by_secret[0], ("client_id", "backend"), ("client_secret", CLIENT_SECRET)];
        let requests = [
            self.token_form(&by_secret).basic_auth("backend", Some(format!("{CLIENT_SECRET}A"))),
            self.token_form(&by_secret).basic_auth(CLIENT_SECRET, Some("backend")),
            self.token_form(&by_secret).bearer_auth(CLIENT_SECRET),
            self.token_form(&in_body),
        ];
        for request in requests {
            self.refuse(request).await?;
        }
        let backend = given(self.token_form(&by_secret).basic_auth("backend", Some(CLIENT_SECRET))).await?;
        self.canaries.add_tokens(&backend);
        let signer = given(self.token_form(&by_assertion)).await?;
        self.canaries.add_tokens(&signer);
        self.refuse(self.token_form(&by_assertion)).await
    }

    /// Keys of the management API: made, used, rotated, mistyped; and answers that are kept to be given again.
    async fn api_keys(&mut self) -> Tested {
        let body = json!({ "name": "canary", "scopes": ["sessions:write", "apikeys:read"] });
        let make = || self.managed(Method::POST, "/v1/apikeys", &body).header("idempotency-key", "make");
        let (made, again) = (given(make()).await?, given(make()).await?);
        assert_eq!(made, again, "the answer was kept");
        let path = format!("/v1/apikeys/{}", text(&made, "id"));
        let rotate = self.managed(Method::POST, &format!("{path}/rotate"), &json!({ "overlap_s": 60 }));
        let rotated = given(rotate.header("idempotency-key", "rotate")).await?;
        let (old, new) = (text(&made, "key").to_owned(), text(&rotated, "key").to_owned());
        assert_ne!(old, new);
        for key in [&old, &new] {
            self.canaries.add_text("an API key", key.get(26..).unwrap_or_default());
        }
        let open = |key: &str| {
            let request = self.setting.origin.request(Method::POST, "/v1/sessions").bearer_auth(key);
            request.header("idempotency-key", "open").json(&json!({ "subject": "bob", "client_id": "web" }))
        };
        for key in [&old, &new, &old] {
            let opened = given(open(key)).await?;
            self.canaries.add_tokens(&opened);
        }
        let ended = given(self.managed(Method::POST, &format!("{path}/rotate"), &json!({ "overlap_s": 0 }))).await?;
        self.canaries.add_text("an API key", text(&ended, "key").get(26..).unwrap_or_default());
        let requests = [
            open(&old),
            open(&format!("{new}A")),
            self.setting.origin.request(Method::GET, &format!("/v1/apikeys/{new}")).bearer_auth(text(&ended, "key")),
            self.setting.origin.request(Method::GET, "/v1/apikeys").basic_auth("key", Some(&new)),
            self.managed(Method::POST, "/v1/apikeys", &json!({ "name": new, "scopes": [old] })),
        ];
        for request in requests {
            self.refuse(request).await?;
        }
        Ok(())
    }

    /// What operators and scrapers look at.
    async fn look(&mut self) -> anyhow::Result<String> {
        for path in [
            "/v1/audit",
            "/v1/apikeys",
            "/v1/keys",
            "/v1/subjects/alice",
            "/v1/subjects/alice/sessions",
            "/.well-known/jwks.json",
        ] {
            self.lists += &given(self.setting.origin.managed(Method::GET, path)).await?.to_string();
        }
        self.lists += &self.setting.gate.status().await?.to_string();
        Ok(self.setting.origin.request(Method::GET, "/metrics").send().await?.text().await?)
    }
}

/// The private keys, which lie in the store sealed.
async fn add_private_keys(canaries: &mut Canaries, config: &Config) -> Tested {
    let keys = private_keys(config).await?;
    let tokens = keys["tokens"].as_array().into_iter().flatten().map(|key| text(key, "pkcs8"));
    for pkcs8 in tokens.chain([text(&keys, "feed")]) {
        let document = Base64UrlUnpadded::decode_vec(pkcs8)?;
        // RFC 8410 §7: the seed follows 16 bytes of what kind of key it is.
        canaries.add("a private key", document.get(16..48).unwrap_or_default());
    }
    Ok(())
}

fn files_of(directory: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(directory)? {
        bytes.extend(std::fs::read(file?.path())?);
    }
    Ok(bytes)
}

async fn live_and_search(store: Option<StoreUrl>, stored: impl Fn(&Path) -> anyhow::Result<Vec<u8>>) -> Tested {
    let mut life = Life::begin(store).await?;
    life.sessions().await?;
    life.clients().await?;
    life.api_keys().await?;
    let metrics = life.look().await?;
    let Life { setting, mut canaries, errors, lists, .. } = life;
    let config = setting.origin.stop().await;
    add_private_keys(&mut canaries, &config).await?;

    let log = String::from_utf8_lossy(&log()).into_owned();
    assert!(
        log.contains("session_created") && log.contains("authn_token_reuse") && log.contains("TRACE"),
        "all is logged"
    );
    assert!(metrics.contains("portcullis_"), "there are metrics to search");
    let written = stored(setting.directory.path())?;
    assert!(written.windows(5).any(|window| window == b"alice"), "the store was written to");
    let planted = [written.as_slice(), MASTER_KEY.as_slice()].concat();
    assert_eq!(canaries.found_in(&planted), Some("the master key"), "what is there is found");
    canaries.assert_absent("an error", errors);
    canaries.assert_absent("a list, or what the application is told", lists);
    canaries.assert_absent("a metric", metrics);
    canaries.assert_absent("the log of the gate", setting.gate.log()?);
    canaries.assert_absent("the storage of the hub", setting.gate.stored()?);
    canaries.assert_absent("the log of the origin", log);
    canaries.assert_absent("the store", written);
    Ok(())
}

/// SES-16, PRB-03, LOG-03: a whole life, good calls and bad ones, over Redis; then every place is searched.
#[tokio::test]
async fn no_credential_is_found_outside_of_answers_that_hand_it_out_over_redis() -> Tested {
    let redis = TestRedis::start().await?;
    live_and_search(Some(redis.url().into()), |_| redis.written()).await
}

/// SES-16, PRB-03, LOG-03: the same over the embedded store.
#[tokio::test]
async fn no_credential_is_found_outside_of_answers_that_hand_it_out_over_a_file() -> Tested {
    live_and_search(None, files_of).await
}
