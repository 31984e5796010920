use clap::Parser;

use super::*;
use crate::{
    config::{Risk, Store, StoreUrl},
    store::test_server::{Server, cluster},
};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    figures: Figures,
}

fn figures(arguments: &[&str]) -> Result<Figures, clap::Error> {
    Cli::try_parse_from([&["plan"], arguments].concat()).map(|cli| cli.figures)
}

/// With 13 µs for a token.
fn planned(arguments: &[&str]) -> Report {
    let figures = figures(arguments).unwrap();
    report(&figures, &Costs::usual(&figures, 13.0))
}

/// Design, section 8: tokens that are checked at the gate leave the store with 667 refreshes per second.
#[test]
fn the_figures_of_the_design_come_out() {
    let plan = planned(&[]).plan;
    assert_eq!(plan.refreshes_per_s.round(), 667.0);
    assert!(plan.store_calls_per_s_without_gates > 30.0 * plan.store_calls_per_s);
    assert!((200_000 * 257..200_000 * 512).contains(&plan.store_bytes), "{plan:?}");
    assert_eq!((plan.store_shards, plan.floors_live), (1, 54_000));
    assert_eq!(plan.bad_day.refreshes_after_outage, 20_000);
    assert_eq!(planned(&["--remember=0s"]).plan.floors_live, 3_620, "as long as tokens live");
}

/// A store that is asked for every request with a session would get 20,000 questions per second.
#[test]
fn requests_with_a_session_and_a_mass_sign_in_are_told() {
    let words = ["--sessions", "200000", "--requests-per-second", "50000", "--session-share", "0.4"];
    let lively = [&words[..], &["--token-ttl", "5m", "--opens-per-second", "0", "--revocations-per-second", "0"]];
    let plan = planned(&lively.concat()).plan;
    assert_eq!(plan.store_calls_per_s_without_gates, 20_000.0);
    assert_eq!(plan.store_calls_per_s.round(), 1_333.0);
    assert_eq!(plan.store_calls_saved.round(), 15.0);
    assert_eq!(planned(&["--requests-per-second=100", "--session-share=0.5"]).plan.refreshes_per_s, 50.0);

    // Everyone within 10 s, tokens of 300 s that are spread over 30 s: a third of the peak, even after 290 / 30 rounds.
    let bad = planned(&["--sign-in-window=10s", "--token-ttl-spread=10"]).plan.bad_day;
    assert_eq!(bad.stampede_refreshes_per_s_without_spread, 20_000.0);
    assert_eq!(bad.stampede_refreshes_per_s.round(), 6_667.0);
    assert_eq!(bad.stampede_rounds, Some(10));
    let together = planned(&["--sign-in-window=10s", "--token-ttl-spread=0"]).plan.bad_day;
    assert_eq!((together.stampede_refreshes_per_s, together.stampede_rounds), (20_000.0, None), "the twin");
}

#[test]
fn the_tightest_need_comes_first() {
    let first = |arguments: &[&str]| {
        let report = planned(arguments);
        assert!(report.limits.is_sorted_by(|a, b| a.head_room <= b.head_room), "{report:?}");
        report.limits.into_iter().next().unwrap()
    };
    let memory = first(&["--store-memory=10MiB"]);
    assert_eq!((memory.what, memory.capacity), ("memory of the store", 10_485_760.0));
    assert!(memory.head_room < 1.0, "it does not hold");
    let floors = first(&["--sessions=2000000", "--origin-cores=4000", "--store-memory=1TiB", "--sign-in-window=1h"]);
    assert_eq!((floors.what, floors.day), ("floors of a gate", "sessions ended one by one"));
    assert_eq!((floors.need, floors.capacity), (2_054_000.0, 1_048_576.0));
    assert_eq!(first(&["--edge-bandwidth=1kB"]).what, "feed");
    assert_eq!(first(&["--sign-in-window=1s", "--origin-cores=4000"]).what, "store operations, one core");
}

#[test]
fn more_of_anything_never_needs_less() {
    let small = planned(&[]).plan;
    for more in
        ["--sessions=10000000", "--opens-per-second=100000", "--revocations-per-second=10000", "--name-bytes=900"]
    {
        let large = planned(&[more]).plan;
        assert!(large.store_bytes >= small.store_bytes && large.store_core_share >= small.store_core_share, "{more}");
        assert!(large.store_shards >= small.store_shards && large.origin_cores >= small.origin_cores, "{more}");
    }
    assert!(planned(&["--sessions=20000000"]).plan.store_shards > 1);
}

#[test]
fn figures_out_of_range_are_refused_by_name() {
    for (argument, allowed) in [
        ("--token-ttl=5s", "from 1m to 1h"),
        ("--token-ttl=300", "30s or 5m"),
        ("--session-share=1.5", "from 0 to 1"),
        ("--session-share=NaN", "from 0 to 1"),
        ("--store-memory=much", "4GiB"),
        ("--edge-bandwidth=0", "more than 0"),
        ("--edge-bandwidth=12Mb", "12MB"),
        ("--sessions=0", "1..=1000000000"),
    ] {
        let refused = figures(&[argument]).unwrap_err().to_string();
        let name = argument.split('=').next().unwrap();
        assert!(refused.contains(name) && refused.contains(allowed), "{refused}");
    }
    assert!(figures(&["--sessions=1", "--token-ttl=60s", "--session-share=0", "--store-memory=4GiB"]).is_ok());
}

#[test]
fn a_token_costs_something_and_the_table_has_no_gap() {
    let figures = figures(&[]).unwrap();
    let report = report(&figures, &Costs::usual(&figures, token_micros().unwrap()));
    assert!(report.plan.token_micros > 0.0 && report.plan.origin_cores > 0.0);
    assert_eq!(table(&report).lines().count(), 17 + 2 + report.limits.len());
}

async fn measured(url: String) -> Measured {
    // A cluster has no servers that are asked to confirm.
    let accept = vec![Risk::AsynchronousReplication];
    let config = Store { url: StoreUrl::from(url), timeout_ms: 30_000, accept, ..Store::default() };
    measure(&config, 155).await.unwrap()
}

/// What was measured is what is planned with.
fn is_used(measured: &Measured) {
    let figures = figures(&[]).unwrap();
    let plan = report(&figures, &Costs::usual(&figures, 13.0).measured(measured)).plan;
    let bytes = measured.session_bytes.unwrap();
    assert_eq!((plan.store_bytes_per_session, plan.store_bytes), (bytes, 200_000 * bytes));
    let (read, swap) = (measured.read.cpu_micros.unwrap(), measured.swap.cpu_micros.unwrap());
    let share = (plan.refreshes_per_s * (read + swap) + 50.0 * 2.0 * swap + 10.0 * (read + 2.0 * swap)) / 1e6;
    assert!((plan.store_core_share - share).abs() < 1e-9, "{plan:?}");
    assert!(measured.read.latency_micros > 0.0 && measured.swap.latency_micros > 0.0);
    assert!((155 + 32..2_000).contains(&bytes), "{measured:?}");
}

/// `DBSIZE` counts what is over and not yet forgotten too.
#[tokio::test(flavor = "multi_thread")]
async fn measuring_leaves_nothing_in_redis_and_touches_no_other_key() {
    let server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    for name in ["portcullis:session:AAAAAAAAAAAAAAAAAAAAAA", "portcullis:{subject:alice}", "of somebody else"] {
        server.cli(&["SET", name, "untouched"]);
    }
    let measured = measured(server.url()).await;
    is_used(&measured);
    assert!(server.cli(&["INFO", "commandstats"]).contains("cmdstat_memory"), "the server was asked");
    assert_eq!(server.cli(&["DBSIZE"]).trim(), "3");
    for name in ["portcullis:session:AAAAAAAAAAAAAAAAAAAAAA", "portcullis:{subject:alice}", "of somebody else"] {
        assert_eq!(server.cli(&["GET", name]).trim(), "untouched", "{name}");
    }
}

/// The samples lie on every node of a cluster, and what all of them used up counts.
#[tokio::test(flavor = "multi_thread")]
async fn measuring_a_cluster_asks_every_node_and_leaves_nothing() {
    let (servers, urls) = cluster();
    is_used(&measured(urls).await);
    for server in &servers {
        let said = server.cli(&["INFO", "commandstats"]);
        assert!(said.contains("cmdstat_memory") && said.contains("cmdstat_info"), "{said}");
        assert_eq!(server.cli(&["DBSIZE"]).trim(), "0");
    }
}

/// An embedded store is measured while an origin has it open.
#[tokio::test(flavor = "multi_thread")]
async fn measuring_an_embedded_store_leaves_its_folder_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("embedded:{}", directory.path().join("store.db").display());
    let config = Store { url: StoreUrl::from(url.clone()), ..Store::default() };
    let open = crate::store::AnyStore::open(&config).await.unwrap();
    let names = || {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (names(), std::fs::read(directory.path().join("store.db")).unwrap());
    is_used(&measured(url).await);
    assert_eq!((names(), std::fs::read(directory.path().join("store.db")).unwrap()), before);
    drop(open);
}
