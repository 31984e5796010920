//! The ways to run a gate: what would be uploaded to Cloudflare, and a gate behind a proxy that ends TLS.

use std::env;

use portcullis_tests::{GatePlace, POLICY, Setting, root};
use reqwest::Method;
use tokio::process::Command;

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
