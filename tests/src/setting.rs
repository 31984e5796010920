//! Origin, application and gate together, as most tests of the gate need them.

use ::origin::config::Config;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{GatePlace, GateSettings, TestGate, TestOrigin, TestUpstream};

/// Routes of every kind, all to the application; `/self/*` to the gate itself.
pub const POLICY: &str = r#"
[upstreams]
app = "http://127.0.0.1:1"
own = "self"

[[routes]]
id = "public"
path = "/public/*"
access = "anonymous"
upstream = "app"

[[routes]]
id = "admin"
path = "/app/admin/*"
roles_any = ["admin"]
upstream = "app"

[[routes]]
id = "scoped"
path = "/app/scoped"
scope_all = ["write"]
upstream = "app"

[[routes]]
id = "recent"
path = "/app/recent"
acr_any = ["phr"]
max_age_s = 300
upstream = "app"

[[routes]]
id = "read-only"
path = "/read-only"
methods = ["GET", "HEAD"]
upstream = "app"

[[routes]]
id = "page"
path = "/page/*"
sign_in = "/sign-in?theme=dark"
upstream = "app"

[[routes]]
id = "app"
path = "/app/*"
staleness_ms_max = 3000
upstream = "app"

[[routes]]
id = "relaxed"
path = "/relaxed/*"
staleness_ms_max = 3000
on_stale = "allow"
upstream = "app"

[[routes]]
id = "asking"
path = "/asking/*"
staleness_ms_max = 3000
on_stale = "ask"
upstream = "app"

[[routes]]
id = "regional"
path = "/regional/*"
assurance = "regional"
upstream = "app"

[[routes]]
id = "authoritative"
path = "/authoritative/*"
assurance = "authoritative"
upstream = "app"

[[routes]]
id = "self"
path = "/self/*"
upstream = "own"
"#;

/// What the gate and the application share, in hexadecimal.
pub const ASSERTION_KEY: &str = "6173736572742d6b65792d6f662d612d746573742d6f662d33322d6279746573";

/// The three of them.
pub struct Setting {
    /// The origin, which pushes to the hub of the gate.
    pub origin: TestOrigin,
    /// The application.
    pub upstream: TestUpstream,
    /// The gate, synced.
    pub gate: TestGate,
    /// The folder of the origin's store.
    pub directory: TempDir,
}

impl Setting {
    /// Starts all of it.
    ///
    /// # Errors
    ///
    /// Something does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(|_| {}).await
    }

    /// As [`Self::start`], with a configuration of the origin that `choose` has changed.
    ///
    /// # Errors
    ///
    /// Something does not start.
    pub async fn start_with(choose: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        Self::start_at(GatePlace::new(POLICY)?, choose).await
    }

    /// As [`Self::start_with`], with the gate at this place.
    ///
    /// # Errors
    ///
    /// Something does not start.
    pub async fn start_at(place: GatePlace, choose: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let upstream = TestUpstream::start().await?;
        let origin = TestOrigin::start_with(directory.path(), |config| {
            config.hubs = vec![place.hub()];
            choose(config);
        })
        .await?;
        let gate = place.start(gate_settings(&origin, &upstream)).await?;
        gate.ready().await?;
        Ok(Self { origin, upstream, gate, directory })
    }

    /// Starts one more gate, with a hub of its own that the origin knows by this name, and waits until it is synced.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn start_another_at(&self, place: GatePlace, hub: &str) -> anyhow::Result<TestGate> {
        let gate = place.start(gate_settings(&self.origin, &self.upstream).with("HUB_NAME", hub)).await?;
        gate.ready().await?;
        Ok(gate)
    }

    /// Opens a session of a `member` with the scope `read`; the answer of the origin.
    ///
    /// # Errors
    ///
    /// It is not opened.
    pub async fn open(&self, subject: &str) -> anyhow::Result<Opened> {
        self.open_with(json!({ "subject": subject, "client_id": "web", "roles": ["member"], "scope": "read" })).await
    }

    /// Opens a session with this body.
    ///
    /// # Errors
    ///
    /// It is not opened.
    pub async fn open_with(&self, body: Value) -> anyhow::Result<Opened> {
        let (status, opened) = self.origin.manage(Method::POST, "/v1/sessions", body).await?;
        anyhow::ensure!(status == 201, "{status} {opened}");
        let text = |name: &str| opened[name].as_str().unwrap_or_default().to_owned();
        Ok(Opened { access: text("access_token"), refresh: text("refresh_token"), session: text("session_id") })
    }
}

fn gate_settings(origin: &TestOrigin, upstream: &TestUpstream) -> GateSettings {
    // Half a second of skew leaves a bound of 3 s room for heartbeats that come late on a busy machine.
    let settings = GateSettings::of(origin).with_upstream("app", upstream.address()).with("CLOCK_SKEW_MS_MAX", "500");
    settings.with("ASSERTION_KEYS", &json!({ "app": ASSERTION_KEY }).to_string())
}

/// What opening a session gave.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
    /// The session's id.
    pub session: String,
}

impl Opened {
    /// The `Cookie` header of a browser.
    pub fn cookies(&self) -> String {
        format!("__Host-Http-at={}; __Host-Http-rt={}", self.access, self.refresh)
    }
}

/// The `Set-Cookie` lines of an answer.
pub fn set_cookies(response: &Response) -> Vec<String> {
    let lines = response.headers().get_all("set-cookie").iter();
    lines.filter_map(|line| line.to_str().ok()).map(str::to_owned).collect()
}
