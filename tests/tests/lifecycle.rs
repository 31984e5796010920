//! The life of a session over HTTP: step-up, ends of every width, scope, fields, policy, and that nothing revives it.

use origin::keys::Verifier;
use portcullis_tests::{TestHub, TestOrigin, eventually, feed_key};
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    revocation::ScopeKind,
    token::{AccessToken, Expected},
};

type Tested = anyhow::Result<()>;

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn path_of(session: &Value, rest: &str) -> String {
    format!("/v1/sessions/{}{rest}", text(session, "session_id"))
}

async fn open(origin: &TestOrigin, subject: &str, more: Value) -> anyhow::Result<Value> {
    let mut body = json!({ "subject": subject, "client_id": "web", "scope": "read write" });
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
        body.extend(more.clone());
    }
    let (status, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
    assert_eq!(status, 201, "{opened}");
    Ok(opened)
}

async fn post(origin: &TestOrigin, path: &str, body: Value) -> anyhow::Result<(u16, Value)> {
    origin.manage(Method::POST, path, body).await
}

async fn show(origin: &TestOrigin, session: &Value) -> anyhow::Result<Value> {
    Ok(origin.manage(Method::GET, &path_of(session, ""), json!({})).await?.1)
}

/// The claims of an access token, unchecked.
fn claims(answer: &Value) -> anyhow::Result<Value> {
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let payload = text(answer, "access_token").split('.').nth(1).unwrap_or_default();
    Ok(serde_json::from_slice(&Base64UrlUnpadded::decode_vec(payload)?)?)
}

async fn refresh(origin: &TestOrigin, tokens: &Value) -> anyhow::Result<(u16, Value)> {
    origin.refresh(text(tokens, "refresh_token"), "web").await
}

async fn is_active(origin: &TestOrigin, tokens: &Value) -> anyhow::Result<bool> {
    origin.is_active(text(tokens, "access_token")).await
}

/// SES-02, STP-04, STP-06, REF-10, TMO-04: elevation is another session; the old one is dead everywhere.
#[tokio::test]
async fn a_step_up_opens_another_session_and_ends_the_old_one() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let old = open(&origin, "alice", json!({ "acr": "low", "amr": ["pwd"], "device": { "name": "phone" } })).await?;
    let auth_time = claims(&old)?["auth_time"].as_u64().unwrap_or_default();

    let step_up = path_of(&old, "/step-up");
    let body = json!({ "acr": "high", "amr": ["pwd", "otp"], "tier": "privileged" });
    let early = json!({ "amr": ["pwd"], "auth_time": auth_time - 1 });
    assert_eq!(post(&origin, &step_up, early).await?.0, 422, "the authentication before this session's");
    assert!(is_active(&origin, &old).await?, "a refused step-up changes nothing");
    let (status, new) = post(&origin, &step_up, body.clone()).await?;
    assert_eq!(status, 201, "{new}");
    assert_ne!(new["session_id"], old["session_id"]);
    assert!(is_active(&origin, &new).await? && !is_active(&origin, &old).await?);
    assert_eq!(refresh(&origin, &old).await?.0, 400);

    let now = claims(&new)?;
    assert_eq!(
        (&now["acr"], &now["amr"], &now["scope"]),
        (&json!("high"), &json!(["pwd", "otp"]), &json!("read write"))
    );
    let (old, shown) = (show(&origin, &old).await?, show(&origin, &new).await?);
    assert_eq!((text(&old, "reason"), text(&old, "ended_by")), ("replaced", "system"));
    assert_eq!((text(&shown, "tier"), &shown["device"]["name"]), ("privileged", &json!("phone")));
    assert_eq!(shown["expires_at"].as_u64(), now["auth_time"].as_u64().map(|at| at + 43_200), "TMO-03");

    let (status, repeated) = post(&origin, &step_up, body).await?;
    assert_eq!(status, 409, "{repeated}");
    let (_, renewed) = refresh(&origin, &new).await?;
    let renewed = claims(&renewed)?;
    for name in ["acr", "amr", "auth_time", "sid", "ver"] {
        assert_eq!(renewed[name], now[name], "REF-10: {name}");
    }
    origin.stop().await;
    Ok(())
}

/// STP-06: of many step-ups at once exactly one brings tokens that count.
#[tokio::test(flavor = "multi_thread")]
async fn of_step_ups_at_once_one_wins() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let old = open(&origin, "ines", json!({})).await?;
    let path = path_of(&old, "/step-up");
    let call = || post(&origin, &path, json!({ "amr": ["otp"] }));
    let answers = [call(), call(), call(), call(), call(), call(), call(), call()];
    let answers = futures_util::future::try_join_all(answers).await?;
    let won: Vec<&Value> = answers.iter().filter(|(status, _)| *status == 201).map(|(_, body)| body).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|(status, _)| matches!(status, 201 | 409)));
    let (_, listed) = origin.manage(Method::GET, "/v1/subjects/ines/sessions", json!({})).await?;
    assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["sessions"][0]["session_id"], won[0]["session_id"]);
    origin.stop().await;
    Ok(())
}

/// SES-07: after a change of credentials the others die and the current one lives, with a new id if it stepped up.
#[tokio::test]
async fn all_sessions_but_one_end() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let (phone, laptop) = (open(&origin, "bob", json!({})).await?, open(&origin, "bob", json!({})).await?);
    let carol = open(&origin, "carol", json!({})).await?;
    let path = "/v1/subjects/bob/revoke";
    assert_eq!(post(&origin, path, json!({ "except": carol["session_id"] })).await?.0, 409, "of another subject");
    assert!(is_active(&origin, &laptop).await?, "nothing was ended");

    let (_, phone) = post(&origin, &path_of(&phone, "/step-up"), json!({ "amr": ["pwd"] })).await?;
    for _ in 0..2 {
        let (status, changed) = post(&origin, path, json!({ "except": phone["session_id"] })).await?;
        assert_eq!((status, text(&changed["floors"][0], "scope")), (200, "subject"));
    }
    assert_eq!(refresh(&origin, &laptop).await?.0, 400);
    assert!(!is_active(&origin, &laptop).await? && !is_active(&origin, &phone).await?, "its tokens are renewed");
    let (status, phone_again) = refresh(&origin, &phone).await?;
    assert_eq!(status, 200);
    assert!(is_active(&origin, &phone_again).await?);
    let later = open(&origin, "bob", json!({})).await?;
    assert!(is_active(&origin, &later).await? && is_active(&origin, &phone_again).await?);

    assert_eq!(post(&origin, path, json!({ "except": laptop["session_id"] })).await?.0, 409, "it is over");
    assert_eq!(post(&origin, path, json!({})).await?.0, 200);
    assert_eq!(refresh(&origin, &phone_again).await?.0, 400, "it is spared once, not for ever");
    assert!(is_active(&origin, &carol).await?);
    origin.stop().await;
    Ok(())
}

/// SES-08: one floor for everyone, which either ends sessions or has all tokens renewed.
#[tokio::test]
async fn everyone_renews_and_everyone_ends() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let alice = open(&origin, "alice", json!({ "tenant": "acme" })).await?;
    let bob = open(&origin, "bob", json!({})).await?;
    let (status, changed) = post(&origin, "/v1/everyone/renew", json!({})).await?;
    assert_eq!((status, &changed["floors"]), (200, &json!([{ "scope": "everyone", "version": 2 }])));
    let mut renewed = Vec::new();
    for session in [&alice, &bob] {
        assert!(!is_active(&origin, session).await?);
        let (status, tokens) = refresh(&origin, session).await?;
        assert_eq!(status, 200, "{tokens}");
        assert!(is_active(&origin, &tokens).await?);
        renewed.push(tokens);
    }
    assert_eq!(post(&origin, "/v1/everyone/revoke", json!({})).await?.0, 200);
    for tokens in &renewed {
        assert!(!is_active(&origin, tokens).await?);
        assert_eq!(refresh(&origin, tokens).await?.0, 400);
    }
    assert_eq!(text(&show(&origin, &alice).await?, "reason"), "all_sessions_ended");
    origin.stop().await;

    let origin =
        eventually("the lock of the file", async || TestOrigin::start(directory.path(), vec![]).await.ok()).await?;
    assert_eq!(refresh(&origin, &renewed[0]).await?.0, 400, "a restart revives nobody");
    assert!(is_active(&origin, &open(&origin, "alice", json!({ "tenant": "acme" })).await?).await?);
    origin.stop().await;
    Ok(())
}

/// SES-12 for scope: the version rises, the session lives, the next token has the new scope.
#[tokio::test]
async fn a_change_of_scope_has_tokens_renewed() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let opened = open(&origin, "dora", json!({})).await?;
    let path = path_of(&opened, "/scope");
    for (body, status) in [(json!({}), 400), (json!({ "scope": "two  spaces" }), 422), (json!({ "scope": "" }), 422)] {
        assert_eq!(origin.manage(Method::PUT, &path, body).await?.0, status);
    }
    assert!(is_active(&origin, &opened).await?);
    for _ in 0..2 {
        let (status, changed) = origin.manage(Method::PUT, &path, json!({ "scope": "read" })).await?;
        assert_eq!((status, &changed["floors"]), (200, &json!([{ "scope": "session", "version": 2 }])));
    }
    assert!(!is_active(&origin, &opened).await?);
    let (_, renewed) = refresh(&origin, &opened).await?;
    assert!(is_active(&origin, &renewed).await?);
    assert_eq!(claims(&renewed)?["scope"], "read");
    let wider = [
        ("grant_type", "refresh_token"),
        ("refresh_token", text(&renewed, "refresh_token")),
        ("client_id", "web"),
        ("scope", "read write"),
    ];
    let refused = origin.request(Method::POST, "/oauth2/token").form(&wider).send().await?;
    assert_eq!(refused.status().as_u16(), 400, "REF-06");
    assert_eq!(origin.manage(Method::PUT, &path, json!({ "scope": null })).await?.0, 200);
    let (_, renewed) = refresh(&origin, &renewed).await?;
    assert_eq!(claims(&renewed)?["scope"], Value::Null);
    origin.stop().await;
    Ok(())
}

async fn put_fields(
    origin: &TestOrigin,
    session: &Value,
    tag: Option<&str>,
    fields: Value,
) -> anyhow::Result<(u16, Value)> {
    let request = origin.managed(Method::PUT, &path_of(session, "/fields")).json(&json!({ "fields": fields }));
    let request = if let Some(tag) = tag { request.header("if-match", tag) } else { request };
    let response = request.send().await?;
    let status = response.status().as_u16();
    let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let mut body: Value = response.json().await?;
    body["etag"] = json!(tag);
    Ok((status, body))
}

#[tokio::test]
async fn volatile_fields_are_written_by_compare_and_swap_within_a_budget() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let opened = open(&origin, "erin", json!({})).await?;
    let cart = json!({ "cart": "3", "locale": "de-CH" });
    assert_eq!(put_fields(&origin, &opened, None, cart.clone()).await?.0, 428);
    for (tag, status) in [("\"7\"", 412), ("*", 412), ("7", 412), ("\"0\"", 200), ("\"0\"", 200)] {
        let (found, body) = put_fields(&origin, &opened, Some(tag), cart.clone()).await?;
        assert_eq!(found, status, "{tag} {body}");
    }
    let lost = put_fields(&origin, &opened, Some("\"0\""), json!({ "cart": "4" })).await?;
    assert_eq!(lost.0, 412, "someone else wrote first");
    for wrong in [
        json!({ "Cart": "3" }),
        json!({ "a": "x".repeat(256) }),
        json!({ "a": "", "b": "", "c": "", "d": "", "e": "", "f": "", "g": "", "h": "", "i": "" }),
    ] {
        let (status, body) = put_fields(&origin, &opened, Some("\"1\""), wrong).await?;
        assert_eq!(status, 422, "{body}");
    }
    let (_, renewed) = refresh(&origin, &opened).await?;
    let (_, shown) = origin.manage(Method::GET, &path_of(&opened, "/fields"), json!({})).await?;
    assert_eq!((&shown["fields"], &shown["revision"]), (&cart, &json!(1)), "a refresh keeps them");
    assert!(is_active(&origin, &opened).await?, "tokens are not concerned");
    let (status, body) = put_fields(&origin, &opened, Some("\"1\""), json!({})).await?;
    assert_eq!((status, &body["etag"]), (200, &json!("\"2\"")));
    assert_eq!(post(&origin, &path_of(&opened, "/revoke"), json!({})).await?.0, 200);
    assert_eq!(put_fields(&origin, &opened, Some("\"2\""), json!({})).await?.0, 409);
    assert!(!is_active(&origin, &renewed).await?);
    origin.stop().await;
    Ok(())
}

/// TMO-01..TMO-03, TMO-09: tiers have their figures, and metadata is kept within its limits.
#[tokio::test]
async fn tiers_and_devices_are_shown() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    for (tier, idle, absolute) in
        [("browse", 2_592_000, 2_592_000), ("standard", 3_600, 86_400), ("privileged", 900, 43_200)]
    {
        let device = json!({ "name": "Zoë’s phone", "user_agent": "Mozilla/5.0\r\nX: y" });
        let opened = open(&origin, "finn", json!({ "tier": tier, "device": device })).await?;
        let shown = show(&origin, &opened).await?;
        let at = shown["opened_at"].as_u64().unwrap_or_default();
        assert_eq!((text(&shown, "tier"), shown["idle_expires_at"].as_u64()), (tier, Some(at + idle)));
        assert_eq!(shown["expires_at"].as_u64(), Some(at + absolute));
        assert_eq!(shown["device"]["user_agent"], "Mozilla/5.0??X: y", "LOG-04");
        assert_eq!(shown["last_seen_at"].as_u64(), Some(at / 60 * 60));
    }
    let body =
        |more: Value| json!({ "subject": "finn", "client_id": "web", "tier": more["tier"], "device": more["device"] });
    let wrong_tier = post(&origin, "/v1/sessions", body(json!({ "tier": "root" }))).await?;
    assert_eq!(wrong_tier.0, 400, "{}", wrong_tier.1);
    let wrong_name = post(&origin, "/v1/sessions", body(json!({ "device": { "name": "a\nb" } }))).await?;
    assert_eq!(wrong_name.0, 422, "{}", wrong_name.1);
    origin.stop().await;
    Ok(())
}

/// TMO-02, TMO-06: a stricter policy holds for sessions that exist; the end that it brought stays when it is loosened.
#[tokio::test]
async fn a_stricter_policy_forces_a_new_authentication() -> Tested {
    let directory = tempfile::tempdir()?;
    let start = async |absolute_s: u64| {
        let start = async || {
            let choose = |config: &mut origin::config::Config| {
                config.sessions.standard_idle_s = absolute_s.min(3_600);
                config.sessions.standard_absolute_s = absolute_s;
            };
            TestOrigin::start_with(directory.path(), choose).await.ok()
        };
        eventually("the lock of the file", start).await
    };
    let origin = start(86_400).await?;
    let probe = open(&origin, "gail", json!({})).await?;
    let earlier = claims(&probe)?["auth_time"].as_u64().unwrap_or_default() - 7_200;
    let old = open(&origin, "gail", json!({ "auth_time": earlier })).await?;
    assert!(is_active(&origin, &old).await?);
    origin.stop().await;

    let origin = start(7_200).await?;
    assert_eq!(text(&show(&origin, &old).await?, "reason"), "policy");
    let (status, refused) = refresh(&origin, &old).await?;
    assert_eq!((status, text(&refused, "error")), (400, "invalid_grant"));
    assert_eq!(refresh(&origin, &probe).await?.0, 200, "one that the policy allows goes on");
    let metrics = origin.request(Method::GET, "/metrics").send().await?.text().await?;
    let counted = "portcullis_reauthentications_forced_total{tier=\"standard\",limit=\"absolute\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    origin.stop().await;

    let origin = start(86_400).await?;
    assert_eq!(refresh(&origin, &old).await?.0, 400);
    let shown = show(&origin, &old).await?;
    assert_eq!((text(&shown, "reason"), text(&shown, "ended_by")), ("policy", "policy"));
    origin.stop().await;
    Ok(())
}

/// SES-05, REF-04: whatever is replayed against an ended session, it stays ended, with its first reason.
#[tokio::test]
async fn nothing_revives_an_ended_session() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let opened = open(&origin, "hugo", json!({})).await?;
    let (_, second) = refresh(&origin, &opened).await?;
    assert!(is_active(&origin, &opened).await?, "a refresh kills no token in flight");
    let end = json!({ "reason": "credential_changed", "initiator": "user" });
    assert_eq!(post(&origin, &path_of(&opened, "/revoke"), end).await?.0, 200);

    assert_eq!(post(&origin, &path_of(&opened, "/revoke"), json!({ "reason": "signed_out" })).await?.0, 200);
    assert_eq!(post(&origin, &path_of(&opened, "/step-up"), json!({ "amr": ["pwd"] })).await?.0, 409);
    assert_eq!(origin.manage(Method::PUT, &path_of(&opened, "/scope"), json!({ "scope": "read" })).await?.0, 409);
    assert_eq!(origin.manage(Method::GET, &path_of(&opened, "/fields"), json!({})).await?.0, 409);
    for command in ["disable", "enable"] {
        assert_eq!(post(&origin, &format!("/v1/subjects/hugo/{command}"), json!({})).await?.0, 200);
    }
    for tokens in [&opened, &second] {
        assert_eq!(refresh(&origin, tokens).await?.0, 400);
        assert!(!is_active(&origin, tokens).await?);
    }
    let shown = show(&origin, &opened).await?;
    assert_eq!((text(&shown, "reason"), text(&shown, "ended_by")), ("credential_changed", "user"));
    assert_eq!(post(&origin, &path_of(&opened, "/revoke"), json!({ "reason": "whim" })).await?.0, 422);
    assert!(is_active(&origin, &open(&origin, "hugo", json!({})).await?).await?, "the user signs in anew");
    origin.stop().await;
    Ok(())
}

/// REF-04, REF-05: the same old token is a retry from the client that rotated, and reuse from another one.
#[tokio::test]
async fn a_retry_is_told_from_a_thief() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let opened = open(&origin, "jana", json!({})).await?;
    let present = async |agent: &str| -> anyhow::Result<(u16, Value)> {
        let form =
            [("grant_type", "refresh_token"), ("refresh_token", text(&opened, "refresh_token")), ("client_id", "web")];
        let response =
            origin.request(Method::POST, "/oauth2/token").header("user-agent", agent).form(&form).send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    };
    let (_, first) = present("Firefox").await?;
    let (status, again) = present("Firefox").await?;
    assert_eq!((status, &again["refresh_token"]), (200, &first["refresh_token"]));
    assert_eq!(present("curl").await?.0, 400);
    assert_eq!(text(&show(&origin, &opened).await?, "reason"), "token_reuse");
    assert!(!is_active(&origin, &first).await?);
    let metrics = origin.request(Method::GET, "/metrics").send().await?.text().await?;
    assert!(metrics.contains("portcullis_refresh_reuses_total{class=\"other_client\"} 1"), "REF-12: {metrics}");
    origin.stop().await;
    Ok(())
}

/// I1: an eviction and the end of everyone reach the replicas that gates decide from.
#[tokio::test]
async fn replicas_hear_of_evictions_and_of_everyone() -> Tested {
    let directory = tempfile::tempdir()?;
    let hub = TestHub::start(feed_key(directory.path()).await?).await?;
    let start = async || {
        let choose = |config: &mut origin::config::Config| {
            config.hubs = vec![hub.config()];
            config.sessions.concurrent_max = 1;
        };
        TestOrigin::start_with(directory.path(), choose).await.ok()
    };
    let origin = eventually("the lock of the file", start).await?;
    let (first, second) = (open(&origin, "kim", json!({})).await?, open(&origin, "kim", json!({})).await?);
    eventually("the token keys", async || hub.with(|replica| (!replica.keys().is_empty()).then_some(()))).await?;
    let expected = Expected { issuer: origin.issuer(), audience: "portcullis" };
    let token = |tokens: &Value| {
        hub.with(|replica| AccessToken::verify(text(tokens, "access_token"), replica.keys(), &Verifier, expected))
    };
    let (first, second) = (token(&first)?, token(&second)?);
    let revoked_by = |token: &AccessToken| hub.with(|replica| token.revoked_by(replica.floors()));
    let scope = eventually("the floor of the evicted one", async || revoked_by(&first)).await?;
    assert_eq!((scope, revoked_by(&second)), (ScopeKind::Session, None));
    assert_eq!(post(&origin, "/v1/everyone/revoke", json!({})).await?.0, 200);
    assert_eq!(eventually("the floor of everyone", async || revoked_by(&second)).await?, ScopeKind::Everyone);
    origin.stop().await;
    Ok(())
}
