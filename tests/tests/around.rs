//! Ways around the gate that are known of other proxies: each is refused, or judged as what is forwarded.

use portcullis_tests::Setting;
use reqwest::Method;
use serde_json::{Value, json};

type Tested = anyhow::Result<()>;

/// Sends a head as it stands here, with `Connection: close`, and a body; status and what the application was sent, if it was.
async fn raw(setting: &Setting, head: &str, body: &str) -> anyhow::Result<(u16, Value)> {
    let connection = if head.contains("\nConnection:") { "" } else { "Connection: close\n" };
    let request = format!("{head}\n{connection}").replace('\n', "\r\n") + "\r\n" + body;
    let answer = setting.gate.raw(&request).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let start = answer.find("{\"").unwrap_or_default();
    let end = answer.rfind('}').map_or(start, |end| end + 1);
    Ok((status, serde_json::from_str(&answer[start..end]).unwrap_or_default()))
}

/// BRR-10: however a client spells, repeats or hides a header, the application reads the gate's value, once.
#[tokio::test]
async fn headers_of_a_client_never_speak_for_the_gate() -> Tested {
    let setting = Setting::start().await?;
    let bearer = format!("Authorization: Bearer {}", setting.open("bob").await?.access);
    let chunked = "5\r\nhello\r\n0\r\nPortcullis-Subject: mallory\r\nPortcullis-Roles: admin\r\n\r\n";
    for (more, body) in [
        ("Portcullis-Subject: mallory\nPortcullis-Subject: mallory", ""),
        ("PORTCULLIS-SUBJECT: mallory\nPortcullis_Subject: mallory\nportcullis-Subject: mallory", ""),
        ("Portcullis-Tenant: admin\nPortcullis-Roles: admin\nPortcullis-Assertion: admin.admin.admin", ""),
        ("Connection: close, Portcullis-Subject, portcullis-roles, Portcullis-Assertion, X-Forwarded-Host", ""),
        ("X-Forwarded-Host: mallory\nX-Forwarded-Host: mallory\nX-Forwarded-Proto: mallory", ""),
        ("Transfer-Encoding: chunked\nTrailer: Portcullis-Subject", chunked),
    ] {
        let (status, seen) = raw(&setting, &format!("POST /app/x HTTP/1.1\nHost: h\n{bearer}\n{more}"), body).await?;
        assert_eq!(status, 200, "{more}");
        let headers = &seen["headers"];
        assert_eq!(headers["portcullis-subject"], json!(["bob"]), "{more}");
        assert_eq!(headers["portcullis-roles"], json!(["member"]), "{more}");
        assert_eq!((&headers["portcullis-tenant"], &seen["trailers"]), (&Value::Null, &json!([])), "{more}");
        assert_eq!(headers["portcullis-assertion"].as_array().map(Vec::len), Some(1), "{more}");
        assert_eq!(headers["x-forwarded-host"], json!(["h"]), "{more}");
        let text = seen.to_string();
        assert!(!text.contains("mallory") && !text.contains("admin"), "{more} {text}");
    }
    for broken in ["Portcullis-Subject : mallory", " Portcullis-Subject: mallory", "X: y\n Portcullis-Subject: mallory"]
    {
        let (status, seen) = raw(&setting, &format!("GET /app/x HTTP/1.1\nHost: h\n{broken}\n{bearer}"), "").await?;
        let subject = &seen["headers"]["portcullis-subject"];
        assert!(status == 400 || *subject == json!(["bob"]), "{broken:?} {status} {seen}");
    }
    setting.origin.stop().await;
    Ok(())
}

/// A method is the one on the request line, for the gate and for the application; so is the address.
#[tokio::test]
async fn no_header_overrides_method_or_address() -> Tested {
    let setting = Setting::start().await?;
    let bearer = format!("Authorization: Bearer {}", setting.open("bob").await?.access);
    let ask =
        async |line: &str, more: &str| raw(&setting, &format!("{line} HTTP/1.1\nHost: h\n{bearer}{more}"), "").await;
    let overrides = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x_http_method_override"];
    for name in overrides {
        assert_eq!(ask("DELETE /read-only", &format!("\n{name}: GET")).await?.0, 405, "{name}");
        let (status, seen) = ask("GET /read-only", &format!("\n{name}: DELETE")).await?;
        assert_eq!((status, &seen["method"]), (200, &json!("GET")), "{name}");
        assert_eq!(seen["headers"][name.to_ascii_lowercase()], Value::Null, "{name}");
    }
    for name in ["X-Original-URL", "X-Rewrite-URL", "x_original_url"] {
        assert_eq!(ask("GET /app/admin/x", &format!("\n{name}: /app/x")).await?.0, 403, "{name}");
        let (status, seen) = ask("GET /app/x", &format!("\n{name}: /app/admin/x")).await?;
        assert_eq!((status, &seen["target"]), (200, &json!("/app/x")), "{name}");
        assert_eq!(seen["headers"][name.to_ascii_lowercase()], Value::Null, "{name}");
    }
    let (status, seen) = ask("GET /app/x", "\nX-Other: kept").await?;
    assert_eq!((status, &seen["headers"]["x-other"]), (200, &json!(["kept"])));
    setting.origin.stop().await;
    Ok(())
}

/// What a request's address can be written as: the gate refuses it, or forwards exactly what it judged.
#[tokio::test]
async fn an_address_has_one_meaning() -> Tested {
    let setting = Setting::start().await?;
    let bearer = format!("Authorization: Bearer {}", setting.open("bob").await?.access);
    let ask =
        async |target: &str, host: &str| raw(&setting, &format!("GET {target} HTTP/1.1\n{host}\n{bearer}"), "").await;
    for target in [
        "/app/%2e%2e/app/x",
        "/app/%2E%2E/app/x",
        "/app/.%2e/x",
        "/app/%252e%252e/x",
        "/app/%25%32%65/x",
        "/app/..;/x",
        "/app/x;y=/admin/x",
        "/app/%3B/x",
        "/app//admin/x",
        "//h/app/x",
        "/app/%2Fadmin/x",
        "/app/%2fadmin/x",
        "/app\\admin\\x",
        "/app/%5Cadmin/x",
        "/app/%5cadmin/x",
        "/app/%61dmin/x",
        "/app/%u0061dmin/x",
        "/app/%C0%AEadmin",
        "/app/x%00",
        "/app/x%0D%0Ay",
        "app/x",
        "?/app/x",
        "*",
        "/app/%E2%80%AE%2Fx",
    ] {
        let (status, seen) = ask(target, "Host: h").await?;
        assert!(matches!(status, 400 | 404), "{target}: {status} {seen}");
    }
    // What passes is forwarded as it was judged; a fragment is no part of a request and goes no further.
    for (target, forwarded) in [
        ("/app/%C3%A9?q=/../%2e%2e//;", "/app/%C3%A9?q=/../%2e%2e//;"),
        ("/app/%EF%BC%8F..", "/app/%EF%BC%8F.."),
        ("/app/x#/../admin", "/app/x"),
    ] {
        let (status, seen) = ask(target, "Host: h").await?;
        assert_eq!((status, &seen["target"]), (200, &json!(forwarded)), "{target}");
    }
    // Case counts, so another spelling of a route is another path, and is forwarded as such.
    assert_eq!(ask("/APP/x", "Host: h").await?.0, 404);
    assert_eq!(ask("/app/admin/x", "Host: h").await?.0, 403);
    let (status, seen) = ask("/app/ADMIN/x", "Host: h").await?;
    assert_eq!((status, &seen["target"]), (200, &json!("/app/ADMIN/x")));

    // Absolute form (RFC 9112 §3.2.2) and hosts: refused, or one host and one path are judged and told.
    for (target, hosts) in [
        ("http://h/app/admin/x", "Host: h"),
        ("http://other/app/admin/x", "Host: h"),
        ("http://h/app//x", "Host: h"),
        ("http://h/../app/x", "Host: h"),
        ("http:///app/x", "Host: h"),
        ("/app/x", "Host: h\nHost: other"),
        ("/app/x", "Host: h/app/admin"),
        ("/app/x", "Host: u@h"),
        ("/app/x", "Host: h?"),
        ("/app/x", "Host: h."),
        ("/app/x", "Host: h.:80"),
    ] {
        let (status, seen) = ask(target, hosts).await?;
        assert!(matches!(status, 400 | 403 | 404), "{target} {hosts:?}: {status} {seen}");
    }
    for target in ["http://h/app/x", "http://other/app/x", "http://user@h/app/x"] {
        let (status, seen) = ask(target, "Host: h").await?;
        let place = (&seen["target"], &seen["headers"]["x-forwarded-host"]);
        assert!(status == 400 || place == (&json!("/app/x"), &json!(["h"])), "{target}: {status} {seen}");
    }
    assert_eq!(ask("/app/x", "Host: h").await?.0, 200);
    setting.origin.stop().await;
    Ok(())
}

/// BRR-09: an answer in a session that says nothing of caches is for its user alone; what the application says stays. An answer
/// to `Authorization` no cache may share anyway (RFC 9111 §3.5).
#[tokio::test]
async fn no_cache_may_share_an_answer_in_a_session() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("alice").await?;
    let cached = async |path: &str, cookie: bool| {
        let request = setting.gate.request(Method::GET, path);
        let request =
            if cookie { request.header("cookie", opened.cookies()) } else { request.bearer_auth(&opened.access) };
        let answer = request.send().await?;
        assert_eq!(answer.status(), 200, "{path}");
        let value = answer.headers().get("cache-control").and_then(|value| value.to_str().ok()).map(str::to_owned);
        anyhow::Ok((value, answer.text().await?.contains("portcullis-subject")))
    };
    for (cookie, silent) in [(true, Some("private")), (false, None)] {
        assert_eq!(cached("/app/x", cookie).await?, (silent.map(str::to_owned), true));
        assert_eq!(cached("/app/public", cookie).await?, (Some("public, max-age=600".to_owned()), true));
    }
    assert_eq!(cached("/public/x", false).await?, (None, false), "what is for everyone");
    setting.origin.stop().await;
    Ok(())
}

/// A GET may have a body, if only one of no bytes (RFC 9110 §9.3.1): it goes on like any other.
#[tokio::test]
async fn a_body_of_get_goes_on() -> Tested {
    let setting = Setting::start().await?;
    let bearer = format!("Authorization: Bearer {}", setting.open("bob").await?.access);
    for _ in 0..3 {
        for (path, credential) in [("/app/x", bearer.as_str()), ("/public/x", "X: y")] {
            let ask = async |method: &str, more: &str, body: &str| {
                raw(&setting, &format!("{method} {path} HTTP/1.1\nHost: h\n{credential}\n{more}"), body).await
            };
            let (status, seen) = ask("GET", "Content-Length: 0", "").await?;
            assert_eq!((status, &seen["body"]), (200, &json!("")), "{path}");
            let (status, seen) = ask("GET", "Content-Length: 5", "hello").await?;
            assert_eq!((status, &seen["body"]), (200, &json!("hello")), "{path}");
            // One of unknown length the runtime leaves out.
            let (status, seen) = ask("GET", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n").await?;
            assert_eq!((status, &seen["body"]), (200, &json!("")), "{path}");
            assert_eq!(ask("HEAD", "Content-Length: 0", "").await?.0, 200, "{path}");
        }
    }
    setting.origin.stop().await;
    Ok(())
}

/// CSR-01: a page of another origin opens no WebSocket with the cookies of a user, though it may ask for everything by GET.
#[tokio::test]
async fn no_page_of_another_origin_opens_a_websocket() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("bob").await?;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let status = async |path: &str, credential: &str, from: &str, upgrade: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\n{credential}\r\n{from}{upgrade}\r\n");
        setting.gate.raw_status(&head).await
    };
    let (cookie, bearer) =
        (format!("Cookie: {}", opened.cookies()), format!("Authorization: Bearer {}", opened.access));
    let elsewhere = [
        "Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n",
        "Origin: http://other.h\r\nSec-Fetch-Site: same-site\r\n",
        "Origin: null\r\n",
    ];
    // The third GET is one that is allowed again without being judged.
    for _ in 0..3 {
        for from in elsewhere {
            assert_eq!(status("/app/ws", &cookie, from, upgrade).await?, 403, "{from}");
            assert_eq!(status("/app/ws", &bearer, from, upgrade).await?, 101, "a page cannot send a token: {from}");
            assert_eq!(status("/app/x", &cookie, from, "").await?, 200, "{from}");
        }
        for from in ["", "Origin: http://h\r\n", "Origin: http://h\r\nSec-Fetch-Site: same-origin\r\n"] {
            assert_eq!(status("/app/ws", &cookie, from, upgrade).await?, 101, "{from}");
        }
        // As `/app/ws` without an upgrade: kept, and no help for a page of elsewhere.
        assert_ne!(status("/app/ws", &cookie, "", "").await?, 403);
    }
    setting.origin.stop().await;
    Ok(())
}

/// The application gets the gate's word, never the token: not on an anonymous route, and not as the second of several lines.
#[tokio::test]
async fn no_bearer_token_goes_on() -> Tested {
    let setting = Setting::start().await?;
    let token = setting.open("bob").await?.access;
    for (credential, goes_on) in [
        (format!("Bearer {token}"), false),
        (format!("bearer {token}"), false),
        (format!("Basic a\nAuthorization: Bearer {token}"), false),
        (format!("Basic a,Bearer {token}"), false),
        ("Basic YTpi".to_owned(), true),
        ("Bearer-x abc".to_owned(), true),
    ] {
        let head = format!("GET /public/x HTTP/1.1\nHost: h\nAuthorization: {credential}");
        let (status, seen) = raw(&setting, &head, "").await?;
        assert_eq!((status, seen["headers"]["authorization"].is_array()), (200, goes_on), "{credential}");
    }
    setting.origin.stop().await;
    Ok(())
}
