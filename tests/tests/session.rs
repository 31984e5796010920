//! What a browser sees and does with its own session, through the gate on the application's host.

use portcullis_tests::{Opened, Setting, TestGate, eventually, set_cookies};
use reqwest::{Method, Response};
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

async fn ask(gate: &TestGate, method: Method, path: &str, cookies: &str) -> anyhow::Result<Response> {
    let request = gate.request(method, &format!("/.portcullis/session{path}"));
    Ok(request.header("cookie", cookies).header("origin", gate.base()).send().await?)
}

async fn json_of(response: Response) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}

async fn open(setting: &Setting, subject: &str, name: &str) -> anyhow::Result<Opened> {
    let device = json!({ "name": name });
    setting.open_with(json!({ "subject": subject, "client_id": "web", "roles": ["member"], "device": device })).await
}

#[tokio::test]
async fn a_page_learns_who_it_is_for_and_never_sees_a_token() -> Tested {
    let setting = Setting::start().await?;
    let opened = open(&setting, "alice", "Laptop").await?;
    let answer = ask(&setting.gate, Method::GET, "", &opened.cookies()).await?;
    assert_eq!((answer.status().as_u16(), answer.headers()["cache-control"].to_str()?), (200, "no-store"));
    let known = answer.text().await?;
    assert!(!known.contains(&opened.access) && !known.contains(&opened.refresh), "COO-04: {known}");
    let known: Value = serde_json::from_str(&known)?;
    assert_eq!(
        (&known["sub"], &known["sid"], &known["roles"]),
        (&json!("alice"), &json!(opened.session), &json!(["member"]))
    );

    let answer = ask(&setting.gate, Method::POST, "/refresh", &opened.cookies()).await?;
    assert_eq!((answer.status().as_u16(), set_cookies(&answer).len()), (200, 0), "a token that is good is kept");
    let only_refresh = format!("__Host-Http-rt={}", opened.refresh);
    let answer = ask(&setting.gate, Method::POST, "/refresh", &only_refresh).await?;
    let lines = set_cookies(&answer);
    assert_eq!((answer.status().as_u16(), lines.len()), (200, 2));
    let body = answer.text().await?;
    assert!(lines.iter().all(|line| !body.contains(line.split([';', '=']).nth(1).unwrap_or("="))), "COO-04");

    for (method, path, status) in [
        (Method::POST, "", 405),
        (Method::GET, "/refresh", 405),
        (Method::GET, "/sign-out", 405),
        (Method::GET, "/devices/x/end", 404),
        (Method::GET, "/nothing", 404),
    ] {
        assert_eq!(ask(&setting.gate, method, path, &opened.cookies()).await?.status(), status, "{path}");
    }
    assert_eq!(setting.gate.request(Method::GET, "/.portcullis/session").send().await?.status(), 401);
    setting.origin.stop().await;
    Ok(())
}

/// SES-09, SES-11: the own devices and no others, and only with a recent authentication (RFC 9470 §3).
#[tokio::test]
async fn a_user_lists_the_own_devices_and_ends_one() -> Tested {
    let setting = Setting::start().await?;
    let (laptop, phone) = (open(&setting, "bob", "Laptop").await?, open(&setting, "bob", "Phone").await?);
    let other = open(&setting, "mallory", "Desktop").await?;
    let answer = ask(&setting.gate, Method::GET, "/devices", &laptop.cookies()).await?;
    assert_eq!(answer.status(), 200);
    let listed = json_of(answer).await?;
    let devices = listed["devices"].as_array().cloned().unwrap_or_default();
    let mut seen: Vec<_> = devices.iter().map(|d| (d["device"]["name"].as_str(), d["current"].as_bool())).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(Some("Laptop"), Some(true)), (Some("Phone"), Some(false))]);

    let first = json_of(ask(&setting.gate, Method::GET, "/devices?limit=1", &laptop.cookies()).await?).await?;
    let next = format!("/devices?limit=1&cursor={}", first["next_cursor"].as_str().unwrap_or_default());
    let second = json_of(ask(&setting.gate, Method::GET, &next, &laptop.cookies()).await?).await?;
    let pages = [&first, &second].map(|page| page["devices"].as_array().map(Vec::len));
    assert_eq!(pages, [Some(1), Some(1)]);
    assert_ne!(first["devices"], second["devices"]);
    assert_eq!(ask(&setting.gate, Method::GET, "/devices?limit=0", &laptop.cookies()).await?.status(), 400);

    let end = |session: &str| format!("/devices/{session}/end");
    assert_eq!(ask(&setting.gate, Method::POST, &end(&other.session), &laptop.cookies()).await?.status(), 404);
    assert_eq!(setting.gate.status_of("/app/x", &other.access).await?, 200, "another user's lives on");

    let old = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() - 3_000;
    let old = setting.open_with(json!({ "subject": "bob", "client_id": "web", "auth_time": old })).await?;
    let refused = ask(&setting.gate, Method::POST, &end(&phone.session), &old.cookies()).await?;
    let challenge = refused.headers()["www-authenticate"].to_str()?;
    assert_eq!(refused.status(), 401);
    assert!(challenge.ends_with(r#"error="insufficient_user_authentication", max_age="300""#), "{challenge}");
    assert_eq!(setting.gate.status_of("/app/x", &phone.access).await?, 200);

    let cross = setting.gate.request(Method::POST, &format!("/.portcullis/session{}", end(&phone.session)));
    let cross = cross.header("cookie", laptop.cookies()).header("origin", "https://evil.example").send().await?;
    assert_eq!(cross.status(), 403, "CSR-01");
    assert_eq!(ask(&setting.gate, Method::POST, &end(&phone.session), &laptop.cookies()).await?.status(), 204);
    let refused = async || (setting.gate.status_of("/app/x", &phone.access).await.ok()? == 401).then_some(());
    eventually("the refusal", refused).await?;
    assert_eq!(setting.gate.status_of("/app/x", &laptop.access).await?, 200);
    setting.origin.stop().await;
    Ok(())
}

/// SES-05, COO-14, REF-11: the server side first, then the cookies.
#[tokio::test]
async fn signing_out_ends_the_session_before_the_cookies_go() -> Tested {
    let setting = Setting::start().await?;
    let opened = open(&setting, "carol", "Laptop").await?;
    let unsafe_one = setting.gate.request(Method::POST, "/.portcullis/session/sign-out");
    assert_eq!(unsafe_one.header("cookie", opened.cookies()).send().await?.status(), 403, "CSR-01");
    assert_eq!(setting.gate.status_of("/app/x", &opened.access).await?, 200);

    let answer = ask(&setting.gate, Method::POST, "/sign-out", &opened.cookies()).await?;
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.headers()["clear-site-data"].to_str()?, r#""cache", "cookies", "storage""#);
    let lines = set_cookies(&answer);
    assert!(lines.len() == 2 && lines.iter().all(|line| line.ends_with("; Max-Age=0")), "{lines:?}");
    let refused = async || (setting.gate.status_of("/app/x", &opened.access).await.ok()? == 401).then_some(());
    eventually("the refusal", refused).await?;
    assert_eq!(setting.origin.refresh(&opened.refresh, "web").await?.0, 400);
    assert_eq!(
        ask(&setting.gate, Method::POST, "/sign-out", &opened.cookies()).await?.status(),
        204,
        "may be repeated"
    );

    let phone = open(&setting, "carol", "Phone").await?;
    let by_header = setting.gate.request(Method::POST, "/.portcullis/session/sign-out").bearer_auth(&phone.access);
    assert_eq!(by_header.send().await?.status(), 204);
    assert!(!setting.origin.is_active(&phone.access).await?);

    let left = open(&setting, "carol", "Tablet").await?;
    setting.origin.stop().await;
    let answer = ask(&setting.gate, Method::POST, "/sign-out", &left.cookies()).await?;
    assert_eq!(
        (answer.status().as_u16(), set_cookies(&answer).len()),
        (503, 0),
        "nothing is lost, and it may be repeated"
    );
    Ok(())
}
