//! Rate limits (draft-ietf-httpapi-ratelimit-headers): of every client of the management API, of every address where no
//! key is asked for, and of every address that presents credentials which do not count.
//!
//! Clients that hold a key are told what is left; an address is told its limits only, since others may share it.
//!
//! Invariant (I8): at most [`CELLS_MAX`] clients or addresses are remembered per limit; the least used are forgotten first.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::Response,
};
use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
};
use metrics::counter;
use moka::sync::Cache;

use super::{App, error::Problem};
use crate::{config::Limits, shell, telemetry::metrics::RATE_LIMITED};

/// Clients or addresses per limit, some 200 bytes each.
const CELLS_MAX: u64 = 100_000;

/// Every limit is of one minute.
const WINDOW: Duration = Duration::from_secs(60);

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

const CODE: &str = "temporarily_unavailable";
const DESCRIPTION: &str = "a rate limit is exceeded; see Retry-After";

/// The limits of one process.
pub(super) struct Rates {
    clients: Limit<String>,
    addresses: Limit<IpAddr>,
    failures: Limit<IpAddr>,
    address_header: Option<HeaderName>,
}

/// A limit per client or address.
struct Limit<K> {
    name: &'static str,
    per_minute: NonZeroU32,
    cells: Cache<K, Arc<Cell>>,
}

struct Cell {
    limiter: DefaultDirectRateLimiter<StateInformationMiddleware>,
    /// Until when everything is refused, Unix milliseconds.
    closed_until_ms: AtomicU64,
}

/// What is left to a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    per_minute: NonZeroU32,
    remaining: u32,
}

impl Rates {
    pub(super) fn new(limits: &Limits, address_header: &str) -> Self {
        Self {
            clients: Limit::new("client", limits.client_requests_per_minute),
            addresses: Limit::new("address", limits.address_requests_per_minute),
            failures: Limit::new("failures", limits.address_failures_per_minute),
            address_header: address_header.parse().ok(),
        }
    }

    /// Takes one request from what a client may send.
    pub(super) fn of_client(&self, client: &str) -> Result<Left, Problem> {
        let remaining = self.clients.take(client.to_owned()).map_err(|wait| self.clients.refuse(wait))?;
        Ok(Left { per_minute: self.clients.per_minute, remaining })
    }

    /// Refuses an address that presented too many credentials which do not count (RL-05).
    pub(super) fn check_failures(&self, address: IpAddr) -> Result<(), Problem> {
        let Some(cell) = self.failures.cells.get(&address) else { return Ok(()) };
        let closed_until = cell.closed_until_ms.load(Ordering::Relaxed);
        match closed_until.checked_sub(shell::now().as_millis()) {
            None | Some(0) => Ok(()),
            Some(wait_ms) => Err(self.failures.refuse(Duration::from_millis(wait_ms))),
        }
    }

    /// Notes a credential that does not count.
    pub(super) fn note_failure(&self, address: IpAddr) {
        if let Err(wait) = self.failures.take(address) {
            let until = shell::now().saturating_add(wait).as_millis();
            self.failures.cell(address).closed_until_ms.store(until, Ordering::Relaxed);
        }
    }

    /// Where a request comes from: an IPv4 address, or an IPv6 network of 64 bits.
    pub(super) fn address_of(&self, request: &Request) -> IpAddr {
        let connected = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let named = self.address_header.as_ref().and_then(|name| request.headers().get_all(name).iter().next_back());
        // A proxy adds the address that it saw at the end; what stands before it anyone may have written.
        let named = named.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        let address = named.or_else(|| connected.map(|ConnectInfo(address)| address.ip()));
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            Some(address) => address,
            None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Limit<K> {
    fn new(name: &'static str, per_minute: u64) -> Self {
        let per_minute = u32::try_from(per_minute).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        // A cell that was idle for the window is full again, as a new one is.
        let cells = Cache::builder().max_capacity(CELLS_MAX).time_to_idle(WINDOW).build();
        Self { name, per_minute, cells }
    }

    fn cell(&self, key: K) -> Arc<Cell> {
        self.cells.get_with(key, || {
            let limiter = RateLimiter::direct(Quota::per_minute(self.per_minute));
            Arc::new(Cell { limiter: limiter.with_middleware(), closed_until_ms: AtomicU64::new(0) })
        })
    }

    /// What remains, or how long to wait.
    fn take(&self, key: K) -> Result<u32, Duration> {
        match self.cell(key).limiter.check() {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(until) => Err(until.wait_time_from(DefaultClock::default().now())),
        }
    }

    fn refuse(&self, wait: Duration) -> Problem {
        counter!(RATE_LIMITED, "policy" => self.name).increment(1);
        let retry_after_s = wait.as_secs().saturating_add(1);
        Problem::quota_exceeded(self.name, retry_after_s).with(POLICY, self.policy())
    }

    fn policy(&self) -> HeaderValue {
        policy(self.name, self.per_minute)
    }
}

impl Left {
    /// Tells a client what is left to it.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        let spent = u64::from(self.per_minute.get().saturating_sub(self.remaining));
        let full_after_s = (spent * WINDOW.as_secs()).div_ceil(u64::from(self.per_minute.get()));
        headers.insert(POLICY, policy("client", self.per_minute));
        if let Ok(state) = HeaderValue::from_str(&format!("\"client\";r={};t={full_after_s}", self.remaining)) {
            headers.insert(STATE, state);
        }
    }
}

fn policy(name: &str, per_minute: NonZeroU32) -> HeaderValue {
    let text = format!("\"{name}\";q={per_minute};w={}", WINDOW.as_secs());
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Limits a request that needs no key by its address.
pub(super) async fn limit_address(State(app): State<App>, request: Request, next: Next) -> Response {
    let rates = &app.0.rates;
    let address = rates.address_of(&request);
    let path = request.uri().path().to_owned();
    let taken = rates.addresses.take(address).map_err(|wait| rates.addresses.refuse(wait));
    if let Err(problem) = taken.and_then(|_| rates.check_failures(address)) {
        return problem.at(&path, CODE, DESCRIPTION);
    }
    let mut response = next.run(request).await;
    let is_token = path.starts_with("/oauth2/") && response.status() == StatusCode::BAD_REQUEST;
    if is_token || response.status() == StatusCode::UNAUTHORIZED {
        rates.note_failure(address);
    }
    response.headers_mut().insert(POLICY, rates.addresses.policy());
    response
}

/// A refusal by a rate limit in the shape of its path.
pub(super) fn refused(problem: Problem, path: &str) -> Response {
    problem.at(path, CODE, DESCRIPTION)
}
