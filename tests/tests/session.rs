//! What a browser sees and does with its own session, through the gate on the application's host.

use portcullis_tests::{GatePlace, GateSettings, Opened, POLICY, Setting, TestGate, TestOrigin, set_cookies};
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
    setting.gate.comes_to_answer("/app/x", &phone.access, 401).await?;
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
    setting.gate.comes_to_answer("/app/x", &opened.access, 401).await?;
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

/// REF-05: the gate says whose browser renews. The same one may try again; from another one it is reuse, and no retry.
#[tokio::test]
async fn a_renewal_from_another_browser_is_reuse() -> Tested {
    let setting = Setting::start().await?;
    let opened = open(&setting, "dora", "Laptop").await?;
    let renew = async |agent: &str| -> anyhow::Result<Response> {
        let request = setting.gate.request(Method::GET, "/app/x").header("user-agent", agent);
        Ok(request.header("cookie", format!("__Host-Http-rt={}", opened.refresh)).send().await?)
    };
    let (first, again) = (renew("Browser/1").await?, renew("Browser/1").await?);
    assert_eq!((first.status().as_u16(), again.status().as_u16()), (200, 200));
    let refresh = |answer: &Response| set_cookies(answer).into_iter().find(|line| line.starts_with("__Host-Http-rt="));
    assert_eq!(refresh(&first), refresh(&again), "one successor");
    assert_eq!(renew("Stolen/1").await?.status(), 401);
    let path = format!("/v1/sessions/{}", opened.session);
    let (_, shown) = setting.origin.manage(Method::GET, &path, json!({})).await?;
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("ended"), &json!("token_reuse")));
    let metrics = setting.origin.request(Method::GET, "/metrics").send().await?.text().await?;
    let counted = metrics.lines().find(|line| line.contains("refresh_reuses_total{class=\"other_client\"}"));
    assert!(counted.is_some_and(|line| !line.ends_with(" 0")), "{counted:?}");
    setting.origin.stop().await;
    Ok(())
}

/// COO-02: other names, the same at origin and gate: what the origin says to set is what the gate reads and renews.
#[tokio::test]
async fn cookies_have_the_names_of_the_configuration() -> Tested {
    const NAMES: [&str; 2] = ["__Host-app", "__Host-app-renewal"];
    let directory = tempfile::tempdir()?;
    let place = GatePlace::new(POLICY)?;
    let origin = TestOrigin::start_with(directory.path(), |config| {
        config.hubs = vec![place.hub()];
        [config.tokens.access_cookie, config.tokens.refresh_cookie] = NAMES.map(str::to_owned);
    })
    .await?;
    let settings = GateSettings::of(&origin).with("ACCESS_COOKIE", NAMES[0]).with("REFRESH_COOKIE", NAMES[1]);
    let gate = place.start(settings).await?;
    gate.ready().await?;
    let body = json!({ "subject": "alice", "client_id": "web" });
    let (_, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
    let lines: Vec<&str> = opened["set_cookie"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let named =
        |lines: &[&str]| lines.iter().filter_map(|line| line.split('=').next()).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(named(&lines), NAMES);
    let value = |line: &str| line.split(';').next().unwrap_or_default().to_owned();
    for (cookie, renewed) in [(value(lines[0]), 0), (value(lines[1]), 2)] {
        let answer = gate.request(Method::GET, "/self/x").header("cookie", cookie).send().await?;
        let said = set_cookies(&answer);
        assert_eq!((answer.status().as_u16(), said.len()), (204, renewed));
        assert_eq!(named(&said.iter().map(String::as_str).collect::<Vec<_>>()), &NAMES[..renewed]);
    }
    let of_before = format!("__Host-Http-at={}", opened["access_token"].as_str().unwrap_or_default());
    assert_eq!(gate.request(Method::GET, "/self/x").header("cookie", of_before).send().await?.status(), 401);
    origin.stop().await;
    Ok(())
}

/// A browser that wants a page is sent to sign in, by the routes that say so; a dead session loses its cookies on the way.
#[tokio::test]
async fn a_navigation_without_a_session_goes_where_one_signs_in() -> Tested {
    let setting = Setting::start().await?;
    let opened = open(&setting, "erin", "Laptop").await?;
    let ask = async |method: Method, path: &str, mode: &str, cookies: &str| {
        let request = setting.gate.request(method, path).header("sec-fetch-mode", mode).header("cookie", cookies);
        request.header("origin", setting.gate.base()).send().await
    };
    let place = |answer: &Response| {
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        (answer.status().as_u16(), location, set_cookies(answer).len())
    };
    let sign_in = |path: &str| Some(format!("/sign-in?theme=dark&return_to={path}"));
    let cookies = opened.cookies();
    assert_eq!(place(&ask(Method::GET, "/page/a?b=c&d", "navigate", &cookies).await?), (200, None, 0));
    let nobody = ask(Method::GET, "/page/a?b=c&d", "navigate", "").await?;
    assert_eq!(place(&nobody), (303, sign_in("%2Fpage%2Fa%3Fb%3Dc%26d"), 0));
    assert_eq!(nobody.headers()["cache-control"], "no-store");
    let long = format!("/page/a?{}", "a".repeat(3_000));
    let answer = ask(Method::GET, &long, "navigate", "").await?;
    assert_eq!(place(&answer).1.as_deref(), Some("/sign-in?theme=dark"), "without a place to return to");

    let path = format!("/v1/sessions/{}/revoke", opened.session);
    assert_eq!(setting.origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    setting.gate.comes_to_answer("/page/a", &opened.access, 401).await?;
    let dead = ask(Method::GET, "/page/a", "navigate", &cookies).await?;
    assert_eq!(place(&dead), (303, sign_in("%2Fpage%2Fa"), 2));
    assert!(set_cookies(&dead).iter().all(|line| line.ends_with("; Max-Age=0")));
    for (method, path, mode) in [
        (Method::GET, "/page/a", "cors"),
        (Method::POST, "/page/a", "navigate"),
        (Method::GET, "/app/a", "navigate"),
        (Method::GET, "/.portcullis/session", "navigate"),
    ] {
        let answer = ask(method, path, mode, &cookies).await?;
        assert_eq!(place(&answer), (401, None, 2), "{path} {mode}");
    }
    setting.origin.stop().await;
    Ok(())
}

/// A renewal that others may join for some seconds is not joined once what it gave has been revoked.
#[tokio::test]
async fn a_renewal_of_before_a_change_is_made_anew() -> Tested {
    let setting = Setting::start().await?;
    let opened = open(&setting, "fred", "Laptop").await?;
    let renew = async |path: &str| -> anyhow::Result<Response> {
        let cookie = format!("__Host-Http-rt={}", opened.refresh);
        Ok(setting.gate.request(Method::GET, path).header("cookie", cookie).send().await?)
    };
    let access = |answer: &Response| {
        let line = set_cookies(answer).into_iter().find(|line| line.starts_with("__Host-Http-at="));
        line.and_then(|line| line.split([';', '=']).nth(1).map(str::to_owned)).unwrap_or_default()
    };
    let first = renew("/app/x").await?;
    let joined = renew("/app/x").await?;
    assert_eq!((joined.status().as_u16(), access(&joined)), (200, access(&first)), "one exchange for both");
    let roles = json!({ "roles": ["admin"] });
    assert_eq!(setting.origin.manage(Method::PUT, "/v1/subjects/fred/roles", roles).await?.0, 200);
    setting.gate.comes_to_answer("/app/x", &access(&first), 401).await?;
    let anew = renew("/app/admin/x").await?;
    assert_eq!(anew.status(), 200);
    assert_ne!(access(&anew), access(&first));
    setting.origin.stop().await;
    Ok(())
}
