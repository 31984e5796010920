//! The demonstration behind the gate, with the routes of `edge/policy.toml`: what the gate refuses, a person sees.

use origin::config::Client;
use portcullis_tests::{ASSERTION_KEY, GatePlace, GateSettings, TestDemo, TestGate, TestOrigin, in_chromium, root};
use tempfile::TempDir;

type Tested = anyhow::Result<()>;

struct Demonstration {
    origin: TestOrigin,
    gate: TestGate,
    _demo: TestDemo,
    _directory: TempDir,
}

async fn start() -> anyhow::Result<Demonstration> {
    let directory = tempfile::tempdir()?;
    let place = GatePlace::new(&std::fs::read_to_string(root().join("edge/policy.toml"))?)?;
    let origin = TestOrigin::start_with(directory.path(), |config| {
        config.hubs = vec![place.hub()];
        config.clients.push(Client::public("phone"));
    });
    let origin = origin.await?;
    let demo = TestDemo::start(&origin).await?;
    let settings = GateSettings::of(&origin).with_upstream("app", demo.base());
    let gate = place.start(settings.with("ASSERTION_KEYS", &format!(r#"{{"app":"{ASSERTION_KEY}"}}"#))).await?;
    gate.ready().await?;
    Ok(Demonstration { origin, gate, _demo: demo, _directory: directory })
}

/// I1, I10, COO-03: roles withdrawn, one device signed out, all signed out, each within 1 s; no credential shows.
#[tokio::test(flavor = "multi_thread")]
async fn in_chromium_two_devices_sign_in_and_are_signed_out() -> Tested {
    let Demonstration { origin, gate, .. } = &start().await?;
    // Browsers take cookies that are `Secure` over HTTP from localhost only.
    let page = gate.base().replace("127.0.0.1", "localhost");
    println!("{}", in_chromium("two_devices.mjs", &page).await?);
    // What the page showed is true at the origin too.
    let (_, listed) = origin.manage(reqwest::Method::GET, "/v1/subjects/alice/sessions", serde_json::json!({})).await?;
    assert_eq!(listed, serde_json::json!({ "sessions": [], "next_cursor": null }));
    Ok(())
}

/// A site may point its own name at this machine (DNS rebinding).
#[tokio::test(flavor = "multi_thread")]
async fn pages_under_another_name_are_refused() -> Tested {
    let Demonstration { gate, .. } = &start().await?;
    let body = r#"{"name":"alice"}"#;
    let post = |host: &str, origin: &str| {
        format!(
            "POST /demo/phone/login HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for (request, status) in [
        (get("localhost:8787"), "200"),
        (get("evil.example:8787"), "421"),
        (post("localhost:8787", "http://localhost:8787"), "200"),
        (post("evil.example:8787", "http://evil.example:8787"), "421"),
        (post("localhost:8787", "http://evil.example:8787"), "403"),
    ] {
        let answer = gate.raw(&request).await?;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{request}\n{answer}");
    }
    Ok(())
}
