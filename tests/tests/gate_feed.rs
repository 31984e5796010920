//! What the gate believes: frames of the pinned feed key, pinned token keys, and nothing else.

use std::slice;

use ::origin::keys::Verifier;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use portcullis_tests::{
    GatePlace, GateSettings, POLICY, Setting, TestGate, TestOrigin, TestUpstream, eventually, signed,
};
use reqwest::Method;
use serde_json::json;
use shared::{
    feed::UnverifiedFrame,
    keys::PublicKey,
    replica::Replica,
    revocation::{FloorKey, Version},
};

type Tested = anyhow::Result<()>;

async fn push(gate: &TestGate, path: &str, frames: Vec<u8>) -> anyhow::Result<u16> {
    Ok(gate.request(Method::POST, path).body(frames).send().await?.status().as_u16())
}

/// SES-14: frames that the pinned key did not sign change nothing, and the last good set is kept.
#[tokio::test]
async fn forged_frames_are_refused_and_the_last_good_set_is_kept() -> Tested {
    let setting = Setting::start().await?;
    let opened = setting.open("alice").await?;
    assert_eq!(setting.gate.status_of("/app/x", &opened.access).await?, 200);
    let frames = "/.portcullis/hubs/local/frames";
    let good = setting.origin.request(Method::GET, "/feed/snapshot").send().await?.bytes().await?.to_vec();
    assert_eq!(push(&setting.gate, frames, good.clone()).await?, 200);
    let mut forged = good.clone();
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    for (what, frames_of) in [
        ("forged", forged),
        ("cut off", good.get(..good.len() - 1).unwrap_or_default().to_vec()),
        ("no frame", b"PCF1 and more that is none, long enough to hold a header of forty-eight bytes".to_vec()),
    ] {
        assert_eq!(push(&setting.gate, frames, frames_of).await?, 400, "{what}");
    }
    assert_eq!(push(&setting.gate, "/.portcullis/hubs/made-up/frames", good).await?, 404);
    let announced =
        format!("POST {frames} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", 33 << 20);
    assert!(setting.gate.raw(&announced).await?.starts_with("HTTP/1.1 413"));
    assert_eq!(setting.gate.request(Method::GET, frames).send().await?.status(), 400, "without a position");
    assert_eq!(setting.gate.request(Method::DELETE, frames).send().await?.status(), 405);
    assert_eq!(setting.gate.status_of("/app/x", &opened.access).await?, 200);
    setting.origin.stop().await;
    Ok(())
}

/// What the hub was told outlives its process, without an origin; the gate that starts cold knows it before it admits anyone.
#[tokio::test]
async fn a_restarted_hub_still_knows_what_was_ended() -> Tested {
    let mut setting = Setting::start().await?;
    let (ended, kept) = (setting.open("bob").await?, setting.open("bob").await?);
    let path = format!("/v1/sessions/{}/revoke", ended.session);
    let (_, changed) = setting.origin.manage(Method::POST, &path, json!({})).await?;
    let cursor = changed["cursor"].as_u64().unwrap_or_default();
    let heard = async || {
        let status = setting.gate.status().await.ok()?;
        (status["cursor"].as_str()?.parse::<u64>().ok()? >= cursor).then_some(())
    };
    eventually("the floor", heard).await?;
    setting.origin.stop().await;
    setting.gate.restart().await?;
    setting.gate.ready().await?;
    assert_eq!(setting.gate.status_of("/relaxed/x", &ended.access).await?, 401);
    assert_eq!(setting.gate.status_of("/relaxed/x", &kept.access).await?, 200);
    Ok(())
}

/// I5, RFC 9110 §13.1.2: a hub gives the answer again that it gave, or says that it is the same, until something changes; then,
/// and after a restart, it answers anew.
#[tokio::test]
async fn a_hub_repeats_an_answer_as_long_as_it_is_the_answer() -> Tested {
    let mut setting = Setting::start().await?;
    let feed_key = PublicKey::ed25519_from_text(setting.origin.feed_key())?;
    let opened = setting.open("erin").await?;
    let status = setting.gate.status().await?;
    let number = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    let (epoch, cursor, keys) = (number("epoch"), number("cursor"), number("keys"));
    let question = format!("/.portcullis/hubs/local/frames?epoch={epoch}&after={cursor}&keys={keys}&policy=0");
    let ask = async |gate: &TestGate, held: Option<&str>| {
        let request = gate.request(Method::GET, &question);
        let request = if let Some(held) = held { request.header("if-none-match", held) } else { request };
        let answer = request.send().await?;
        let etag = answer.headers().get("etag").and_then(|etag| etag.to_str().ok()).map(ToOwned::to_owned);
        let status = answer.status().as_u16();
        anyhow::Ok((status, etag, answer.bytes().await?.to_vec()))
    };
    // A heartbeat may come in between; then it is asked again.
    let repeated = async || {
        let (status, etag, body) = ask(&setting.gate, None).await.ok()?;
        let again = ask(&setting.gate, None).await.ok()?;
        let held = ask(&setting.gate, etag.as_deref()).await.ok()?;
        let is_same = status == 200 && !body.is_empty() && again == (200, etag.clone(), body.clone());
        (is_same && held == (304, etag.clone(), Vec::new())).then_some((etag?, body))
    };
    let (etag, before) = eventually("an answer that is repeated", repeated).await?;
    assert_eq!(floors_in(&before, &feed_key)?, 0);
    let path = format!("/v1/sessions/{}/revoke", opened.session);
    assert_eq!(setting.origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    let told = async || {
        let (status, _, body) = ask(&setting.gate, Some(&etag)).await.ok()?;
        (status == 200 && floors_in(&body, &feed_key).ok()? == 1).then_some(())
    };
    eventually("the floor in the answer", told).await?;
    for held in [None, Some(etag.as_str()), None] {
        let (status, other, body) = ask(&setting.gate, held).await?;
        assert_eq!((status, floors_in(&body, &feed_key)?), (200, 1), "from then on, always");
        assert_ne!(other.as_ref(), Some(&etag));
    }
    setting.origin.stop().await;
    let (_, etag, _) = ask(&setting.gate, None).await?;
    setting.gate.restart().await?;
    let (status, other, body) = ask(&setting.gate, etag.as_deref()).await?;
    assert_eq!((status, floors_in(&body, &feed_key)?), (200, 1), "another instance knows nothing of what was given");
    assert_ne!(other, etag);
    Ok(())
}

/// How many floors these frames bring.
fn floors_in(mut frames: &[u8], feed_key: &PublicKey) -> anyhow::Result<usize> {
    let mut floors = 0;
    while !frames.is_empty() {
        let (frame, rest) = UnverifiedFrame::split(frames)?;
        floors += frame.verify(&Verifier, slice::from_ref(feed_key))?.floors().count();
        frames = rest;
    }
    Ok(floors)
}

/// I1, I5: a gate that knows nothing does not say "nothing is revoked".
#[tokio::test]
async fn a_gate_that_never_heard_of_an_origin_is_not_ready() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    let body = json!({ "subject": "carol", "client_id": "web" });
    let (_, opened) = origin.manage(Method::POST, "/v1/sessions", body).await?;
    let settings = GateSettings::of(&origin);
    let (jwks, token) = (jwks(&origin).await?, opened["access_token"].as_str().unwrap_or_default().to_owned());
    origin.stop().await;
    let upstream = TestUpstream::start().await?;
    let settings = settings.with_upstream("app", upstream.address()).with("TRUSTED_JWKS", &jwks);
    let gate = GatePlace::new(POLICY)?.start(settings).await?;
    assert_eq!(gate.status().await?["ready"], false);
    for (path, status) in [("/app/x", 503), ("/asking/x", 503), ("/relaxed/x", 200), ("/public/x", 200)] {
        assert_eq!(gate.status_of(path, &token).await?, status, "{path}");
    }
    Ok(())
}

async fn jwks(origin: &TestOrigin) -> anyhow::Result<String> {
    Ok(origin.request(Method::GET, "/.well-known/jwks.json").send().await?.text().await?)
}

fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// A gate without an origin: keys are pinned, Ed25519 and ES256, each for its own algorithm (TOK-02, TOK-03).
#[tokio::test]
async fn pinned_keys_let_a_gate_run_alone() -> Tested {
    let ed = Ed25519KeyPair::generate()?;
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let point: Vec<u8> = p256.public_key().as_ref().to_vec();
    let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..65).unwrap_or_default());
    let keys = json!({ "keys": [
        { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": encode(ed.public_key().as_ref()) },
        { "kty": "EC", "crv": "P-256", "kid": "es", "alg": "ES256", "x": encode(x), "y": encode(y) },
    ] });
    let upstream = TestUpstream::start().await?;
    let settings = GateSettings::default()
        .with("ISSUER", "https://issuer.example")
        .with("AUDIENCE", "app")
        .with("TRUSTED_JWKS", &keys.to_string())
        .with_upstream("app", upstream.address());
    let gate = GatePlace::new(POLICY)?.start(settings).await?;

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let claims = json!({
        "iss": "https://issuer.example", "sub": "dora", "aud": ["app", "other"], "exp": now + 300, "iat": now, "jti": "j",
        "client_id": "web", "sid": "AAAAAAAAAAAAAAAAAAAAAA", "ver": [1, 1, 0, 1], "auth_time": now,
    });
    let by_ed = |message: &[u8]| ed.sign(message).as_ref().to_vec();
    let random = SystemRandom::new();
    let by_p256 =
        |message: &[u8]| p256.sign(&random, message).map(|signature| signature.as_ref().to_vec()).unwrap_or_default();
    let header = |alg: &str, kid: &str| json!({ "typ": "at+jwt", "alg": alg, "kid": kid });
    for (header, ed_signs, status) in [
        (header("EdDSA", "ed"), true, 200),
        (header("Ed25519", "ed"), true, 200),
        (header("ES256", "es"), false, 200),
        (header("ES256", "ed"), true, 401),
        (header("EdDSA", "es"), false, 401),
        (header("none", "ed"), true, 401),
        (header("EdDSA", "other"), true, 401),
    ] {
        let text = if ed_signs { signed(&header, &claims, by_ed) } else { signed(&header, &claims, by_p256) };
        assert_eq!(gate.status_of("/app/x", &text).await?, status, "{header}");
    }
    let mut expired = claims.clone();
    expired["exp"] = json!(now);
    assert_eq!(gate.status_of("/app/x", &signed(&header("EdDSA", "ed"), &expired, by_ed)).await?, 401, "TOK-13");
    Ok(())
}

/// Bindings that contradict each other close the gate, and the log says which.
#[tokio::test]
async fn a_gate_with_wrong_bindings_says_which() -> Tested {
    let directory = tempfile::tempdir()?;
    let origin = TestOrigin::start(directory.path(), vec![]).await?;
    for (name, value, reason) in [
        ("FEED_KEYS", "", "FEED_KEYS is missing"),
        ("FEED_KEYS", "not-a-key", "FEED_KEYS is wrong"),
        (
            "FEED_KEYS",
            "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "point of small order, under which anyone can sign",
        ),
        ("AUDIENCE", "", "AUDIENCE is missing"),
        ("CLOCK_SKEW_MS_MAX", "-1", "CLOCK_SKEW_MS_MAX must be a number from 0 to 60000; it is \\\"-1\\\""),
    ] {
        let gate = GatePlace::new(POLICY)?.start(GateSettings::of(&origin).with(name, value)).await;
        let said = match gate {
            Ok(gate) => {
                assert_eq!(gate.request(Method::GET, "/public/x").send().await?.status(), 503, "{reason}");
                gate.log()?
            }
            Err(error) => format!("{error:#}"),
        };
        assert!(said.contains(reason), "{reason}: {said}");
    }
    origin.stop().await;
    Ok(())
}

/// I4: where frames are pushed to, an origin that lost its floors finds them again, as it signed them.
#[tokio::test]
async fn the_hub_hands_out_the_floors_that_it_holds() -> Tested {
    let setting = Setting::start().await?;
    let (ended, kept) = (setting.open("erin").await?, setting.open("erin").await?);
    let path = format!("/v1/sessions/{}/revoke", ended.session);
    assert_eq!(setting.origin.manage(Method::POST, &path, json!({})).await?.0, 200);
    setting.gate.comes_to_answer("/app/x", &ended.access, 401).await?;

    let held = "/.portcullis/hubs/local/frames?epoch=0&after=0&keys=0";
    let answer = setting.gate.request(Method::GET, held).send().await?;
    assert_eq!(answer.status(), 200);
    let (bytes, feed_key) = (answer.bytes().await?, PublicKey::ed25519_from_text(setting.origin.feed_key())?);
    let mut replica = Replica::new();
    let mut rest: &[u8] = &bytes;
    while !rest.is_empty() {
        let (frame, after) = UnverifiedFrame::split(rest)?;
        replica.accept(&frame.verify(&Verifier, slice::from_ref(&feed_key))?);
        rest = after;
    }
    let lowest = |session: &str| Ok::<_, anyhow::Error>(replica.floors().lowest(&FloorKey::session(&session.parse()?)));
    assert_eq!(lowest(&ended.session)?, Version::ENDED, "the hub hands out what it holds");
    assert_eq!(lowest(&kept.session)?, Version::NONE);
    setting.origin.stop().await;
    Ok(())
}
