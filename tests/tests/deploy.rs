//! The ways to run a gate: what would be uploaded to Cloudflare, and a gate behind a proxy that ends TLS.

use std::{collections::BTreeSet, env, fs, io::ErrorKind, time::Duration};

use anyhow::Context as _;
use portcullis_tests::{GatePlace, Opened, POLICY, Setting, TestNginx, root};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::{process::Command, time::timeout};

type Tested = anyhow::Result<()>;

/// What `wrangler deploy` would upload has all modules, and the hub.
#[tokio::test]
async fn the_upload_to_cloudflare_is_complete() -> Tested {
    let directory = tempfile::tempdir()?;
    let programs = root().join("node_modules/.bin");
    let path = env::join_paths(
        std::iter::once(programs.clone()).chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )?;
    let mut wrangler = Command::new(programs.join("wrangler"));
    wrangler.args(["deploy", "--dry-run", "--outdir"]).arg(directory.path()).current_dir(root());
    wrangler.env("PATH", path).env("WRANGLER_SEND_METRICS", "false").kill_on_drop(true);
    let output = wrangler.output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("env.HUB (Hub)"), "{said}");
    let mut modules = 0;
    for entry in root().join("edge").read_dir()? {
        let name = entry?.file_name();
        if name.to_string_lossy().ends_with(".mjs") {
            assert!(directory.path().join(&name).is_file(), "{name:?} is not uploaded");
            modules += 1;
        }
    }
    assert!(modules > 3);
    for name in ["index.js", "index_bg.wasm", "policy.bin"] {
        assert!(directory.path().join(name).is_file(), "{name} is not uploaded");
    }
    Ok(())
}

/// CSR-01: an unsafe request of a page of https passes behind a proxy that says so, and only there.
#[tokio::test]
async fn a_gate_behind_a_proxy_knows_that_the_browser_used_tls() -> Tested {
    for (place, status) in [(GatePlace::new(POLICY)?.behind_proxy(), 200), (GatePlace::new(POLICY)?, 403)] {
        let setting = Setting::start_at(place, |_| {}).await?;
        let opened = setting.open("alice").await?;
        let post = async |origin: &str| -> anyhow::Result<u16> {
            let request = setting.gate.request(Method::POST, "/app/x").header("cookie", opened.cookies());
            let request = request.header("host", "app.example").header("x-forwarded-proto", "https");
            Ok(request.header("origin", origin).send().await?.status().as_u16())
        };
        assert_eq!(post("https://app.example").await?, status);
        assert_eq!(post("https://evil.example").await?, 403);
        setting.origin.stop().await;
    }
    Ok(())
}

/// I1: two gates behind the nginx of the example are as one, and one that ends is not missed.
#[tokio::test]
async fn two_gates_behind_nginx_are_one() -> Tested {
    let (first, second) = (GatePlace::new(POLICY)?.behind_proxy(), GatePlace::new(POLICY)?.behind_proxy());
    let nginx = TestNginx::start([first.port(), second.port()]).await?;
    let hub = second.hub_named("EU_2");
    let setting = Setting::start_at(first, |config| config.hubs.push(hub)).await?;
    let second = setting.start_another_at(second, "EU_2").await?;
    let (alice, bob) = (setting.open("alice").await?, setting.open("bob").await?);

    assert_eq!(seen_by_gates(&nginx, &alice, 200).await?.len(), 2);
    unsafe_requests_need_the_right_page(&nginx, &alice).await?;
    what_is_forwarded_is_as_it_came(&nginx, &alice).await?;
    streams_flow(&nginx, &alice).await?;
    let hub = nginx.request(Method::POST, "/.portcullis/hubs/EU_2/frames").send().await?;
    assert_eq!((hub.status().as_u16(), served_by(&hub)), (404, ""), "hubs are not for browsers");

    let path = format!("/v1/sessions/{}/revoke", alice.session);
    assert_eq!(setting.origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    for gate in [&setting.gate, &second] {
        gate.comes_to_answer("/relaxed/x", &alice.access, 401).await?;
    }
    assert_eq!(seen_by_gates(&nginx, &alice, 401).await?.len(), 2);
    assert_eq!(seen_by_gates(&nginx, &bob, 200).await?.len(), 2);

    drop(second);
    // Those that tried the gate that ended name both.
    let seen = seen_by_gates(&nginx, &bob, 200).await?;
    assert!(seen.iter().any(|gates| gates.contains(", ")), "{seen:?}");
    unsafe_requests_need_the_right_page(&nginx, &bob).await?;
    setting.origin.stop().await;
    Ok(())
}

/// Asks some times; all answers have this status. Says which gates they came from.
async fn seen_by_gates(nginx: &TestNginx, opened: &Opened, status: u16) -> anyhow::Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        let answer = nginx.request(Method::GET, "/relaxed/x").header("cookie", opened.cookies()).send().await?;
        assert_eq!(answer.status(), status, "{}", nginx.log());
        seen.insert(served_by(&answer).to_owned());
    }
    Ok(seen)
}

fn served_by(answer: &Response) -> &str {
    answer.headers().get("served-by").and_then(|gates| gates.to_str().ok()).unwrap_or_default()
}

/// CSR-01: that of the address that the browser used, which is one of https whatever a client says of it.
async fn unsafe_requests_need_the_right_page(nginx: &TestNginx, opened: &Opened) -> Tested {
    let plain = nginx.base().replace("https:", "http:");
    // Each of them at both gates.
    for (origin, status) in [(nginx.base(), 200), (nginx.base(), 200), (plain.as_str(), 403), (plain.as_str(), 403)] {
        let request = nginx.request(Method::POST, "/relaxed/x").header("cookie", opened.cookies());
        let answer = request.header("x-forwarded-proto", "http").header("origin", origin).body("a=b").send().await?;
        assert_eq!(answer.status(), status, "{origin}");
    }
    Ok(())
}

async fn what_is_forwarded_is_as_it_came(nginx: &TestNginx, opened: &Opened) -> Tested {
    let target = "/relaxed/a%20b/%C3%A9+c?d=%2F%20&&e=//f";
    let answer = nginx.request(Method::GET, target).header("cookie", opened.cookies()).send().await?;
    let told = answer.text().await?;
    let told: Value = serde_json::from_str(&told).context(told)?;
    assert_eq!(told["target"], target);
    let headers = &told["headers"];
    assert_eq!(headers["x-forwarded-proto"], json!(["https"]));
    let host = nginx.base().trim_start_matches("https://");
    assert_eq!(headers["x-forwarded-host"], json!([host]));
    // A gate refuses what another reader could take for another path, which it sees only if nobody decoded it.
    for (path, status) in [("/relaxed/x", 200), ("/relaxed/%78", 400), ("/relaxed//x", 400)] {
        let answer = nginx.request(Method::GET, path).header("cookie", opened.cookies()).send().await?;
        assert_eq!(answer.status(), status, "{path}");
    }
    Ok(())
}

/// Events come one by one, and a WebSocket opens.
async fn streams_flow(nginx: &TestNginx, opened: &Opened) -> Tested {
    let request = nginx.request(Method::GET, "/relaxed/events").header("cookie", opened.cookies());
    let mut events = request.send().await?;
    let event = timeout(Duration::from_secs(60), events.chunk()).await.context("no event comes through")??;
    assert!(event.is_some_and(|event| event.starts_with(b"data: ")));
    let request = nginx.request(Method::GET, "/relaxed/ws").header("cookie", opened.cookies());
    let request = request.header("origin", nginx.base()).header("connection", "upgrade").header("upgrade", "websocket");
    let request = request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(request.send().await?.status(), 101);
    Ok(())
}

/// The unit of systemd has no mistake, and one with a mistake is found.
#[tokio::test]
async fn systemd_takes_the_unit() -> Tested {
    let unit = fs::read_to_string(root().join("deploy/portcullis-gate.service"))?;
    // The program must be there.
    let workerd = root().join("node_modules/.bin/workerd").display().to_string();
    let unit = unit.replace("/usr/local/bin/workerd", &workerd);
    assert!(unit.contains(&format!("ExecStart={workerd} serve")));
    for (unit, taken) in [(unit.replace("NoNewPrivileges=", "NoPrivileges="), false), (unit, true)] {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("portcullis-gate.service");
        fs::write(&file, unit)?;
        let output = match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output().await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("the unit is not checked: there is no systemd-analyze here");
                return Ok(());
            }
            output => output?,
        };
        // It looks at the units of this machine too.
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(!said.contains("portcullis-gate"), taken, "{said}");
    }
    Ok(())
}
