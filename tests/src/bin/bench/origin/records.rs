//! Bytes and round trips, counted in this process on the stores themselves.

use std::sync::Arc;

use ::origin::{
    config::{
        Config, Risk, StoreUrl,
        secrets::{ManagementKey, MasterKey, Secrets},
    },
    feed::Feed,
    server::open_keys,
    service::{Service, introspect::Viewer, open::OpenSession, refresh::RefreshRequest},
    store::{AnyStore, Key},
};
use anyhow::{Context as _, ensure};
use shared::{
    id::SubjectId,
    session::{EndReason, Initiator},
};

use super::redis_url;
use crate::{
    redis::Redis,
    report::{Report, Table},
};

/// What an ordinary session's record may take, in bytes.
const SESSION_BYTES_MAX: f64 = 160.0;

/// What a refresh may take.
const REFRESH_ROUND_TRIPS_MAX: f64 = 2.0;

/// What was counted on one store.
struct Counted {
    session_bytes: usize,
    subject_bytes: usize,
    /// Open, introspect, refresh, revoke.
    round_trips: [u64; 4],
}

pub(super) async fn measure(report: &mut Report) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let redis = Redis::start().await?;
    let stores = [
        ("embedded", format!("embedded:{}", directory.path().join("store.db").display())),
        ("Redis", redis_url(redis.address)),
    ];
    let mut table = Table::new(
        "Bytes of a record, and round trips to the store (subject and tenant known to the origin)",
        ["", "session", "subject", "open", "introspect", "refresh", "revoke"],
    );
    for (name, url) in stores {
        let counted = count(url).await?;
        let bytes = [counted.session_bytes, counted.subject_bytes].map(|bytes| bytes.to_string());
        let round_trips = counted.round_trips.map(|count| count.to_string());
        table.row(std::iter::once(name.to_owned()).chain(bytes).chain(round_trips));
        report.target(
            format!("record of an ordinary session, {name}"),
            counted.session_bytes as f64,
            SESSION_BYTES_MAX,
            "bytes",
        );
        let [_, _, refresh, _] = counted.round_trips;
        report.target(format!("a refresh, {name}"), refresh as f64, REFRESH_ROUND_TRIPS_MAX, "round trips");
    }
    report.table(table);
    report.method("an ordinary session has subject, tenant, client, two roles, scope `read write` and amr `pwd`");
    Ok(())
}

/// A service over the store at `url`, and the store.
pub(crate) async fn service(url: String) -> anyhow::Result<(Service, Arc<AnyStore>)> {
    let mut config = Config::default();
    config.store.url = StoreUrl::from(url);
    config.store.accept = vec![Risk::FsyncEverysec];
    let secrets = Secrets { master_key: MasterKey::new([7; 32]), management_key: ManagementKey::new("not used here") };
    let store = Arc::new(AnyStore::open(&config.store).await?);
    let keys = open_keys(&store, &config, &secrets.master_key).await?;
    let feed = Feed::load(Arc::clone(&store), Arc::clone(&keys), &config).await?;
    Ok((Service::new(Arc::clone(&store), keys, feed, &config, &secrets)?, store))
}

async fn count(url: String) -> anyhow::Result<Counted> {
    let (service, store) = service(url).await?;
    service.open(ordinary()?).await.ok().context("the first session is not opened")?;
    let before = store.round_trips();
    let opened = service.open(ordinary()?).await.ok().context("no session is opened")?;
    let open = store.round_trips() - before;
    let load = async |key| anyhow::Ok(store.load(&key).await?.context("a record is missing")?.len());
    let subject: SubjectId = SUBJECT.parse()?;
    let (session_bytes, subject_bytes) =
        (load(Key::Session(opened.session_id)).await?, load(Key::Subject(subject)).await?);

    let before = store.round_trips();
    let active = service.introspect(&opened.tokens.access_token, &Viewer::Management).await;
    ensure!(active.is_ok_and(|active| active.is_some()), "the token is not active");
    let introspect = store.round_trips() - before;
    let before = store.round_trips();
    let token = opened.tokens.refresh_token;
    let refresh = RefreshRequest { token, client: CLIENT.parse()?, scope: None, user_agent: None };
    service.refresh(refresh).await.ok().context("the session is not refreshed")?;
    let refresh = store.round_trips() - before;
    let before = store.round_trips();
    let ended = service.revoke_session(opened.session_id, EndReason::Revoked, Initiator::Admin).await;
    ended.ok().context("the session is not revoked")?;
    let revoke = store.round_trips() - before;
    Ok(Counted { session_bytes, subject_bytes, round_trips: [open, introspect, refresh, revoke] })
}

/// As long as a random id in base64url.
const SUBJECT: &str = "u_7Qm2xV9aLk3RtY0pWcZ4Hg";
const CLIENT: &str = "web";

/// An ordinary session.
pub(crate) fn ordinary() -> anyhow::Result<OpenSession> {
    Ok(OpenSession {
        subject: SUBJECT.parse()?,
        tenant: Some("acme".parse()?),
        client_id: CLIENT.parse()?,
        roles: Some(vec!["member".parse()?, "editor".parse()?]),
        scope: Some("read write".to_owned()),
        acr: None,
        amr: vec!["pwd".to_owned()],
        auth_time: None,
        tier: None,
        device: None,
        on_limit: None,
    })
}
