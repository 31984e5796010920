//! The store moves, is emptied or falls back while gates and hubs go on.

use std::time::{SystemTime, UNIX_EPOCH};

use ::origin::{
    config::{Config, StoreUrl, secrets::MasterKey},
    server::open_store,
    transfer::{Taken, export, import},
};
use portcullis_tests::{MASTER_KEY, Opened, Setting, TestGate, TestOrigin, TestRedis, can_move_clocks, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    revocation::{Floor, FloorKey, Version},
    time::Timestamp,
};

type Tested = anyhow::Result<()>;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Ends a session, and waits until the gate refuses it.
async fn revoke(origin: &TestOrigin, gate: &TestGate, opened: &Opened) -> Tested {
    let (status, changed) =
        origin.manage(Method::POST, &format!("/v1/sessions/{}/revoke", opened.session), json!({})).await?;
    anyhow::ensure!(status == 200, "{changed}");
    let refuses = async || (gate.status_of("/app/x", &opened.access).await.ok()? == 401).then_some(());
    eventually("the gate to refuse", refuses).await
}

/// I1, I2, I4: the store moves to Redis. The hub takes the other log for the newer one; what was ended stays ended at the
/// gate and at the origin, the session that was open goes on, and ends everywhere when it is ended in the other store.
#[tokio::test]
async fn gates_and_hubs_go_on_when_the_store_moves() -> Tested {
    let setting = Setting::start().await?;
    let (kept, ended) = (setting.open("alice").await?, setting.open("bob").await?);
    let Setting { origin, gate, directory, upstream: _upstream } = setting;
    revoke(&origin, &gate, &ended).await?;
    let before: u64 = text(&gate.status().await?, "epoch").parse()?;
    let mut config = origin.stop().await;

    let (redis, master_key) = (TestRedis::start().await?, MasterKey::new(MASTER_KEY));
    let file = directory.path().join("export");
    export(&*open_store(&config).await?, &file, &master_key).await?;
    config.store.url = StoreUrl::from(redis.url());
    import(&*open_store(&config).await?, &file, &master_key, Taken::Refused).await?;
    let origin = TestOrigin::start_again(config).await?;
    let follows = async || (text(&gate.status().await.ok()?, "epoch").parse::<u64>().ok()? > before).then_some(());
    eventually("the gate to follow the other log", follows).await?;

    // Until the origin vouches for the other log a slow machine may count the gate as stale.
    gate.comes_to_answer("/app/x", &ended.access, 401).await?;
    assert!(!origin.is_active(&ended.access).await?);
    assert_eq!(origin.refresh(&ended.refresh, "web").await?.0, 400);
    gate.comes_to_answer("/app/x", &kept.access, 200).await?;
    let (status, renewed) = origin.refresh(&kept.refresh, "web").await?;
    assert_eq!(status, 200, "{renewed}");
    let renewed = Opened { access: text(&renewed, "access_token").to_owned(), ..kept };
    gate.comes_to_answer("/app/x", &renewed.access, 200).await?;
    revoke(&origin, &gate, &renewed).await?;
    origin.stop().await;
    Ok(())
}

/// A gate that follows an origin over Redis, with a session of alice that lives and one of bob that was ended.
struct OverRedis {
    redis: TestRedis,
    setting: Setting,
    kept: Opened,
    ended: Opened,
}

impl OverRedis {
    async fn start() -> anyhow::Result<Self> {
        let redis = TestRedis::start().await?;
        let url = redis.url();
        let setting = Setting::start_with(|config| {
            config.store.url = StoreUrl::from(url);
            config.store.timeout_ms = 1_000;
            config.feed.push_timeout_ms = 10_000;
        })
        .await?;
        let (kept, ended) = (setting.open("alice").await?, setting.open("bob").await?);
        revoke(&setting.origin, &setting.gate, &ended).await?;
        Ok(Self { redis, setting, kept, ended })
    }

    async fn epoch(&self) -> anyhow::Result<u64> {
        Ok(text(&self.setting.gate.status().await?, "epoch").parse()?)
    }

    /// While the hub does not answer, the origin refuses; once it does, the origin serves, and the store has the floor again.
    async fn refuses_until_joined(&self, before: u64) -> Tested {
        let origin = &self.setting.origin;
        let refused = async || {
            let answer = origin.managed(Method::GET, "/v1/subjects/alice").send().await.ok()?;
            let is_temporary = answer.status() == 503 && answer.headers().contains_key("retry-after");
            (is_temporary && answer.text().await.ok()?.contains("may have lost")).then_some(())
        };
        eventually("the origin to refuse", refused).await?;
        assert_eq!(origin.refresh(&self.ended.refresh, "web").await?.0, 503);
        self.setting.gate.pause(false)?;
        let serves = async || {
            let status = origin.managed(Method::GET, "/v1/subjects/nobody").send().await.ok()?.status();
            (status == 404).then_some(())
        };
        eventually("the origin to serve", serves).await?;
        let follows = async || (self.epoch().await.ok()? > before).then_some(());
        eventually("the gate to follow the other log", follows).await?;
        assert_ne!(self.redis.cli(&["HLEN", "{portcullis:log}:floors"])?, "0");
        Ok(())
    }

    /// Who was ended stays ended; whose session is gone goes on with the token at hand, and signs in anew.
    async fn check(&self) -> Tested {
        let Setting { origin, gate, .. } = &self.setting;
        assert_eq!(gate.status_of("/app/x", &self.ended.access).await?, 401);
        assert!(!origin.is_active(&self.ended.access).await?);
        assert_eq!(origin.refresh(&self.ended.refresh, "web").await?.0, 400);
        assert_eq!(gate.status_of("/app/x", &self.kept.access).await?, 200);
        assert_eq!(origin.refresh(&self.kept.refresh, "web").await?.0, 400, "the store forgot it");
        let anew = self.setting.open("alice").await?;
        assert_eq!(gate.status_of("/app/x", &anew.access).await?, 200);
        revoke(origin, gate, &anew).await
    }
}

/// I1, I4, I5, I7: an emptied store, then one that was replaced by an empty one. Until the hub was asked the origin answers
/// 503 and nothing else.
#[tokio::test]
async fn an_emptied_store_is_served_once_the_hub_was_asked() -> Tested {
    let mut world = OverRedis::start().await?;
    let before = world.epoch().await?;
    world.setting.gate.pause(true)?;
    world.redis.cli(&["FLUSHALL"])?;
    world.refuses_until_joined(before).await?;
    world.check().await?;

    let before = world.epoch().await?;
    world.setting.gate.pause(true)?;
    world.redis.replace(None).await?;
    world.refuses_until_joined(before).await?;
    world.check().await?;
    world.setting.origin.stop().await;
    Ok(())
}

/// I1, I2, I4: the store falls back to a backup while no origin runs, so that only the hub knows who was ended. The
/// session of before goes on, with the refresh token that the backup has not seen.
#[tokio::test]
async fn a_backup_revives_nobody() -> Tested {
    let OverRedis { mut redis, setting, kept, ended } = OverRedis::start().await?;
    let Setting { origin, gate, upstream: _upstream, directory: _directory } = setting;
    let opened = async |subject: &str| {
        let body = json!({ "subject": subject, "client_id": "web", "roles": ["member"], "scope": "read" });
        let (_, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
        let part = |name: &str| text(&opened, name).to_owned();
        anyhow::Ok(Opened { access: part("access_token"), refresh: part("refresh_token"), session: part("session_id") })
    };
    let (later, of_carol) = (opened("dora").await?, opened("carol").await?);
    let backup = redis.backup()?;
    revoke(&origin, &gate, &later).await?;
    let (status, _) = origin.manage(Method::POST, "/v1/subjects/carol/revoke", json!({})).await?;
    assert_eq!(status, 200);
    let (_, renewed) = origin.refresh(&kept.refresh, "web").await?;
    gate.comes_to_answer("/app/x", &of_carol.access, 401).await?;
    let config = origin.stop().await;
    redis.replace(Some(&backup)).await?;
    let origin = TestOrigin::start_again(config).await?;

    for over in [&ended, &later, &of_carol] {
        assert!(!origin.is_active(&over.access).await?);
        assert_eq!(origin.refresh(&over.refresh, "web").await?.0, 400);
        assert_eq!(gate.status_of("/app/x", &over.access).await?, 401);
    }
    let (status, renewed) = origin.refresh(text(&renewed, "refresh_token"), "web").await?;
    assert_eq!(status, 200, "{renewed}");
    gate.comes_to_answer("/app/x", text(&renewed, "access_token"), 200).await?;
    origin.stop().await;
    Ok(())
}

/// I11: after sessions were opened, refreshed, stepped up, evicted and ended, every key but those of subjects, tenants, keys
/// and the log has a lifetime; and what is noted for a subject are exactly its sessions that are open.
#[tokio::test]
async fn every_key_of_a_session_runs_out_and_the_index_names_no_other() -> Tested {
    let (redis, directory) = (TestRedis::start().await?, tempfile::tempdir()?);
    let origin = TestOrigin::start_with(directory.path(), |config| {
        config.store.url = StoreUrl::from(redis.url());
        config.sessions.concurrent_max = 3;
    })
    .await?;
    for turn in 0..40 {
        let body = json!({ "subject": format!("user-{}", turn % 4), "client_id": "web", "tenant": "acme" });
        let request = origin.managed(Method::POST, "/v1/sessions").header("Idempotency-Key", format!("turn-{turn}"));
        let opened: Value = serde_json::from_slice(&request.json(&body).send().await?.bytes().await?)?;
        origin.refresh(text(&opened, "refresh_token"), "web").await?;
        let path = format!("/v1/sessions/{}", text(&opened, "session_id"));
        match turn % 5 {
            0 => origin.manage(Method::POST, &format!("{path}/revoke"), json!({})).await?,
            1 => origin.manage(Method::POST, &format!("{path}/step-up"), json!({ "amr": ["otp"] })).await?,
            _ => continue,
        };
    }
    let kept_for_good = ["{subject:", "tenant:", "everyone", "keys", "api-keys"];
    let (mut of_sessions, mut noted) = (0, 0);
    for key in redis.cli(&["KEYS", "portcullis:*"])?.lines() {
        let name = key.trim_start_matches("portcullis:");
        if name == "audit" || kept_for_good.iter().any(|kept| name.starts_with(kept)) {
            continue;
        }
        of_sessions += 1;
        let ttl: i64 = redis.cli(&["PTTL", key])?.parse()?;
        assert!(ttl > 0, "{key} has no lifetime");
    }
    for number in 0..4 {
        let (_, listed) =
            origin.manage(Method::GET, &format!("/v1/subjects/user-{number}/sessions"), json!({})).await?;
        let open = listed["sessions"].as_array().map_or(0, Vec::len);
        let key = format!("portcullis:{{subject:user-{number}}}");
        // How many stand before the record; there are no more in the set for more.
        let count = redis.cli(&["EVAL", "return string.byte(redis.call('GET', KEYS[1])) % 64", "1", &key])?;
        assert_eq!(count, open.to_string(), "{listed}");
        assert_eq!(redis.cli(&["EXISTS", &format!("{key}:sessions")])?, "0");
        noted += open;
    }
    assert!(of_sessions > 40 && noted > 4, "{of_sessions} {noted}");
    origin.stop().await;
    Ok(())
}

/// SES-18: a store that is set up otherwise while it is in use is told of, by the name of the risk; so is the way back.
#[tokio::test]
async fn a_store_that_becomes_unsafe_is_told_of() -> Tested {
    let (redis, directory) = (TestRedis::start().await?, tempfile::tempdir()?);
    let choose = |config: &mut ::origin::config::Config| config.store.url = StoreUrl::from(redis.url());
    let origin = TestOrigin::start_with(directory.path(), choose).await?;
    let says = async |value: &str| {
        let line = format!("portcullis_store_risks{{risk=\"fsync-everysec\"}} {value}");
        let told = async || {
            let metrics = origin.request(Method::GET, "/metrics").send().await.ok()?.text().await.ok()?;
            metrics.lines().any(|found| found == line).then_some(())
        };
        eventually("the metrics to tell of the risk", told).await
    };
    says("0").await?;
    redis.cli(&["CONFIG", "SET", "appendfsync", "everysec"])?;
    says("1").await?;
    redis.cli(&["CONFIG", "SET", "appendfsync", "always"])?;
    says("0").await?;
    origin.stop().await;
    Ok(())
}

/// I4: a snapshot of a store whose clock runs hours ahead has every floor that still counts, and none whose time is over.
#[tokio::test]
async fn a_clock_that_runs_ahead_hides_no_floor() -> Tested {
    if !can_move_clocks() {
        println!("not tested: libfaketime is not installed");
        return Ok(());
    }
    let redis = TestRedis::start_ahead(3 * 3_600).await?;
    let mut config = Config::default();
    config.store.url = redis.url().into();
    let store = open_store(&config).await?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let floor = |scope: &str, forget_at_s: u64| {
        let (key, forget_at) = (FloorKey::signing_key(scope), Timestamp::from_secs(forget_at_s));
        Floor { key, lowest: Version::new(5), forget_at }
    };
    let counting = floor("counting", now_s + 3_600);
    store.append(&[counting, floor("over", now_s - 1)]).await?;
    assert_eq!(store.snapshot().await?.floors, [counting]);
    Ok(())
}

/// How a store comes to hold a session whose time is over.
#[derive(Debug, Clone, Copy)]
enum HeldTooLong {
    Persisted,
    ClockBehind,
}

/// Whether a refresh token counts; none while the store is not there.
async fn counts(origin: &TestOrigin, token: &str) -> Option<bool> {
    let asked = origin.managed(Method::POST, "/oauth2/introspect").form(&[("token", token)]).send().await.ok()?;
    let told: Value = asked.error_for_status().ok()?.json().await.ok()?;
    told["active"].as_bool()
}

/// I11, TMO-02, TMO-04, TMO-06: the end of a session is stored, and the origin goes by it and its own clock. A store that
/// holds the record for longer, since its key lost the lifetime or its clock jumped back, revives nothing; a session that
/// is held alike and has time left goes on.
#[tokio::test]
async fn a_session_is_over_at_its_end_though_the_store_holds_it() -> Tested {
    for how in [HeldTooLong::Persisted, HeldTooLong::ClockBehind] {
        if matches!(how, HeldTooLong::ClockBehind) && !can_move_clocks() {
            println!("not tested: libfaketime is not installed");
            continue;
        }
        let (mut redis, directory) = (TestRedis::start().await?, tempfile::tempdir()?);
        let origin = TestOrigin::start_with(directory.path(), |config| config.store.url = redis.url().into()).await?;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let open = async |left_s: u64| -> anyhow::Result<(String, String)> {
            let auth_time = now_s + left_s - 86_400;
            let body = json!({ "subject": "alice", "client_id": "web", "tier": "standard", "auth_time": auth_time });
            let (status, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
            anyhow::ensure!(status == 201, "{opened}");
            let key = format!("portcullis:session:{}", text(&opened, "session_id"));
            Ok((key, text(&opened, "refresh_token").to_owned()))
        };
        // Time enough to change how it is held before it is over.
        let (short, long) = (open(8).await?, open(600).await?);
        match how {
            HeldTooLong::Persisted => {
                for (key, _) in [&short, &long] {
                    assert_eq!(redis.cli(&["PERSIST", key])?, "1");
                }
            }
            HeldTooLong::ClockBehind => redis.restart_ahead(-3 * 3_600).await?,
        }

        let over = async || (!counts(&origin, &short.1).await?).then_some(());
        eventually("the session to be over", over).await?;
        assert_eq!(redis.cli(&["EXISTS", &short.0])?, "1", "{how:?}: the store has it still");
        let (status, refused) = origin.refresh(&short.1, "web").await?;
        assert_eq!((status, text(&refused, "error")), (400, "invalid_grant"), "{how:?}");
        assert_eq!(counts(&origin, &long.1).await, Some(true), "{how:?}");
        let renews = async || (origin.refresh(&long.1, "web").await.ok()?.0 == 200).then_some(());
        eventually("a session with time left to go on", renews).await?;
        origin.stop().await;
    }
    Ok(())
}
