use super::*;
use crate::store::{
    StoreError,
    doctor::{Report, Status, refuse_risks},
};

/// What real servers (7.0.15) said.
const PRIMARY: &str = include_str!("../golden/primary.info");
const DEFAULTS: &str = include_str!("../golden/defaults.info");
const REPLICA: &str = include_str!("../golden/replica.info");

fn config(fsync: &str) -> Fields {
    let pairs = [
        ("maxmemory-policy", "noeviction"),
        ("appendonly", "yes"),
        ("appendfsync", fsync),
        ("no-appendfsync-on-rewrite", "no"),
    ];
    Fields(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

fn reading(info: &str, config: Option<Fields>) -> Reading {
    let latencies = (1..=100).map(Duration::from_micros).collect();
    Reading { node: None, info: Some(Fields::of_info(info)), config, can_wait: true, ahead_ms: Some(-3), latencies }
}

fn wanted(replicas: u64) -> Wanted {
    Wanted {
        replicas_min: replicas,
        replicas_max: replicas,
        fails_over: false,
        skew_max: Duration::from_secs(2),
        timeout: Duration::from_secs(2),
    }
}

fn risks(reading: &Reading, wanted: &Wanted) -> Vec<Risk> {
    reading.durability(wanted).iter().filter_map(|finding| finding.risk).collect()
}

/// What is not healthy, by name.
fn worst(reading: &Reading, wanted: &Wanted) -> Vec<(&'static str, Status)> {
    let findings = reading.health(wanted).into_iter();
    findings.filter(|finding| finding.status != Status::Healthy).map(|found| (found.check, found.status)).collect()
}

/// SES-18, I2: a server as it should be, alone or with replicas that are asked, puts nothing at risk.
#[test]
fn a_durable_server_puts_nothing_at_risk() {
    let durable = reading(PRIMARY, Some(config("always")));
    assert_eq!((risks(&durable, &wanted(1)), worst(&durable, &wanted(1))), (vec![], vec![]));
    let alone = reading(&DEFAULTS.replace("aof_enabled:0", "aof_enabled:1"), Some(config("always")));
    assert_eq!(risks(&alone, &wanted(0)), []);
}

/// SES-18, I2: each way in which a server may lose what it acknowledged has its name.
#[test]
fn each_risk_has_its_name() {
    let defaults = Fields(BTreeMap::from([("appendfsync".to_owned(), "everysec".to_owned())]));
    assert_eq!(
        risks(&reading(DEFAULTS, Some(defaults)), &wanted(0)),
        [Risk::NoAppendOnlyFile, Risk::FsyncEverysec],
        "what CONFIG does not say, INFO does"
    );
    let evicting = DEFAULTS.replace("maxmemory_policy:noeviction", "maxmemory_policy:volatile-lru");
    assert!(risks(&reading(&evicting, None), &wanted(0)).contains(&Risk::EvictingPolicy));
    assert_eq!(risks(&reading(PRIMARY, Some(config("no"))), &wanted(1)), [Risk::NoFsync]);
    let mut paused = config("always");
    paused.0.insert("no-appendfsync-on-rewrite".to_owned(), "yes".to_owned());
    assert_eq!(risks(&reading(PRIMARY, Some(paused)), &wanted(1)), [Risk::NoFsyncOnRewrite]);

    assert_eq!(risks(&reading(PRIMARY, Some(config("always"))), &wanted(0)), [Risk::AsynchronousReplication]);
    let alone = reading(DEFAULTS, Some(config("always")));
    let taken_over = Wanted { fails_over: true, ..wanted(0) };
    assert_eq!(risks(&alone, &taken_over), [Risk::AsynchronousReplication]);
}

/// SES-18: what cannot be asked is not taken for good.
#[test]
fn what_is_unknown_is_a_risk_of_its_own() {
    let no_config = reading(PRIMARY, None);
    assert_eq!(risks(&no_config, &wanted(1)), [Risk::UnknownSettings], "INFO says all but appendfsync");
    assert_eq!(risks(&Reading::default(), &wanted(0)), [Risk::UnknownSettings; 4]);
}

#[test]
fn a_risk_is_refused_by_name_unless_it_is_accepted() {
    let findings = reading(PRIMARY, Some(config("everysec"))).durability(&wanted(1));
    let refused = refuse_risks(&Report::new(findings.clone(), &[Risk::NoFsync]));
    let text = "it may lose acknowledged writes (fsync-everysec): appendfsync is everysec, but should be always; change \
                it, or accept this by store.accept = [\"fsync-everysec\"]";
    assert_eq!(refused, Err(StoreError::Unsuitable(text.to_owned())));
    let accepted = Report::new(findings, &[Risk::FsyncEverysec]);
    assert_eq!((refuse_risks(&accepted), accepted.status), (Ok(()), Status::Warn));
}

/// A server that is not a primary, or with fewer replicas than are asked, is bad, and no acceptance changes that.
#[test]
fn a_server_that_cannot_confirm_is_bad() {
    for (info, replicas) in [(REPLICA, 0), (DEFAULTS, 1), (PRIMARY, 2)] {
        let findings = reading(info, Some(config("always"))).durability(&wanted(replicas));
        let last = findings.last().unwrap();
        assert_eq!((last.check, last.status, last.risk), ("replicas", Status::Bad, None), "{last:?}");
    }
    let refused = Reading { can_wait: false, ..reading(PRIMARY, Some(config("always"))) };
    let checks = |replicas| refused.durability(&wanted(replicas)).iter().any(|finding| finding.check == "wait");
    assert!(checks(1) && !checks(0));
}

#[test]
fn trouble_that_comes_has_its_status() {
    let changed = |from: &str, to: &str| {
        assert!(PRIMARY.contains(from));
        reading(&PRIMARY.replace(from, to), Some(config("always")))
    };
    let cases = [
        (changed("used_memory:1014152", "used_memory:80000000"), ("memory", Status::Warn)),
        (changed("used_memory:1014152", "used_memory:104857600"), ("memory", Status::Bad)),
        (changed("aof_last_write_status:ok", "aof_last_write_status:err"), ("persistence", Status::Bad)),
        (changed("rdb_last_bgsave_status:ok", "rdb_last_bgsave_status:err"), ("persistence", Status::Warn)),
        (changed("loading:0", "loading:1"), ("persistence", Status::Warn)),
        (changed("lag=1", "lag=3"), ("lag", Status::Warn)),
        (changed("lag=1", "lag=11"), ("lag", Status::Bad)),
        (changed("state=online", "state=send_bulk"), ("lag", Status::Bad)),
        (changed("redis_version:7.0.15", "redis_version:5.0.3"), ("version", Status::Bad)),
        (changed("redis_version:7.0.15", "redis_version:6.0.1"), ("version", Status::Warn)),
    ];
    for (reading, expected) in cases {
        assert_eq!(worst(&reading, &wanted(0)), [expected]);
    }
    let apart = |ahead_ms| Reading { ahead_ms: Some(ahead_ms), ..Reading::default() };
    assert_eq!(worst(&apart(2_000), &wanted(0)), [("clock", Status::Warn)]);
    assert_eq!(worst(&apart(-2_001), &wanted(0)), [("clock", Status::Bad)]);
    let slow = |millis| Reading { latencies: vec![Duration::from_millis(millis); 3], ..Reading::default() };
    assert_eq!(worst(&slow(201), &wanted(0)), [("latency", Status::Warn)]);
    assert_eq!(worst(&slow(1_001), &wanted(0)), [("latency", Status::Bad)]);
}

#[test]
fn waitaof_is_told_by_the_version() {
    let found = |version: &str| version_of(&format!("redis_version:{version}")).found;
    fn version_of(info: &str) -> Finding {
        version(&Fields::of_info(info))
    }
    assert_eq!(found("7.0.15"), "7.0.15, WAIT, no WAITAOF");
    assert_eq!(found("7.2.4"), "7.2.4, WAIT and WAITAOF");
    assert_eq!(found("8.0.0"), "8.0.0, WAIT and WAITAOF");
}
