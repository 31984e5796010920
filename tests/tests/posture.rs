//! How answers look from outside, whatever they are about: headers, types, challenges, ids.

use std::collections::HashSet;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use portcullis_tests::{GatePlace, GateSettings, POLICY, Setting, TestGate};
use reqwest::{Method, Response};
use serde_json::json;

type Tested = anyhow::Result<()>;

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// BRR-12, BRR-14, CSR-02, HDR-01, HDR-02, PRB-01: every kind of answer of origin and gate.
#[tokio::test]
async fn every_answer_has_its_type_and_lets_no_other_page_read_it() -> Tested {
    let setting = Setting::start().await?;
    let from_elsewhere = |request: reqwest::RequestBuilder| request.header("origin", "https://evil.example");
    let mut answers = Vec::new();
    for path in
        ["/healthz", "/readyz", "/metrics", "/.well-known/jwks.json", "/feed/snapshot", "/nothing", "/v1/sessions"]
    {
        answers.push((path, from_elsewhere(setting.origin.request(Method::GET, path)).send().await?));
    }
    for path in ["/app/x", "/nothing", "/public//x", "/.portcullis/status", "/.portcullis/session", "/.portcullis/x"] {
        answers.push((path, from_elsewhere(setting.gate.request(Method::GET, path)).send().await?));
        answers.push((path, from_elsewhere(setting.gate.request(Method::OPTIONS, path)).send().await?));
    }
    for (path, answer) in answers {
        assert!(!answer.status().is_redirection(), "BRR-12: {path}");
        assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control-")), "CSR-02: {path}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "HDR-02: {path}");
        assert_eq!(header(&answer, "referrer-policy"), "no-referrer", "HDR-02: {path}");
        assert!(header(&answer, "content-security-policy").contains("frame-ancestors 'none'"), "HDR-02: {path}");
        assert_eq!(header(&answer, "strict-transport-security"), "max-age=31536000", "HDR-01: {path}");
        let (status, kind) = (answer.status().as_u16(), header(&answer, "content-type").to_owned());
        let body = answer.bytes().await?;
        if status >= 400 {
            assert_eq!(kind, "application/problem+json", "PRB-01: {path}");
            let problem: serde_json::Value = serde_json::from_slice(&body)?;
            assert_eq!(
                (&problem["status"], &problem["type"]),
                (&json!(status), &json!("about:blank")),
                "PRB-01: {path}"
            );
        } else if kind.starts_with("text/") {
            assert!(kind.contains("charset=utf-8") && std::str::from_utf8(&body).is_ok(), "BRR-14: {path} {kind}");
        }
    }
    setting.origin.stop().await;
    Ok(())
}

/// Parses `WWW-Authenticate` strictly (RFC 9110 §11.6.1): one scheme, each parameter once, quoted.
fn parameters(challenge: &str) -> anyhow::Result<Vec<(String, String)>> {
    let rest = challenge.strip_prefix("Bearer ").ok_or_else(|| anyhow::anyhow!("{challenge}"))?;
    rest.split(", ")
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').ok_or_else(|| anyhow::anyhow!("{challenge}"))?;
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let value =
                value.filter(|value| !value.contains(['"', '\\'])).ok_or_else(|| anyhow::anyhow!("{challenge}"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// BRR-01, BRR-03, BRR-07, SES-04: hostile text in every place leaves answers well formed, and the gate as it was.
#[tokio::test]
async fn hostile_input_leaves_challenges_well_formed() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("alice").await?;
    let redis = "x\\r\\n*1\\r\\n$8\\r\\nFLUSHALL";
    for token in ["\"", "a\"b", "a, error=\"x\"", redis, "é", "..", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
        let request =
            setting.gate.request(Method::GET, "/app/x").header("authorization", format!("Bearer {token}").into_bytes());
        let answer = request.send().await?;
        assert!(matches!(answer.status().as_u16(), 400 | 401), "{token}");
        if answer.status() == 401 {
            let found = parameters(header(&answer, "www-authenticate"))?;
            assert_eq!(
                found,
                [("realm".into(), "portcullis".into()), ("error".into(), "invalid_token".into())],
                "{token}"
            );
        }
    }
    for cookie in ["__Host-Http-at=\u{1}", "__Host-Http-rt=\"x\"", "__Host-Http-at=a\tb", "=;=;=", "__Host-Http-rt=*1"]
    {
        let raw = format!("GET /app/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n");
        let answer = setting.gate.raw(&raw).await?;
        assert!(answer.starts_with("HTTP/1.1 4"), "{cookie:?} {answer}");
    }
    assert_eq!(setting.gate.status_of("/app/x", &opened.access).await?, 200, "nothing is lost");
    setting.origin.stop().await;
    Ok(())
}

async fn without_credential(gate: &TestGate, path: &str) -> anyhow::Result<String> {
    Ok(header(&gate.request(Method::GET, path).send().await?, "www-authenticate").to_owned())
}

/// STP-05: who has no token learns nothing of what a route asks for; SES-13: nobody gets a level that was not authenticated.
#[tokio::test]
async fn requirements_are_told_to_those_with_a_session_only() -> Tested {
    let setting = Setting::start().await?;
    for path in ["/app/recent", "/app/scoped", "/app/admin/x", "/app/x"] {
        assert_eq!(without_credential(&setting.gate, path).await?, r#"Bearer realm="portcullis""#, "{path}");
    }
    let password = json!({ "subject": "bob", "client_id": "web", "acr": "pwd", "amr": ["pwd"] });
    let password = setting.open_with(password).await?;
    let refused = setting.gate.request(Method::GET, "/app/recent").bearer_auth(&password.access).send().await?;
    assert!(header(&refused, "www-authenticate").contains("acr_values=\"phr\""));
    let (_, renewed) = setting.origin.refresh(&password.refresh, "web").await?;
    let renewed = renewed["access_token"].as_str().unwrap_or_default();
    assert_eq!(setting.gate.status_of("/app/recent", renewed).await?, 401, "a refresh raises nothing");
    let strong =
        setting.open_with(json!({ "subject": "bob", "client_id": "web", "acr": "phr", "amr": ["hwk"] })).await?;
    assert_eq!(setting.gate.status_of("/app/recent", &strong.access).await?, 200);
    setting.origin.stop().await;
    Ok(())
}

fn jti(token: &str) -> anyhow::Result<String> {
    let claims = Base64UrlUnpadded::decode_vec(token.split('.').nth(1).unwrap_or_default());
    let claims: serde_json::Value = serde_json::from_slice(&claims.map_err(|error| anyhow::anyhow!("{error}"))?)?;
    claims["jti"].as_str().map(str::to_owned).ok_or_else(|| anyhow::anyhow!("there is no jti"))
}

/// SES-01, SES-02, SES-03, TOK-25: ids are long, never repeat, and are never taken from outside.
#[tokio::test]
async fn ids_are_drawn_and_never_adopted() -> Tested {
    let setting = Setting::start().await?;
    let (mut sessions, mut tokens) = (HashSet::new(), HashSet::new());
    for _ in 0..200 {
        let opened = setting.open("carol").await?;
        assert_eq!(opened.session.len(), 22, "128 bits in base64url");
        assert!(sessions.insert(opened.session));
        assert!(tokens.insert(jti(&opened.access)?), "TOK-25");
    }
    let opened = setting.open("carol").await?;
    for _ in 0..3 {
        // The same refresh token again: the same successor, and an access token of its own.
        let (status, again) = setting.origin.refresh(&opened.refresh, "web").await?;
        assert!(status == 200 && tokens.insert(jti(again["access_token"].as_str().unwrap_or_default())?), "TOK-25");
    }
    let made_up = format!("rt_{}", "A".repeat(70));
    for token in [made_up.as_str(), "rt_", "x", &"A".repeat(8_000)] {
        let (status, answer) = setting.origin.refresh(token, "web").await?;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")), "SES-03");
    }
    let body = json!({ "subject": "carol", "client_id": "web", "session_id": "AAAAAAAAAAAAAAAAAAAAAA" });
    assert_eq!(setting.origin.manage(Method::POST, "/v1/sessions", body).await?.0, 400, "an id cannot be chosen");
    setting.origin.stop().await;
    Ok(())
}

/// BRR-09: two users of one address get their own answers, though the application lets every cache keep them; an answer that
/// carries new cookies, and every one of the gate's own, is kept by none.
#[tokio::test]
async fn no_cache_gives_one_user_what_another_was_told() -> Tested {
    let setting = Setting::start().await?;
    let (alice, bob) = (setting.open("alice").await?, setting.open("bob").await?);
    for (opened, subject) in [(&alice, "alice"), (&bob, "bob"), (&alice, "alice")] {
        let answer = setting.gate.request(Method::GET, "/app/public").bearer_auth(&opened.access).send().await?;
        assert_eq!(header(&answer, "cache-control"), "public, max-age=600", "what the application says goes on");
        let seen: serde_json::Value = answer.json().await?;
        assert_eq!(seen["headers"]["portcullis-subject"], json!([subject]));
        assert_eq!(seen["headers"]["cache-control"], json!(["no-cache"]), "caches on the way are told to ask");
    }
    let renewing = |path: &str| {
        let request = setting.gate.request(Method::GET, path);
        request.header("cookie", format!("__Host-Http-rt={}", alice.refresh)).send()
    };
    for path in ["/app/public", "/self/x", "/.portcullis/session"] {
        let answer = renewing(path).await?;
        assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2, "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
    }
    for path in ["/app/x", "/.portcullis/status", "/.portcullis/session", "/nowhere"] {
        let answer = setting.gate.request(Method::GET, path).send().await?;
        assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
    }
    let anonymous = setting.gate.request(Method::GET, "/public/x").send().await?;
    let seen: serde_json::Value = anonymous.json().await?;
    assert_eq!(seen["headers"]["cache-control"], json!(null), "what is for everyone may be cached");
    setting.origin.stop().await;
    Ok(())
}

/// BRR-09: a gate that is not told that its runtime has no cache keeps what it asks in a session out of it: the runtime marks
/// such a request with `Pragma`, too.
#[tokio::test]
async fn a_cache_of_the_runtime_is_passed_by_unless_there_is_none() -> Tested {
    const TOLD: &str = "(name = \"RUNTIME_CACHE\", text = \"none\")";
    let (place, told) = (GatePlace::new(POLICY)?.reconfigured(&format!(",\n    {TOLD}"), "")?, GatePlace::new(POLICY)?);
    let second = told.hub_named("second");
    let setting = Setting::start_at(place, |config| config.hubs.push(second)).await?;
    let alice = setting.open("alice").await?;
    let marks = async |gate: &TestGate, path: &str| {
        let request = gate.request(Method::GET, path);
        let request = if path.starts_with("/app") { request.bearer_auth(&alice.access) } else { request };
        let seen: serde_json::Value = request.send().await?.json().await?;
        anyhow::Ok(["cache-control", "pragma"].map(|name| seen["headers"][name].clone()))
    };
    assert_eq!(marks(&setting.gate, "/app/x").await?, [json!(["no-cache"]), json!(["no-cache"])]);
    assert_eq!(marks(&setting.gate, "/public/x").await?, [json!(null), json!(null)]);
    let told = setting.start_another_at(told, "second").await?;
    assert_eq!(marks(&told, "/app/x").await?, [json!(["no-cache"]), json!(null)]);
    setting.origin.stop().await;
    Ok(())
}

/// What `RUNTIME_CACHE` may not be is told, and nothing passes.
#[tokio::test]
async fn a_wrong_word_on_the_cache_of_the_runtime_is_refused() -> Tested {
    let place = GatePlace::new(POLICY)?.reconfigured("text = \"none\"", "text = \"off\"")?;
    let gate = place.start(GateSettings::default()).await?;
    let answer = gate.request(Method::GET, "/public/x").send().await?;
    assert_eq!(answer.status(), 503);
    assert!(gate.log()?.contains("RUNTIME_CACHE: \\\"off\\\" is not"), "{}", gate.log()?);
    Ok(())
}

/// COO-12: a cookie names subject and session by their ids and says nothing else of the person or the device.
#[tokio::test]
async fn cookies_tell_nothing_of_the_person() -> Tested {
    let setting = Setting::start().await?;
    let device = json!({ "name": "Zoe Miller's phone", "user_agent": "Mozilla/5.0 (Personal 7)" });
    let body = json!({ "subject": "u_7", "client_id": "web", "tenant": "acme", "roles": ["member"], "scope": "read",
                       "acr": "pwd", "amr": ["pwd"], "device": device });
    let (_, opened) = setting.origin.manage(Method::POST, "/v1/sessions", body).await?;
    let lines: Vec<&str> =
        opened["set_cookie"].as_array().into_iter().flatten().filter_map(|line| line.as_str()).collect();
    let values = lines.iter().map(|line| line.split(['=', ';']).nth(1).unwrap_or_default());
    let [access, refresh] = values.collect::<Vec<_>>()[..] else { anyhow::bail!("{lines:?}") };
    let decode = |text: &str| Base64UrlUnpadded::decode_vec(text).map_err(|error| anyhow::anyhow!("{error}: {text}"));
    let claims: serde_json::Value = serde_json::from_slice(&decode(access.split('.').nth(1).unwrap_or_default())?)?;
    let names: Vec<&str> =
        claims.as_object().into_iter().flat_map(|claims| claims.keys()).map(String::as_str).collect();
    let allowed =
        ["acr", "amr", "aud", "auth_time", "client_id", "exp", "iat", "iss", "jti", "roles", "scope", "sid", "sub"];
    assert_eq!(names, [&allowed[..], &["tid", "ver"]].concat());
    assert_eq!((&claims["sub"], &claims["tid"]), (&json!("u_7"), &json!("acme")));
    let refresh = decode(refresh.trim_start_matches("rt_"))?;
    assert!(refresh.starts_with(&decode(claims["sid"].as_str().unwrap_or_default())?), "the session's id");
    assert_eq!(refresh.len(), 16 + 4 + 32, "its generation, and what authenticates both");
    setting.origin.stop().await;
    Ok(())
}
