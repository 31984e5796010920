//! The gate as Wasm in `workerd`, over HTTP, with a real origin and application: what passes, what does not, and why.

use futures_util::{SinkExt as _, StreamExt as _};
use portcullis_tests::{Opened, Setting, TestOrigin, eventually, set_cookies};
use reqwest::{Method, Response, header::HeaderMap};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest as _};

type Tested = anyhow::Result<()>;

async fn body(response: Response) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&response.bytes().await?)?)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn get(setting: &Setting, path: &str, token: &str) -> anyhow::Result<Response> {
    Ok(setting.gate.request(Method::GET, path).bearer_auth(token).send().await?)
}

/// BRR-01 to BRR-06, BRR-13, STP-01; each denial has its twin.
#[tokio::test]
async fn a_request_passes_or_learns_what_is_missing() -> Tested {
    let setting = Setting::start().await?;
    let member = setting.open("alice").await?;
    let admin =
        json!({ "subject": "root", "client_id": "web", "roles": ["admin"], "scope": "read write", "acr": "phr" });
    let admin = setting.open_with(admin).await?;

    let answer = get(&setting, "/app/x?y=1", &member.access).await?;
    assert_eq!(answer.status(), 200);
    let seen = body(answer).await?;
    assert_eq!((&seen["target"], &seen["headers"]["portcullis-subject"]), (&json!("/app/x?y=1"), &json!(["alice"])));
    assert_eq!(seen["headers"]["authorization"], Value::Null, "the credential is the gate's business");

    let none = setting.gate.request(Method::GET, "/app/x").send().await?;
    assert_eq!(
        (none.status().as_u16(), header(none.headers(), "www-authenticate")),
        (401, r#"Bearer realm="portcullis""#)
    );
    let made_up = get(&setting, "/app/x", "a.b.c").await?;
    let challenge = r#"Bearer realm="portcullis", error="invalid_token""#;
    assert_eq!((made_up.status().as_u16(), header(made_up.headers(), "www-authenticate")), (401, challenge));
    assert_eq!(header(made_up.headers(), "content-type"), "application/problem+json");
    assert_eq!(header(made_up.headers(), "cache-control"), "no-store");

    for (path, error) in [
        ("/app/admin/x", r#"error="insufficient_scope""#),
        ("/app/scoped", r#"error="insufficient_scope", scope="write""#),
        ("/app/recent", r#"error="insufficient_user_authentication", acr_values="phr", max_age="300""#),
    ] {
        let refused = get(&setting, path, &member.access).await?;
        let status = if path == "/app/recent" { 401 } else { 403 };
        assert_eq!(refused.status().as_u16(), status, "{path}");
        assert!(header(refused.headers(), "www-authenticate").ends_with(error), "{path}");
        assert_eq!(get(&setting, path, &admin.access).await?.status(), 200, "{path}");
    }

    let wrong = setting.gate.request(Method::DELETE, "/read-only").bearer_auth(&member.access).send().await?;
    assert_eq!((wrong.status().as_u16(), header(wrong.headers(), "allow")), (405, "GET, HEAD"), "BRR-13");
    assert_eq!(get(&setting, "/read-only", &member.access).await?.status(), 200);
    assert_eq!(get(&setting, "/nowhere", &member.access).await?.status(), 404);

    let query = setting.gate.request(Method::GET, &format!("/app/x?access_token={}", member.access)).send().await?;
    assert_eq!(query.status(), 401, "BRR-06");
    assert!(!setting.gate.log()?.contains(&member.access), "I10");
    setting.origin.stop().await;
    Ok(())
}

/// BRR-10: what a client says of itself never reaches the application as the gate's word.
#[tokio::test]
async fn identity_headers_are_the_gates_alone() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("bob").await?;
    let forged = "Portcullis-Subject: mallory\r\nPORTCULLIS_SUBJECT: mallory\r\nportcullis_roles: admin\r\n\
                  Portcullis-Anything: admin\r\nPortcullis_Session: x\r\nX-Other: kept\r\n";
    for (path, credential, subject) in [
        ("/app/x", format!("Authorization: Bearer {}\r\n", opened.access), json!(["bob"])),
        ("/public/x", String::new(), Value::Null),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{forged}{credential}\r\n");
        let answer = setting.gate.raw(&request).await?;
        let start = answer.find("{\"").unwrap_or_default();
        let end = answer.rfind('}').map_or(start, |end| end + 1);
        let seen: Value = serde_json::from_str(&answer[start..end])?;
        let headers = seen["headers"].as_object().cloned().unwrap_or_default();
        assert_eq!(headers.get("portcullis-subject").unwrap_or(&Value::Null), &subject, "{answer}");
        assert!(!answer.contains("mallory") && !answer.contains("admin"), "{answer}");
        assert!(headers.keys().all(|name| !name.starts_with("portcullis_") && name != "portcullis-anything"));
        assert_eq!(headers["x-other"], json!(["kept"]));
        assert_eq!(headers["x-forwarded-host"], json!(["h"]));
    }
    setting.origin.stop().await;
    Ok(())
}

/// A raw path unlike its canonical form is refused before anything else; what passes is forwarded byte for byte.
#[tokio::test]
async fn the_path_that_is_judged_is_the_path_that_is_forwarded() -> Tested {
    let setting = Setting::start().await?;
    let raw = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        setting.gate.raw(&request).await
    };
    for path in [
        "/public/%2e%2e/app/admin/x",
        "/public/../app/x",
        "/public/.%2E/x",
        "//public/x",
        "/public//x",
        "/public/%2Fx",
        "/public/x;y",
        "/public/x\\y",
        "/public/%252e",
        "/public/%00",
        "/public/%c3%a9",
    ] {
        let answer = raw(path).await?;
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
    }
    for path in ["/public/x", "/public/%C3%A9", "/public/a:b@c?q=%2e%2e//;"] {
        let answer = raw(path).await?;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("\"target\":\"{path}\"")), "{answer}");
    }
    setting.origin.stop().await;
    Ok(())
}

/// COO-11, COO-15, BRR-05, CSR-01 and the limits of what is read.
#[tokio::test]
async fn ambiguous_and_oversized_requests_are_refused() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("carol").await?;
    let with = |method: Method, headers: &[(&str, &str)]| {
        let mut request = setting.gate.request(method, "/app/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send()
    };
    let (cookie, bearer) = (opened.cookies(), format!("Bearer {}", opened.access));
    let twice = format!("{cookie}; __Host-Http-at={}", opened.access);
    assert_eq!(with(Method::GET, &[("cookie", &cookie)]).await?.status(), 200);
    assert_eq!(with(Method::GET, &[("cookie", &twice)]).await?.status(), 400);
    assert_eq!(with(Method::GET, &[("cookie", &cookie), ("cookie", &cookie)]).await?.status(), 400);
    assert_eq!(with(Method::GET, &[("cookie", &cookie), ("authorization", &bearer)]).await?.status(), 400);
    assert_eq!(with(Method::GET, &[("authorization", &bearer), ("authorization", &bearer)]).await?.status(), 400);

    let (same, other) = (setting.gate.base().to_owned(), "https://evil.example".to_owned());
    assert_eq!(with(Method::POST, &[("cookie", &cookie), ("origin", &same)]).await?.status(), 200);
    assert_eq!(with(Method::POST, &[("cookie", &cookie), ("origin", &other)]).await?.status(), 403);
    assert_eq!(with(Method::POST, &[("cookie", &cookie)]).await?.status(), 403);
    assert_eq!(with(Method::POST, &[("authorization", &bearer)]).await?.status(), 200);

    let long = format!("Bearer {}", "a".repeat(2_000));
    assert_eq!(with(Method::GET, &[("authorization", &long)]).await?.status(), 401);
    let huge = format!("Bearer {}", "a".repeat(60_000));
    assert_eq!(with(Method::GET, &[("authorization", &huge)]).await?.status(), 431);
    let cookies = format!("x={}; {cookie}", "a".repeat(9_000));
    assert_eq!(with(Method::GET, &[("cookie", &cookies)]).await?.status(), 400);
    assert_eq!(with(Method::GET, &[("authorization", &bearer)]).await?.status(), 200, "nothing is lost");
    setting.origin.stop().await;
    Ok(())
}

/// I1, REV-04, SES-05, TOK-23: an acknowledged end is refused; another session of the same subject goes on.
#[tokio::test]
async fn what_is_ended_at_the_origin_is_refused_at_the_gate() -> Tested {
    let setting = Setting::start().await?;
    let (ended, kept) = (setting.open("dora").await?, setting.open("dora").await?);
    for opened in [&ended, &kept] {
        assert_eq!(setting.gate.status_of("/app/x", &opened.access).await?, 200);
    }
    let path = format!("/v1/sessions/{}/revoke", ended.session);
    assert_eq!(setting.origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    setting.gate.comes_to_answer("/app/x", &ended.access, 401).await?;
    assert_eq!(setting.gate.status_of("/relaxed/x", &ended.access).await?, 401, "a known end denies everywhere");
    assert_eq!(setting.gate.status_of("/app/x", &kept.access).await?, 200);

    assert_eq!(setting.origin.manage(Method::POST, "/v1/subjects/dora/revoke", json!({})).await?.0, 200);
    setting.gate.comes_to_answer("/app/x", &kept.access, 401).await?;
    let again = setting.open("dora").await?;
    assert_eq!(setting.gate.status_of("/app/x", &again.access).await?, 200);
    setting.origin.stop().await;
    Ok(())
}

/// A browser whose roles changed is renewed in line, with the new roles; a dead session loses its cookies (SES-12, COO-01).
#[tokio::test]
async fn a_browser_is_renewed_in_line_until_its_session_ends() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("erin").await?;
    let ask = async |path: &str, opened: &Opened| {
        setting
            .gate
            .request(Method::GET, path)
            .header("cookie", format!("theme=dark; {}", opened.cookies()))
            .send()
            .await
    };
    let answer = ask("/app/x", &opened).await?;
    assert_eq!((answer.status().as_u16(), set_cookies(&answer).len()), (200, 0));
    assert_eq!(body(answer).await?["headers"]["cookie"], json!(["theme=dark"]), "no credential goes on");
    assert_eq!(ask("/app/admin/x", &opened).await?.status(), 403);

    let roles = json!({ "roles": ["admin"] });
    assert_eq!(setting.origin.manage(Method::PUT, "/v1/subjects/erin/roles", roles).await?.0, 200);
    let renewed = eventually("the new roles", async || {
        let answer = ask("/app/admin/x", &opened).await.ok()?;
        (answer.status() == 200).then_some(answer)
    })
    .await?;
    let lines = set_cookies(&renewed);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax")), "{lines:?}");
    let seen = body(renewed).await?;
    assert_eq!(
        (&seen["headers"]["portcullis-roles"], &seen["headers"]["cookie"]),
        (&json!(["admin"]), &json!(["theme=dark"]))
    );
    let value = |line: &String| line.split([';', '=']).nth(1).unwrap_or_default().to_owned();
    let next = Opened { access: value(&lines[0]), refresh: value(&lines[1]), ..opened.clone() };
    let answer = ask("/app/admin/x", &next).await?;
    assert_eq!((answer.status().as_u16(), set_cookies(&answer).len()), (200, 0), "the new cookies are good");

    assert_eq!(setting.origin.manage(Method::POST, "/v1/subjects/erin/revoke", json!({})).await?.0, 200);
    let over = eventually("the end", async || {
        let answer = ask("/app/x", &next).await.ok()?;
        (answer.status() == 401).then_some(answer)
    })
    .await?;
    let lines = set_cookies(&over);
    assert!(
        lines.len() == 2 && lines.iter().all(|line| line.contains("=; ") && line.ends_with("Max-Age=0")),
        "{lines:?}"
    );
    setting.origin.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_web_socket_passes_and_redirects_are_the_applications() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("fred").await?;
    let open = async |headers: Vec<(&'static str, String)>| {
        let mut request = format!("{}/app/ws", setting.gate.base().replace("http", "ws")).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().map_err(|_| Error::AttackAttempt)?);
        }
        tokio_tungstenite::connect_async(request).await
    };
    let bearer = format!("Bearer {}", opened.access);
    let (mut socket, _) = open(vec![("authorization", bearer.clone())]).await?;
    assert_eq!(socket.next().await.transpose()?, Some(Message::text("fred")));
    socket.send(Message::text("hello")).await?;
    assert_eq!(socket.next().await.transpose()?, Some(Message::text("hello")));
    socket.close(None).await?;
    let status = |refused: Result<_, Error>| match refused {
        Err(Error::Http(answer)) => answer.status().as_u16(),
        _ => 0,
    };
    assert_eq!(status(open(vec![]).await.map(|_| ())), 401);

    // The cookies of a renewal travel with the answer that opens the socket.
    let cookie = format!("__Host-Http-rt={}", opened.refresh);
    let (mut socket, answer) = open(vec![("cookie", cookie), ("origin", setting.gate.base().to_owned())]).await?;
    assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
    assert_eq!(socket.next().await.transpose()?, Some(Message::text("fred")));
    socket.close(None).await?;

    let redirect = get(&setting, "/app/redirect", &opened.access).await?;
    assert_eq!((redirect.status().as_u16(), header(redirect.headers(), "location")), (302, "/elsewhere"));
    let own = get(&setting, "/self/x", &opened.access).await?;
    assert_eq!((own.status().as_u16(), header(own.headers(), "portcullis-subject")), (204, "fred"));
    let posted = setting.gate.request(Method::POST, "/app/x").bearer_auth(&opened.access).body("a body").send().await?;
    assert_eq!(body(posted).await?["body"], "a body");
    setting.origin.stop().await;
    Ok(())
}

/// I7, TOK-24: without an origin a bounded route goes on until its bound; then fail-closed routes answer 503 with
/// `Retry-After` and fail-open ones go on; with the origin back everything recovers by itself.
#[tokio::test]
async fn the_origin_goes_and_comes_back() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("gail").await?;
    let status = async |path: &str| setting.gate.status_of(path, &opened.access).await;
    for path in ["/app/x", "/relaxed/x", "/asking/x"] {
        assert_eq!(status(path).await?, 200, "{path}");
    }
    let stopped = setting.origin.stop().await;
    assert_eq!(status("/app/x").await?, 200, "within the bound");
    eventually("the bound", async || (status("/app/x").await.ok()? == 503).then_some(())).await?;
    let refused = setting.gate.request(Method::GET, "/app/x").bearer_auth(&opened.access).send().await?;
    assert_eq!((refused.status().as_u16(), header(refused.headers(), "retry-after")), (503, "1"));
    assert_eq!(status("/asking/x").await?, 503, "nobody can be asked");
    for _ in 0..20 {
        assert_eq!(status("/relaxed/x").await?, 200);
    }
    assert_eq!(setting.gate.status_of("/relaxed/x", "a.b.c").await?, 401, "open is not open to everyone");

    let origin = TestOrigin::start_again(stopped).await?;
    eventually("the recovery", async || (status("/app/x").await.ok()? == 200).then_some(())).await?;
    eventually("the recovery", async || (status("/asking/x").await.ok()? == 200).then_some(())).await?;
    let path = format!("/v1/sessions/{}/revoke", opened.session);
    assert_eq!(origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    eventually("the refusal", async || (status("/relaxed/x").await.ok()? == 401).then_some(())).await?;
    origin.stop().await;
    Ok(())
}
