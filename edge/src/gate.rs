//! The gate: judges a request from the replica of this isolate, in one call from the entry module.
//!
//! The entry module (`edge/entry.mjs`) does the I/O; everything that decides is here. All routes are `bounded`, by the
//! bound of the configuration, and fail closed.
//!
//! Invariant: without a configured gate with a synced replica nothing is admitted; a new instance of the module begins so.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use serde::Deserialize;
use serde_json::json;
use shared::{
    cookie, csrf,
    feed::UnverifiedFrame,
    id::Role,
    keys::{KeySet, PublicKey},
    path::{CanonicalPath, Target},
    replica::{Freshness, Replica},
    time::Timestamp,
    token::{AccessToken, Expected, TOKEN_BYTES_MAX, TokenError},
};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

use crate::verify::Runtime;

/// Verified tokens that are kept: about 2 KiB each.
const CACHED_TOKENS_MAX: usize = 8_192;

/// How long a floor that a token taught is kept beyond the token.
const LEARN_MARGIN: Duration = Duration::from_secs(60);

thread_local! {
    static GATE: RefCell<Option<Gate>> = const { RefCell::new(None) };
}

#[derive(Deserialize)]
struct Settings {
    issuer: String,
    audience: String,
    feed_keys: String,
    trusted_jwks: Option<String>,
    freshness_ms_max: u64,
    clock_skew_ms_max: u64,
    access_cookie: String,
    refresh_cookie: String,
}

struct Gate {
    settings: Settings,
    feed_keys: Vec<PublicKey>,
    trusted: Option<KeySet>,
    replica: Replica,
    /// Of the key set that the cache was filled under.
    keys_version: u64,
    cache: HashMap<Box<str>, AccessToken>,
}

/// What the entry module hands over about a request.
#[derive(Deserialize)]
struct Asked {
    method: String,
    url: String,
    authorization: Option<String>,
    cookie: Option<String>,
    origin: Option<String>,
    site: Option<String>,
}

enum Verdict {
    Forward(String),
    Answer(u16, &'static str, &'static str),
    Wait,
    Renew(String),
    Reserved,
}

/// Prepares the gate of this isolate, with an empty replica that is not ready until frames came.
///
/// # Errors
///
/// A setting is missing or malformed.
#[wasm_bindgen]
pub fn configure(settings: &str) -> Result<(), JsError> {
    let settings: Settings = serde_json::from_str(settings)?;
    let feed_keys = settings.feed_keys.split_ascii_whitespace().map(PublicKey::ed25519_from_text);
    let feed_keys = feed_keys.collect::<Result<Vec<_>, _>>()?;
    let trusted = settings.trusted_jwks.as_deref().map(KeySet::from_jwks).transpose()?;
    let gate = Gate { settings, feed_keys, trusted, replica: Replica::new(), keys_version: 0, cache: HashMap::new() };
    GATE.with_borrow_mut(|slot| *slot = Some(gate));
    Ok(())
}

/// Judges a request: JSON in; out a line `forward`, `answer status`, `wait`, `renew`, `reserved` or `unready`, and what
/// belongs to it on the lines after.
#[wasm_bindgen]
pub fn check(asked: &str, now_ms: f64) -> String {
    let now = timestamp(now_ms);
    let verdict = GATE.with_borrow_mut(|gate| {
        let gate = gate.as_mut()?;
        let asked: Asked = serde_json::from_str(asked).ok()?;
        Some(gate.judge(&asked, now).unwrap_or_else(|refused| refused))
    });
    match verdict {
        Some(Verdict::Forward(identity)) => format!("forward\n{identity}"),
        Some(Verdict::Answer(status, code, detail)) => format!("answer {status}\n{code}\n{detail}"),
        Some(Verdict::Wait) => "wait".to_owned(),
        Some(Verdict::Renew(token)) => format!("renew\n{token}"),
        Some(Verdict::Reserved) => "reserved".to_owned(),
        None => "unready".to_owned(),
    }
}

/// Takes in frames of the hub, up to the first that is not good; whether all were.
#[wasm_bindgen]
pub fn accept(mut frames: &[u8], now_ms: f64) -> bool {
    GATE.with_borrow_mut(|gate| {
        let Some(gate) = gate.as_mut() else { return false };
        while !frames.is_empty() {
            let Ok((frame, rest)) = UnverifiedFrame::split(frames) else { return false };
            let Ok(frame) = frame.verify(&Runtime, &gate.feed_keys) else { return false };
            gate.replica.accept(&frame);
            frames = rest;
        }
        gate.replica.prune(timestamp(now_ms));
        let keys_version = gate.replica.position().keys;
        if keys_version != gate.keys_version {
            // A key that left the set must not live on in the cache.
            gate.cache.clear();
            gate.keys_version = keys_version;
        }
        true
    })
}

/// Where the replica stands, as the query of a pull; empty for a gate that is not configured.
#[wasm_bindgen]
pub fn position() -> String {
    GATE.with_borrow(|gate| {
        gate.as_ref().map_or_else(String::new, |gate| {
            let position = gate.replica.position();
            format!("epoch={}&after={}&keys={}", position.epoch, position.cursor, position.keys)
        })
    })
}

/// What the gate knows, as JSON without secrets.
#[wasm_bindgen]
pub fn status() -> String {
    GATE.with_borrow(|gate| {
        let Some(gate) = gate else { return json!({ "ready": false }).to_string() };
        let position = gate.replica.position();
        let as_of = match gate.replica.freshness() {
            Freshness::AsOf(as_of) => Some(as_of.as_millis()),
            Freshness::Unsynced => None,
        };
        json!({
            "ready": as_of.is_some(),
            "epoch": position.epoch.to_string(),
            "cursor": position.cursor.to_string(),
            "keys": position.keys.to_string(),
            "as_of": as_of,
            "floors": gate.replica.floors().len(),
            "cached_tokens": gate.cache.len(),
        })
        .to_string()
    })
}

impl Gate {
    fn judge(&mut self, asked: &Asked, now: Timestamp) -> Result<Verdict, Verdict> {
        let bad = |detail| Verdict::Answer(400, "invalid_request", detail);
        let target = Target::split(&asked.url).ok_or(bad("the URL is malformed"))?;
        let path = CanonicalPath::new(target.path).map_err(|_| bad("the path is not in its canonical form"))?;
        if path.as_str().starts_with("/.portcullis/") || path.as_str() == "/.portcullis" {
            return Ok(Verdict::Reserved);
        }
        let cookies = asked.cookie.as_deref().unwrap_or_default();
        let find = |name| cookie::find(cookies, name).map_err(|_| bad("the cookies are ambiguous or malformed"));
        let (in_cookie, refresh) = (find(&self.settings.access_cookie)?, find(&self.settings.refresh_cookie)?);
        let bearer = bearer(asked.authorization.as_deref()).map_err(|()| bad("Authorization is malformed"))?;
        if bearer.is_some() && in_cookie.is_some() {
            return Err(bad("a request may have one credential"));
        }
        let by_cookie = bearer.is_none() && (in_cookie.is_some() || refresh.is_some());
        if by_cookie {
            csrf::check(&asked.method, asked.origin.as_deref(), asked.site.as_deref(), target.origin)
                .map_err(|_| Verdict::Answer(403, "forbidden", "the request does not come from the same origin"))?;
        }
        let refused = || match refresh {
            Some(refresh) if by_cookie => Verdict::Renew(refresh.to_owned()),
            _ => Verdict::Answer(401, "invalid_token", "the token is invalid, expired or revoked"),
        };
        let Some(text) = bearer.or(in_cookie) else {
            return Ok(if by_cookie { refused() } else { Verdict::Answer(401, "", "a token is needed") });
        };
        let skew_max = Duration::from_millis(self.settings.clock_skew_ms_max);
        let bound = Duration::from_millis(self.settings.freshness_ms_max);
        let fresh = self.replica.freshness().is_within(bound, now, skew_max);
        let token = match self.token(text) {
            Ok(token) => token,
            // The key may have come into use after the last frames.
            Err(TokenError::UnknownKey) if !fresh => return Ok(Verdict::Wait),
            Err(_) => return Ok(refused()),
        };
        if token.check_time(now, skew_max).is_err() || token.revoked_by(self.replica.floors()).is_some() {
            return Ok(refused());
        }
        token.teach(&mut self.replica, LEARN_MARGIN);
        if !fresh {
            return Ok(Verdict::Wait);
        }
        Ok(Verdict::Forward(self.identity(&token, cookies)))
    }

    fn token(&mut self, text: &str) -> Result<AccessToken, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        if let Some(token) = self.cache.get(text) {
            return Ok(token.clone());
        }
        let keys = self.trusted.as_ref().unwrap_or_else(|| self.replica.keys());
        let expected = Expected { issuer: &self.settings.issuer, audience: &self.settings.audience };
        let token = AccessToken::verify(text, keys, &Runtime, expected)?;
        if self.cache.len() >= CACHED_TOKENS_MAX {
            self.cache.clear();
        }
        self.cache.insert(text.into(), token.clone());
        Ok(token)
    }

    fn identity(&self, token: &AccessToken, cookies: &str) -> String {
        let claims = token.claims();
        let tenant = claims.tid.as_ref().map_or_else(String::new, ToString::to_string);
        let roles = claims.roles.iter().map(Role::to_string).collect::<Vec<_>>().join(",");
        let [session, subject, tenancy] = claims.ver.map(shared::revocation::Version::get);
        let left = cookie::without(cookies, &[&self.settings.access_cookie, &self.settings.refresh_cookie]);
        format!("{}\n{}\n{tenant}\n{roles}\n{session}.{subject}.{tenancy}\n{left}", claims.sub, claims.sid)
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); other schemes are none of the gate's business.
fn bearer(header: Option<&str>) -> Result<Option<&str>, ()> {
    let Some((scheme, token)) = header.and_then(|header| header.split_once(' ')) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let good = !token.is_empty() && !token.contains([' ', ',']);
    if good { Ok(Some(token)) } else { Err(()) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Date.now() is a whole number of ms")]
fn timestamp(now_ms: f64) -> Timestamp {
    Timestamp::from_millis(now_ms as u64)
}
