//! `policy explain`: which route decides on a request, and why none before it does.

use std::{
    fmt::{self, Write as _},
    fs,
    path::PathBuf,
};

use anyhow::Context as _;
use shared::{
    path::{RESERVED, is_at_or_below},
    policy::{Access, Assurance, Fit, OnStale, Policy, Requirements, Route, Routed},
    policy_text,
    request::{self, Facts},
};

use crate::command;

/// The host of a path that is explained without one; no route has it (RFC 6761 §6.4).
const ANY_HOST: &str = "any.invalid";

/// What is explained.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The method, in capital letters.
    method: String,
    /// The whole URL, as the client sends it; or its path, for a host that no route names.
    url: String,
    /// The route policy, instead of edge/policy.toml.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Explains.
///
/// # Errors
///
/// The policy cannot be read, or is wrong.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let file = arguments.policy.clone().unwrap_or_else(|| command::root().join("edge/policy.toml"));
    let name = file.display().to_string();
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
    let policy = policy_text::parse(&name, &text)?;
    print!("{}", explain(&policy, &arguments.method, &arguments.url)?);
    Ok(())
}

fn explain(policy: &Policy, method: &str, url: &str) -> Result<String, fmt::Error> {
    let mut told = String::new();
    let whole = if url.starts_with('/') { format!("https://{ANY_HOST}{url}") } else { url.to_owned() };
    let facts = Facts { method, url: &whole, ..Facts::default() };
    let place = match request::place(&facts) {
        Ok(place) => place,
        Err(error) => return Ok(format!("{} at the gate, whatever the routes: {error}\n", error.status())),
    };
    let (host, path) = (place.target.host(), &place.path);
    writeln!(told, "host {host}, path {} (judged and forwarded as it stands)", path.as_str())?;
    if is_at_or_below(path.as_str(), RESERVED) {
        writeln!(told, "the gate's own: no route is asked about paths below {RESERVED}")?;
        return Ok(told);
    }
    let routed = place.route(method, policy);
    for (index, route) in policy.routes().iter().enumerate() {
        let why = match route.fit(method, Some(host), path) {
            Fit::Host => format!("no: it is for the host {}", route.host.as_deref().unwrap_or_default()),
            Fit::Path => format!("no: it is for {}", route.path),
            Fit::Method => format!("no: it is for {}", methods(route)),
            Fit::Fits if matches!(routed, Routed::Route(first, _) if first == index) => "decides".to_owned(),
            Fit::Fits => "would fit, but an earlier one decides".to_owned(),
        };
        writeln!(told, "routes[{index}] {}: {why}", route.id)?;
        if why == "decides" {
            describe(&mut told, policy, route)?;
        }
    }
    match routed {
        Routed::Route(..) => {}
        Routed::NotFound => writeln!(told, "404: no route has this host and path")?,
        Routed::MethodNotAllowed(allowed) => {
            let allowed: Vec<&str> = allowed.into_iter().collect();
            writeln!(told, "405: routes have this host and path, for {} only", allowed.join(", "))?;
        }
    }
    Ok(told)
}

fn describe(told: &mut String, policy: &Policy, route: &Route) -> fmt::Result {
    match &route.access {
        Access::Anonymous => writeln!(told, "  access     everyone, without a session")?,
        Access::Session(requirements) => {
            writeln!(told, "  access     a live session{}", demands(requirements))?;
            let bound = route.staleness_ms_max;
            let sure = match route.assurance {
                Assurance::Bounded => "bounded: what the gate knows itself".to_owned(),
                Assurance::Regional => "regional: the hub is asked each time".to_owned(),
                Assurance::Authoritative => "authoritative: the origin is asked each time".to_owned(),
            };
            writeln!(told, "  assurance  {sure}; floors at most {bound} ms old")?;
            let otherwise = match route.on_stale {
                OnStale::Deny => "deny: 503 with Retry-After",
                OnStale::Allow => "allow: it passes on what is known",
                OnStale::Ask => "ask: the origin, and 503 with Retry-After if that does not answer",
            };
            writeln!(told, "  on_stale   {otherwise}")?;
        }
    }
    let addresses = policy.upstream(&route.upstream).map(|upstream| upstream.addresses.join(", ")).unwrap_or_default();
    writeln!(told, "  upstream   {} = {addresses}", route.upstream)
}

fn demands(Requirements { roles_any, scope_all, acr_any, max_age_s, tenant }: &Requirements) -> String {
    let roles: Vec<String> = roles_any.iter().map(ToString::to_string).collect();
    let demands = [
        tenant.as_ref().map(|tenant| format!("of the tenant {tenant} (else 403)")),
        (!roles.is_empty()).then(|| format!("with a role of {} (else 403)", roles.join(", "))),
        (!scope_all.is_empty()).then(|| format!("with the scope {} (else 403)", scope_all.join(" "))),
        (!acr_any.is_empty()).then(|| format!("with an acr of {} (else 401, RFC 9470)", acr_any.join(", "))),
        max_age_s.map(|age| format!("authenticated less than {age} s ago (else 401, RFC 9470)")),
    ];
    demands.into_iter().flatten().fold(String::new(), |all, one| format!("{all}, {one}"))
}

fn methods(route: &Route) -> String {
    route.methods.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
[upstreams]
app = "http://127.0.0.1:8790"

[[routes]]
id = "read"
path = "/a/*"
methods = ["GET"]
access = "anonymous"
upstream = "app"

[[routes]]
id = "pay"
host = "pay.example"
path = "/a/*"
roles_any = ["admin"]
max_age_s = 60
assurance = "authoritative"
upstream = "app"

[[routes]]
id = "rest"
host = "pay.example"
path = "/*"
upstream = "app"
"#;

    fn told(method: &str, url: &str) -> String {
        explain(&policy_text::parse("policy.toml", POLICY).unwrap(), method, url).unwrap()
    }

    #[test]
    fn the_route_that_decides_is_told_with_its_demands() {
        assert_eq!(
            told("POST", "https://pay.example/a/b?c=d"),
            "host pay.example, path /a/b (judged and forwarded as it stands)\n\
             routes[0] read: no: it is for GET\n\
             routes[1] pay: decides\n  \
             access     a live session, with a role of admin (else 403), authenticated less than 60 s ago (else 401, RFC 9470)\n  \
             assurance  authoritative: the origin is asked each time; floors at most 5000 ms old\n  \
             on_stale   deny: 503 with Retry-After\n  \
             upstream   app = http://127.0.0.1:8790\n\
             routes[2] rest: would fit, but an earlier one decides\n"
        );
    }

    #[test]
    fn what_no_route_decides_is_told_with_its_status() {
        assert!(told("GET", "https://other.example/b").ends_with("404: no route has this host and path\n"));
        let refused = told("POST", "https://other.example/a/b");
        assert!(refused.ends_with("405: routes have this host and path, for GET only\n"), "{refused}");
        let tricky = told("GET", "https://pay.example/a/%2e%2e/b");
        assert!(tricky.starts_with("400 at the gate, whatever the routes: the path is not in its canonical form"));
        assert!(told("GET", "https://pay.example/.portcullis/status").contains("no route is asked"));
        assert!(told("GET", "https://pay.example./b").starts_with("400 at the gate, whatever the routes: the URL"));
    }

    #[test]
    fn a_path_alone_is_of_no_host_that_a_route_names() {
        assert!(told("GET", "/a/b").contains("routes[0] read: decides\n"));
        assert!(told("GET", "/b").ends_with("404: no route has this host and path\n"));
    }
}
