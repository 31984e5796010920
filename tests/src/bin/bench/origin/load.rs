//! The life of many sessions over HTTP.

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes};
use serde_json::{Value, json};

use super::meter::{Meter, Samples};
use crate::{
    client::{managed, post, send_all},
    origin_process::{MANAGEMENT_KEY, OriginProcess, Plan},
    redis::Redis,
};

/// In the order in which a session lives through them.
pub(super) const OPERATIONS: [&str; 5] = ["open", "introspect", "introspect again", "refresh", "revoke"];

/// Subjects that open sessions in turn: the origin keeps what it knows of them.
pub(super) const SUBJECTS: usize = 200;

/// An origin over one store.
pub(super) struct Contestant {
    pub(super) name: &'static str,
    /// By operation.
    pub(super) samples: [Samples; 5],
    pub(super) origin: OriginProcess,
    pub(super) redis: Option<Redis>,
}

impl Contestant {
    pub(super) async fn start(name: &'static str, redis: Option<Redis>) -> anyhow::Result<Self> {
        let origin = Plan::new(redis.as_ref().map(|redis| redis.address))?.start(&[]).await?;
        Ok(Self { name, samples: Default::default(), origin, redis })
    }

    /// Opens, introspects twice, refreshes and revokes `count` sessions.
    ///
    /// # Errors
    ///
    /// Something is not answered as it must be.
    pub(super) async fn turn(&mut self, count: u32, connections: usize, counts: bool) -> anyhow::Result<()> {
        let count = usize::try_from(count)?;
        let open = (0..count).map(|number| managed("/v1/sessions", &ordinary(number % SUBJECTS)));
        let opened =
            self.measured(0, open.collect::<Result<_, _>>()?, StatusCode::CREATED, connections, counts).await?;
        let opened = opened.iter().map(|body| serde_json::from_slice(body)).collect::<Result<Vec<Value>, _>>()?;
        let each = |make: &dyn Fn(&Value) -> anyhow::Result<Request<Full<Bytes>>>| {
            opened.iter().map(make).collect::<anyhow::Result<Vec<_>>>()
        };

        let introspect = each(&|opened| form("/oauth2/introspect", format!("token={}", text(opened, "access_token")?)));
        let introspect = introspect?;
        // The signature of a token that was asked about before is not checked again.
        self.measured(1, introspect.clone(), StatusCode::OK, connections, counts).await?;
        self.measured(2, introspect, StatusCode::OK, connections, counts).await?;
        let refresh = each(&|opened| {
            let token = text(opened, "refresh_token")?;
            form("/oauth2/token", format!("grant_type=refresh_token&client_id=web&refresh_token={token}"))
        });
        self.measured(3, refresh?, StatusCode::OK, connections, counts).await?;
        let revoke =
            each(&|opened| managed(&format!("/v1/sessions/{}/revoke", text(opened, "session_id")?), &json!({})));
        self.measured(4, revoke?, StatusCode::OK, connections, counts).await?;
        Ok(())
    }

    async fn measured(
        &mut self,
        operation: usize,
        requests: Vec<Request<Full<Bytes>>>,
        expected: StatusCode,
        connections: usize,
        counts: bool,
    ) -> anyhow::Result<Vec<Bytes>> {
        let count = requests.len();
        let meter = Meter::start(&self.origin.process, self.redis.as_ref())?;
        let answers = send_all(self.origin.address, connections, requests, expected).await?;
        if counts {
            meter.stop(count, &mut self.samples[operation])?;
        }
        Ok(answers.into_iter().map(Response::into_body).collect())
    }
}

/// What opens an ordinary session of the subject with this number.
pub(crate) fn ordinary(subject: usize) -> Value {
    // As long as a random id in base64url.
    json!({ "subject": format!("u_{subject:022}"), "client_id": "web", "tenant": "acme", "roles": ["member", "editor"],
        "scope": "read write", "amr": ["pwd"] })
}

fn text<'a>(opened: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    opened[name].as_str().with_context(|| format!("an answer lacks {name}"))
}

/// A form; introspection needs a credential, a public client's refresh has none.
fn form(path: &str, body: String) -> anyhow::Result<Request<Full<Bytes>>> {
    let key = path.ends_with("introspect").then_some(MANAGEMENT_KEY);
    post(path, "application/x-www-form-urlencoded", body, key)
}
