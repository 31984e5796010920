//! The origin as a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

pub(crate) const MANAGEMENT_KEY: &str = "management-key-of-a-test";

/// A process; it is killed with SIGKILL when it is dropped.
pub(crate) struct Origin {
    child: Child,
    address: String,
    client: Client,
    log: Option<JoinHandle<Vec<String>>>,
}

/// A free port that stays free while nobody listens there: below the ports that connections are given. At one
/// of those a client that tries again and again ends up connected to itself.
pub(crate) fn lasting_port() -> u16 {
    loop {
        let any = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = 12_000 + any % 16_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The address of a store in one file.
pub(crate) fn embedded(directory: &Path) -> String {
    format!("embedded:{}", directory.join("store.db").display())
}

impl Origin {
    /// Starts one on a free port, or on the one that `variables` name, and waits until it listens.
    pub(crate) fn start(store: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("serve")
            .env("PORTCULLIS_MASTER_KEY", "07".repeat(32))
            .env("PORTCULLIS_MANAGEMENT_KEY", MANAGEMENT_KEY)
            .env("PORTCULLIS_SERVER__LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS_STORE__URL", store)
            .env("PORTCULLIS_TELEMETRY__LOG_FORMAT", "json")
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let mut said = Vec::new();
        let address = loop {
            let line = lines.next();
            assert!(line.is_some(), "the process does not listen: {said:?}");
            let line = line.unwrap_or_default();
            if let Some((_, rest)) = line.split_once("\"address\":\"") {
                break rest.split_once('"').unwrap().0.to_owned();
            }
            said.push(line);
        };
        // What it writes from now on must not fill the pipe.
        let log = Some(std::thread::spawn(move || lines.collect()));
        Self { child, address, client: Client::builder().no_proxy().build().unwrap(), log }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A management call.
    pub(crate) fn request(&self, method: Method, path: &str, body: &Value) -> RequestBuilder {
        let request = self.client.request(method.clone(), format!("http://{}{path}", self.address));
        let request = request.bearer_auth(MANAGEMENT_KEY);
        if method == Method::GET { request } else { request.json(body) }
    }

    /// A call without credential.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    /// A management call; its answer.
    pub(crate) async fn manage(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let response = self.request(method, path, body).send().await.unwrap();
        (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    /// Opens a session of alice.
    pub(crate) async fn open(&self) -> Value {
        let body = json!({ "subject": "alice", "client_id": "web", "tenant": "acme", "roles": ["admin"] });
        let (status, opened) = self.manage(Method::POST, "/v1/sessions", &body).await;
        assert_eq!(status, 201, "{opened}");
        opened
    }

    /// What is said of an access token.
    pub(crate) async fn introspect(&self, token: &Value) -> Value {
        let form = [("token", token.as_str().unwrap())];
        let request = self.client.post(format!("http://{}/oauth2/introspect", self.address));
        let response = request.bearer_auth(MANAGEMENT_KEY).form(&form).send().await.unwrap();
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    /// A refresh; its answer.
    pub(crate) async fn refresh(&self, token: &Value) -> (u16, Value) {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap()), ("client_id", "web")];
        let request = self.client.post(format!("http://{}/oauth2/token", self.address));
        let response = request.form(&form).send().await.unwrap();
        (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    /// Ends the process; the lines that it logged after it listened.
    pub(crate) fn into_log(mut self) -> Vec<String> {
        assert!(self.terminate());
        self.log.take().unwrap().join().unwrap()
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends the process at once; the lines that it logged after it listened.
    pub(crate) fn into_last_log(mut self) -> Vec<String> {
        self.kill();
        self.log.take().unwrap().join().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits until the process has ended; whether it ended well.
    pub(crate) fn terminate(&mut self) -> bool {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        sent.is_ok_and(|sent| sent.success()) && self.child.wait().is_ok_and(|ended| ended.success())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}
