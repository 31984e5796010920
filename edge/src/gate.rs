//! The gate: judges a request from the replica of this isolate, in one call from the entry module.
//!
//! The entry module (`edge/entry.mjs`) does the I/O that a verdict asks for; everything that decides is here and in `shared`.
//!
//! Wire format of the input: method, URL, `Authorization`, `Cookie`, `Origin`, `Sec-Fetch-Site` and the access token of a
//! renewal, a line each, empty where there is none. None of them can hold a line break.
//!
//! Invariant: without a configured gate nothing is admitted; a new instance of the module begins so, with a replica that
//! knows nothing (I1, I5).

use core::{cell::RefCell, time::Duration};
use std::collections::BTreeMap;

use serde_json::json;
use shared::{
    assertion::{Asserted, Forwarded, Parties},
    cookie,
    decision::{Asked, Credential, Decision, Denied, Inquiry, Source, View, allowed_until, decide},
    feed::frames,
    keys::KeySet,
    path::Target,
    policy::{Policy, Route, Routed, Upstream},
    pool::{Outcome, Repeat, Tried},
    replica::{Accepted, Freshness, Replica},
    request::{self, Facts, Presented},
    time::Timestamp,
    token::Expected,
};
use wasm_bindgen::prelude::{JsError, wasm_bindgen};

use crate::{
    buffers::{self, exchange, tell_changes, tell_until},
    own::{Own, session_route, who_am_i},
    pools::Pools,
    refusal::Refusal,
    settings::{Settings, Trust},
    tokens::{Known, NO_IDENTITY, Tokens},
    verify::Runtime,
};

thread_local! {
    static GATE: RefCell<Option<Gate>> = const { RefCell::new(None) };
}

struct Gate {
    settings: Settings,
    /// The policy of the build.
    built: Policy,
    /// The one that counts: of the feed, if that brought one, with the addresses that the settings say.
    policy: Policy,
    /// Of the paths of the session itself.
    session_route: Route,
    replica: Replica,
    tokens: Tokens,
    pools: Pools,
    /// How often each verdict was given, by its name.
    verdicts: BTreeMap<&'static str, u64>,
    frames_refused: u64,
}

/// What the entry module has done so far so that a request can be judged.
#[derive(Clone, Copy)]
struct Effort {
    /// The hub was not asked lately on behalf of another request either.
    is_idle: bool,
    inquiry: Inquiry,
}

impl Effort {
    /// Reads the number of the entry module: 1 for an idle gate, and 1 (in vain) or 2 (answered) times 2 for the hub and
    /// times 8 for the origin.
    fn read(number: u8) -> Self {
        let asked = |bits: u8| match bits & 3 {
            0 => Asked::No,
            1 => Asked::InVain,
            _ => Asked::Answered,
        };
        Self { is_idle: number & 1 != 0, inquiry: Inquiry { hub: asked(number >> 1), origin: asked(number >> 3) } }
    }

    /// Whether the gate has what is needed without anybody being asked.
    fn is_none(self) -> bool {
        !self.is_idle && self.inquiry == Inquiry::default()
    }
}

/// What the entry module does next; its numbers are those of `entry.mjs`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// There is no configured gate in this instance.
    Unready = 0,
    /// Forwarded; out: the identity, the assertion if there is a key for the upstream, and the cookies that are left.
    Allow = 1,
    /// Forwarded without identity; out: as above, with the identity empty.
    Anonymous = 2,
    /// Answered; out: status, name, `WWW-Authenticate`, `Allow`, detail, and where a browser may sign in instead.
    Refuse = 3,
    /// The hub is asked, then the gate again.
    AskHub = 4,
    /// The origin is asked, then the gate again.
    AskOrigin = 5,
    /// The session is renewed, then the gate is asked again; out: the refresh token, and where to sign in if it is over.
    Renew = 6,
    /// The path is the gate's own.
    Reserved = 7,
    /// The request does not fit.
    TooLarge = 8,
    /// A path of the session itself, in a session; out: the access token, then what is known of the session as JSON.
    Session = 9,
    /// The session is to end; out: access and refresh token, a line each, as far as they are there.
    SignOut = 10,
    /// The metadata of the resource are asked for; out: these, as JSON.
    Metadata = 11,
}

/// Prepares the gate of this isolate, with an empty replica that is not ready until frames came.
///
/// # Errors
///
/// A binding is missing or wrong, or the policy is not one.
#[wasm_bindgen]
pub fn configure(bindings: &str, policy: &[u8]) -> Result<(), JsError> {
    let built = Policy::decode(policy)?;
    let settings = Settings::read(bindings, &built)?;
    let policy = settings.with_upstreams(&built);
    let gate = Gate {
        pools: Pools::of(&policy),
        built,
        policy,
        settings,
        session_route: session_route(),
        replica: Replica::new(),
        tokens: Tokens::new(),
        verdicts: BTreeMap::new(),
        frames_refused: 0,
    };
    GATE.with_borrow_mut(|slot| *slot = Some(gate));
    Ok(())
}

/// The routes in their order, as a JSON list of `{"id", "upstream", "address", "staleness_ms_max"}`; the address of a pool is
/// null.
#[wasm_bindgen]
pub fn routes() -> String {
    GATE.with_borrow(|gate| {
        let Some(policy) = gate.as_ref().map(|gate| &gate.policy) else { return "[]".to_owned() };
        let routes = policy.routes().iter().map(|route| {
            let address = policy.upstream(&route.upstream).and_then(Upstream::address);
            let bound = route.staleness_ms_max;
            json!({ "id": route.id, "upstream": route.upstream, "address": address, "staleness_ms_max": bound })
        });
        serde_json::Value::from_iter(routes).to_string()
    })
}

/// Judges the request of `length` bytes in the input, at `now_ms` of `Date.now()`; `asked` says who was asked on its
/// behalf, see [`Effort::read`]. Gives verdict (8 bits), route (8) and the length of the output (16).
#[wasm_bindgen]
pub fn check(length: u32, asked: u8, now_ms: f64) -> u32 {
    let now = timestamp(now_ms);
    let effort = Effort::read(asked);
    let judged = GATE.with_borrow_mut(|gate| {
        let Some(gate) = gate.as_mut() else { return Some(((Verdict::Unready, 0), 0)) };
        exchange(length, |input, said| gate.judge(input, effort, now, said))
    });
    let ((verdict, route), length) = judged.unwrap_or(((Verdict::TooLarge, 0), 0));
    verdict as u32 | u32::from(route) << 8 | u32::from(length) << 16
}

/// The access token of the request of `length` bytes in the input, as [`check`] reads it; empty if it has none.
#[wasm_bindgen]
pub fn presented(length: u32) -> String {
    let mut token = String::new();
    GATE.with_borrow(|gate| {
        if let Some(gate) = gate {
            exchange(length, |input, _| token.push_str(gate.presented(input).unwrap_or_default()));
        }
    });
    token
}

/// How a connection stands that was opened with this token by a request of this method and URL, at `now_ms`, after the hub was
/// asked; `asked` as of [`check`]. 200: it may go on; another status: what a request would get now; 1: the origin must be
/// asked; 0: there is no configured gate in this instance.
#[wasm_bindgen]
pub fn standing(token: &str, method: &str, url: &str, asked: u8, now_ms: f64) -> u16 {
    const UNREADY: u16 = 0;
    const ASK_ORIGIN: u16 = 1;
    GATE.with_borrow_mut(|gate| {
        let Some(gate) = gate.as_mut() else { return UNREADY };
        let facts = Facts { method, url, ..Facts::default() };
        match gate.decide(token, &facts, Effort::read(asked).inquiry, timestamp(now_ms)) {
            Some(Decision::Allow(_) | Decision::Anonymous) => 200,
            Some(Decision::Ask(_)) => ASK_ORIGIN,
            Some(Decision::Deny(denied)) => denied.status(),
            // The policy has become another one.
            None => 403,
        }
    })
}

/// The node of an upstream's pool for a request of a session (empty for none), as `NODE ADDRESS MS`: its answer must begin
/// within so many milliseconds. Empty if there is no other node than those of `tried`, a bit each. `may_repeat` says whether
/// the request could be sent again.
#[wasm_bindgen]
pub fn choose_node(upstream: &str, session: &str, may_repeat: bool, tried: u32, now_ms: f64) -> String {
    let repeat = if may_repeat { Repeat::May } else { Repeat::MayNot };
    GATE.with_borrow_mut(|gate| {
        let chosen = gate.as_mut()?.pools.choose(upstream, session, repeat, Tried(tried), timestamp(now_ms));
        chosen.map(|(node, address, answer_max)| format!("{node} {address} {}", answer_max.as_millis()))
    })
    .unwrap_or_default()
}

/// Notes whether that node answered.
#[wasm_bindgen]
pub fn settle_node(upstream: &str, session: &str, node: u32, answered: bool, now_ms: f64) {
    let outcome = if answered { Outcome::Answered } else { Outcome::Failed };
    GATE.with_borrow_mut(|gate| {
        if let (Some(gate), Ok(node)) = (gate, usize::try_from(node)) {
            gate.pools.settle(upstream, session, node, outcome, timestamp(now_ms));
        }
    });
}

/// The `Set-Cookie` lines of new tokens, a line each; of empty ones, those that take the cookies away.
///
/// # Errors
///
/// There is no configured gate in this instance.
#[wasm_bindgen]
pub fn session_cookies(access: &str, refresh: &str) -> Result<String, JsError> {
    GATE.with_borrow(|gate| {
        let names = gate.as_ref().ok_or_else(|| JsError::new("the gate is not configured"))?.settings.cookies();
        let line = |name: &str, token: &str| match token {
            "" => cookie::clear_cookie(name),
            token => cookie::session_cookie(name, token),
        };
        Ok([line(names.access, access), line(names.refresh, refresh)].join("\n"))
    })
}

/// Whether a browser can be sent to another page instead of an answer; an empty mode is none.
#[wasm_bindgen]
pub fn is_navigation(method: &str, sec_fetch_mode: &str) -> bool {
    request::is_navigation(method, Some(sec_fetch_mode))
}

/// The answer to a browser whose session is over, as [`check`] puts a refusal; `sign_in` is what [`check`] said with the
/// refresh token.
#[wasm_bindgen]
pub fn session_over(sign_in: &str) -> String {
    let mut said = String::new();
    GATE.with_borrow(|gate| {
        let resource = gate.as_ref().and_then(|gate| gate.settings.resource.as_ref());
        Refusal::session_over(&session_route(), sign_in).naming(resource).write(&mut said);
    });
    said
}

/// Takes in frames, up to the first that is not good. Gives 1 if all were, and 2 more if [`routes`] are others now.
#[wasm_bindgen]
pub fn accept(frames: &[u8], now_ms: f64) -> u8 {
    GATE.with_borrow_mut(|gate| {
        let Some(gate) = gate.as_mut() else { return 0 };
        let before = gate.replica.position().policy;
        let good = gate.accept(frames, timestamp(now_ms));
        let is_other = gate.replica.position().policy != before;
        if is_other {
            gate.reroute();
        }
        u8::from(good) | u8::from(is_other) << 1
    })
}

/// Where the replica stands, as the query of a pull; empty for a gate that has no feed.
#[wasm_bindgen]
pub fn position() -> String {
    GATE.with_borrow(|gate| match gate {
        Some(gate) if matches!(gate.settings.trust, Trust::Feed { .. }) => gate.replica.position().to_string(),
        _ => String::new(),
    })
}

/// How far the store's clock runs ahead of this machine's beyond what was declared, in milliseconds; 0 if it does not. A gate
/// whose clock is that wrong cannot say how fresh its floors are.
#[wasm_bindgen]
pub fn clock_ahead_ms(now_ms: f64) -> f64 {
    let ahead =
        GATE.with_borrow(|gate| gate.as_ref().map_or(Duration::ZERO, |gate| gate.clock_ahead(timestamp(now_ms))));
    ahead.as_secs_f64() * 1e3
}

/// What the gate knows, as JSON without secrets.
#[wasm_bindgen]
pub fn status(now_ms: f64) -> String {
    GATE.with_borrow(|gate| match gate {
        Some(gate) => gate.status(timestamp(now_ms)).to_string(),
        None => json!({ "ready": false }).to_string(),
    })
}

impl Gate {
    /// Lets the policy count that the feed brought, or that of the build again.
    fn reroute(&mut self) {
        self.policy = self.settings.with_upstreams(self.replica.policy().unwrap_or(&self.built));
        self.pools.follow(&self.policy);
    }

    fn judge(&mut self, input: &str, effort: Effort, now: Timestamp, said: &mut String) -> (Verdict, u8) {
        let (facts, renewed) = read(input);
        tell_until(Timestamp::EPOCH);
        let judged = self.judge_facts(&facts, renewed, effort, now, said);
        // What the token proves may be news.
        tell_changes(self.replica.changes());
        judged.unwrap_or_else(|refused| {
            self.count(refused.name);
            refused.naming(self.settings.resource.as_ref()).write(said);
            (Verdict::Refuse, 0)
        })
    }

    fn judge_facts(
        &mut self,
        facts: &Facts<'_>,
        renewed: Option<&str>,
        effort: Effort,
        now: Timestamp,
        said: &mut String,
    ) -> Result<(Verdict, u8), Refusal> {
        let place = request::place(facts)?;
        let own = Own::of(place.path.as_str());
        let Self { policy, settings, replica, tokens, session_route, .. } = self;
        let metadata = settings.resource.as_ref();
        let metadata = metadata.and_then(|it| it.metadata_at(place.target.authority, place.path.as_str()));
        if let Some(metadata) = metadata {
            if facts.method != "GET" {
                return Err(Refusal::method(vec!["GET"]));
            }
            said.push_str(metadata);
            return Ok((Verdict::Metadata, 0));
        }
        let (index, route) = match own {
            Some(Own::Reserved) => return Ok((Verdict::Reserved, 0)),
            Some(Own::Session | Own::SignOut) => (0, &*session_route),
            None => match place.route(facts.method, policy) {
                Routed::Route(index, route) => (u8::try_from(index).unwrap_or(u8::MAX), route),
                Routed::NotFound => return Err(Refusal::not_found()),
                Routed::MethodNotAllowed(methods) => return Err(Refusal::method(methods.into_iter().collect())),
            },
        };
        let mut presented = request::credentials(facts, &place, route, settings.cookies())?;
        if own == Some(Own::SignOut) {
            // Whatever became of the tokens: a user may always leave.
            if facts.method != "POST" {
                return Err(Refusal::method(vec!["POST"]));
            }
            said.push_str(&[presented.access.unwrap_or_default(), presented.refresh.unwrap_or_default()].join("\n"));
            return Ok((Verdict::SignOut, 0));
        }
        if let Some(renewed) = renewed {
            presented = Presented { access: Some(renewed), refresh: None };
        }
        let skew_max = settings.skew_max;
        let (freshness, inquiry) = knowledge(&settings.trust, replica, effort.inquiry, now);
        let known = presented.access.map(|text| {
            let expected = Expected { issuer: &settings.issuer, audience: &settings.audience };
            tokens.verified(text, token_keys(&settings.trust, replica), expected)
        });
        let credential = match &known {
            None => Credential::None,
            Some(Err(error)) => Credential::Bad(*error),
            Some(Ok(known)) => Credential::Token(&known.token),
        };
        let view = View { floors: replica.floors(), freshness, inquiry, skew_max };
        let verdict = match decide(route, credential, view, now) {
            Decision::Anonymous => Verdict::Anonymous,
            // An idle gate hears nothing: whoever comes first must not pass on what was true some seconds ago.
            Decision::Allow(_) if effort.is_idle && inquiry == Inquiry::default() => Verdict::AskHub,
            Decision::Allow(_) if own == Some(Own::Session) => Verdict::Session,
            Decision::Allow(_) => Verdict::Allow,
            Decision::Ask(Source::Hub) => Verdict::AskHub,
            Decision::Ask(Source::Origin) => Verdict::AskOrigin,
            // Another token may do; one that is good and not enough is not helped by a newer one.
            Decision::Deny(Denied::NoCredential | Denied::InvalidToken(_) | Denied::Revoked(_))
                if presented.refresh.is_some() =>
            {
                Verdict::Renew
            }
            Decision::Deny(denied) => return Err(Refusal::denied(denied, route)),
        };
        let assertion = |of: Option<&Known>| {
            let Some(key) = settings.assertion_key(&route.upstream) else { return Some(String::new()) };
            let nobody = Asserted::default();
            let asserted = of.map_or(&nobody, Known::asserted);
            let Target { authority, path, query, .. } = place.target;
            let parties = Parties { issuer: &settings.issuer, upstream: &route.upstream };
            key.assert(parties, Forwarded { method: facts.method, path, query }, authority, asserted, now)
        };
        match (verdict, known) {
            (Verdict::Allow, Some(Ok(known))) => {
                let Some(assertion) = assertion(Some(known)) else { return Ok((Verdict::TooLarge, index)) };
                said.extend([&known.identity, &assertion, "\n"]);
                known.teach(replica);
                // One that comes once takes no place. An assertion is for one request, and who was asked was asked for one.
                let may_be_kept = known.is_again && assertion.is_empty() && effort.is_none();
                if may_be_kept && facts.method == "GET" && renewed.is_none() {
                    let view = View { floors: replica.floors(), freshness, inquiry, skew_max };
                    tell_until(allowed_until(route, &known.token, view, now).unwrap_or(Timestamp::EPOCH));
                }
            }
            (Verdict::Anonymous, _) => {
                let Some(assertion) = assertion(None) else { return Ok((Verdict::TooLarge, index)) };
                said.extend([NO_IDENTITY, &assertion, "\n"]);
            }
            (Verdict::Session, Some(Ok(known))) => {
                said.push_str(presented.access.unwrap_or_default());
                said.push('\n');
                said.push_str(&who_am_i(known.token.claims()).to_string());
                known.teach(replica);
            }
            (Verdict::Renew, _) => {
                said.push_str(presented.refresh.unwrap_or_default());
                said.push('\n');
                said.push_str(route.sign_in.as_deref().unwrap_or_default());
            }
            _ => {}
        }
        if let (Verdict::Allow | Verdict::Anonymous, Some(cookies)) = (verdict, facts.cookie) {
            let names = settings.cookies();
            said.push_str(&cookie::without(cookies, &[names.access, names.refresh]));
        }
        self.count(match verdict {
            Verdict::Allow | Verdict::Session => "allowed",
            Verdict::Anonymous => "anonymous",
            Verdict::Renew => "renewal",
            _ => "asked",
        });
        Ok((verdict, index))
    }

    /// The access token of a request on a route of the policy.
    fn presented<'a>(&self, input: &'a str) -> Option<&'a str> {
        let (facts, renewed) = read(input);
        if renewed.is_some() {
            return renewed;
        }
        let place = request::place(&facts).ok()?;
        let Routed::Route(_, route) = place.route(facts.method, &self.policy) else { return None };
        request::credentials(&facts, &place, route, self.settings.cookies()).ok()?.access
    }

    /// Decides on a token after its request; none if no route takes the request.
    fn decide(&mut self, token: &str, facts: &Facts<'_>, inquiry: Inquiry, now: Timestamp) -> Option<Decision<'_>> {
        let Self { policy, settings, replica, tokens, .. } = self;
        let Routed::Route(_, route) = request::place(facts).ok()?.route(facts.method, policy) else { return None };
        let (freshness, inquiry) = knowledge(&settings.trust, replica, inquiry, now);
        let view = View { floors: replica.floors(), freshness, inquiry, skew_max: settings.skew_max };
        let expected = Expected { issuer: &settings.issuer, audience: &settings.audience };
        let credential = match tokens.verified(token, token_keys(&settings.trust, replica), expected) {
            Ok(known) => Credential::Token(&known.token),
            Err(error) => Credential::Bad(error),
        };
        Some(decide(route, credential, view, now))
    }

    fn accept(&mut self, bytes: &[u8], now: Timestamp) -> bool {
        let Trust::Feed { feed_keys, .. } = &self.settings.trust else { return false };
        let keys_before = self.replica.position().keys;
        let mut good = true;
        for frame in frames(bytes, &Runtime, feed_keys) {
            match frame {
                // Signed and malformed: of a newer version, perhaps. What was good before counts.
                Ok(frame) => match self.replica.accept(&frame) {
                    Accepted::MalformedKeys | Accepted::MalformedPolicy => {
                        self.frames_refused = self.frames_refused.saturating_add(1);
                    }
                    _ => {}
                },
                Err(_) => {
                    self.frames_refused = self.frames_refused.saturating_add(1);
                    good = false;
                }
            }
        }
        self.replica.check_clock(now, self.settings.skew_max);
        self.replica.prune(now);
        tell_changes(self.replica.changes());
        if self.replica.position().keys != keys_before {
            // A key that left the set must not live on in the verified tokens.
            self.tokens.clear();
        }
        good
    }

    fn clock_ahead(&self, now: Timestamp) -> Duration {
        match self.replica.freshness() {
            Freshness::AsOf(as_of) | Freshness::ClockBehind(as_of) => {
                as_of.saturating_since(now.saturating_add(self.settings.skew_max))
            }
            Freshness::Unsynced => Duration::ZERO,
        }
    }

    fn status(&self, now: Timestamp) -> serde_json::Value {
        let position = self.replica.position();
        let (ready, as_of) = match (&self.settings.trust, self.replica.freshness()) {
            (Trust::Static(_), _) => (true, None),
            (Trust::Feed { .. }, Freshness::AsOf(as_of)) => (true, Some(as_of.as_millis())),
            (Trust::Feed { .. }, Freshness::ClockBehind(as_of)) => (false, Some(as_of.as_millis())),
            (Trust::Feed { .. }, Freshness::Unsynced) => (false, None),
        };
        json!({
            "ready": ready,
            "epoch": position.epoch.to_string(),
            "cursor": position.cursor.to_string(),
            "keys": position.keys.to_string(),
            "policy": position.policy.to_string(),
            "as_of_ms": as_of,
            "clock_ahead_ms": self.clock_ahead(now).as_millis(),
            "clock_behind": matches!(self.replica.freshness(), Freshness::ClockBehind(_)),
            "floors": self.replica.floors().len(),
            "floors_digest": format!("{:016x}", self.replica.floors().digest(now)),
            "tokens_cached": self.tokens.len(),
            "memory_bytes": buffers::memory_bytes(),
            "frames_refused": self.frames_refused,
            "verdicts": self.verdicts,
            "pools": self.pools.status(),
        })
    }

    fn count(&mut self, name: &'static str) {
        let count = self.verdicts.entry(name).or_default();
        *count = count.saturating_add(1);
    }
}

/// The facts of a request in the input, and the access token of its renewal.
fn read(input: &str) -> (Facts<'_>, Option<&str>) {
    let mut lines = input.split('\n');
    let mut line = || lines.next().filter(|line| !line.is_empty());
    let mut facts = Facts {
        method: line().unwrap_or_default(),
        url: line().unwrap_or_default(),
        authorization: line(),
        cookie: line(),
        origin: line(),
        sec_fetch_site: line(),
        is_handshake: false,
    };
    // The entry says where a safe request comes from only if it may open a WebSocket; of others it makes no difference.
    facts.is_handshake = facts.origin.is_some() || facts.sec_fetch_site.is_some();
    (facts, line())
}

/// How fresh a gate is, and who said so.
fn knowledge(trust: &Trust, replica: &Replica, inquiry: Inquiry, now: Timestamp) -> (Freshness, Inquiry) {
    match trust {
        Trust::Feed { .. } => (replica.freshness(), inquiry),
        // Nobody revokes anything, so all of it is known.
        Trust::Static(_) => (Freshness::AsOf(now), Inquiry::COMPLETE),
    }
}

fn token_keys<'a>(trust: &'a Trust, replica: &'a Replica) -> &'a KeySet {
    match trust {
        Trust::Static(keys) | Trust::Feed { pinned: Some(keys), .. } => keys,
        Trust::Feed { pinned: None, .. } => replica.keys(),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Date.now() is a whole number of ms")]
fn timestamp(now_ms: f64) -> Timestamp {
    Timestamp::from_millis(now_ms as u64)
}
