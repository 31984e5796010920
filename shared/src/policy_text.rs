//! Route policy as a TOML file, for builds and developer tools.
//!
//! ```toml
//! [upstreams]
//! app = "http://127.0.0.1:8790"
//!
//! [[routes]]
//! id = "app"
//! path = "/app/*"
//! upstream = "app"
//! ```
//!
//! Every error names file, line, field, what was found and what is allowed.

use alloc::{
    borrow::ToOwned as _,
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

use crate::{
    id::{Role, TenantId},
    policy::{
        Access, Affinity, Assurance, OnStale, PathPattern, Policy, PolicyError, Requirements, Route,
        STALENESS_MS_DEFAULT, Upstream,
    },
};

/// Why a text is no policy: `file:line: field: what is wrong`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct PolicyTextError {
    /// The file as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there and what is allowed.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    upstreams: BTreeMap<String, Spanned<UpstreamText>>,
    #[serde(default)]
    defaults: Defaults,
    routes: Vec<Spanned<RouteText>>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "an address, or { addresses = [\"…\"], affinity = \"session\" or \"none\", answer_ms_max = 15000 }"
)]
enum UpstreamText {
    Address(String),
    Pool(PoolText),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolText {
    addresses: Vec<String>,
    #[serde(default)]
    affinity: Affinity,
    answer_ms_max: Option<u64>,
}

impl From<UpstreamText> for Upstream {
    fn from(text: UpstreamText) -> Self {
        match text {
            UpstreamText::Address(address) => Self::at(&address),
            UpstreamText::Pool(PoolText { addresses, affinity, answer_ms_max }) => {
                Self { addresses, affinity, answer_ms_max }
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    assurance: Option<Assurance>,
    staleness_ms_max: Option<u64>,
    on_stale: Option<OnStale>,
    sign_in: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AccessText {
    Anonymous,
    #[default]
    Session,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteText {
    id: String,
    host: Option<String>,
    path: Spanned<String>,
    methods: Option<Spanned<BTreeSet<String>>>,
    #[serde(default)]
    access: AccessText,
    #[serde(default, deserialize_with = "not_empty")]
    roles_any: Vec<Role>,
    #[serde(default, deserialize_with = "not_empty")]
    scope_all: Vec<Spanned<String>>,
    #[serde(default, deserialize_with = "not_empty")]
    acr_any: Vec<Spanned<String>>,
    max_age_s: Option<u64>,
    tenant: Option<TenantId>,
    assurance: Option<Assurance>,
    staleness_ms_max: Option<u64>,
    on_stale: Option<OnStale>,
    sign_in: Option<String>,
    upstream: String,
}

/// Reads a policy; `file` is its name in errors.
///
/// # Errors
///
/// The first thing that is wrong, with its line.
pub fn parse(file: &str, text: &str) -> Result<Policy, PolicyTextError> {
    let fail = |at: usize, problem: String| {
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count().saturating_add(1);
        PolicyTextError { file: file.to_owned(), line, problem }
    };
    let read: File = toml::from_str(text)
        .map_err(|error| fail(error.span().map_or(0, |span| span.start), error.message().to_string()))?;
    let mut starts = Vec::new();
    let mut routes = Vec::new();
    for (index, route) in read.routes.into_iter().enumerate() {
        starts.push(route.span().start);
        let route = check(index, route.into_inner(), &read.defaults).map_err(|(at, problem)| fail(at, problem))?;
        routes.push(route);
    }
    let starts_of_upstreams: BTreeMap<_, _> =
        read.upstreams.iter().map(|(name, address)| (name.clone(), address.span().start)).collect();
    let upstreams = read.upstreams.into_iter().map(|(name, address)| (name, address.into_inner().into())).collect();
    Policy::new(routes, upstreams).map_err(|error| {
        if let PolicyError::Address { upstream, .. }
        | PolicyError::Addresses { upstream }
        | PolicyError::Answer { upstream, .. } = &error
        {
            return fail(starts_of_upstreams.get(upstream).copied().unwrap_or(0), error.to_string());
        }
        let route = match &error {
            PolicyError::Count
            | PolicyError::Address { .. }
            | PolicyError::Addresses { .. }
            | PolicyError::Answer { .. }
            | PolicyError::NoUpstream { .. } => None,
            PolicyError::DuplicateId { route, .. }
            | PolicyError::UnknownUpstream { route, .. }
            | PolicyError::Staleness { route, .. }
            | PolicyError::SignIn { route, .. }
            | PolicyError::Host { route, .. }
            | PolicyError::Shadowed { route, .. } => Some(*route),
        };
        fail(route.and_then(|route| starts.get(route).copied()).unwrap_or(0), error.to_string())
    })
}

fn check(index: usize, route: RouteText, defaults: &Defaults) -> Result<Route, (usize, String)> {
    let path = PathPattern::parse(route.path.get_ref()).ok_or_else(|| {
        let found = route.path.get_ref();
        let problem = format!("routes[{index}].path: {found:?} is not a canonical path such as \"/a/b\" or \"/a/*\"");
        (route.path.span().start, problem)
    })?;
    let methods = match route.methods {
        Some(methods) => Some(check_methods(index, methods)?),
        None => None,
    };
    let requirements = Requirements {
        roles_any: route.roles_any,
        scope_all: check_tokens(index, "scope_all", route.scope_all)?,
        acr_any: check_tokens(index, "acr_any", route.acr_any)?,
        max_age_s: route.max_age_s,
        tenant: route.tenant,
    };
    let access = match route.access {
        AccessText::Session => Access::Session(requirements),
        AccessText::Anonymous if requirements == Requirements::default() => Access::Anonymous,
        AccessText::Anonymous => {
            let problem =
                format!("routes[{index}].access: an anonymous route has no roles, scope, acr, max_age or tenant");
            return Err((route.path.span().start, problem));
        }
    };
    // What is said for all routes is meant for those that need a session.
    let default = defaults.sign_in.clone().filter(|_| access != Access::Anonymous);
    Ok(Route {
        sign_in: route.sign_in.or(default),
        id: route.id,
        host: route.host,
        path,
        methods,
        access,
        assurance: route.assurance.or(defaults.assurance).unwrap_or_default(),
        staleness_ms_max: route.staleness_ms_max.or(defaults.staleness_ms_max).unwrap_or(STALENESS_MS_DEFAULT),
        on_stale: route.on_stale.or(defaults.on_stale).unwrap_or_default(),
        upstream: route.upstream,
    })
}

/// Whoever takes the last entry out of a list does not mean to let everybody in.
fn not_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(list: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(list)?;
    if list.is_empty() { Err(D::Error::custom("an empty list demands nothing; leave it out")) } else { Ok(list) }
}

/// RFC 6749 §3.3 scope tokens; the same form keeps `acr` fit for a challenge.
fn check_tokens(index: usize, field: &str, tokens: Vec<Spanned<String>>) -> Result<Vec<String>, (usize, String)> {
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
    };
    match tokens.iter().find(|token| !is_token(token.get_ref())) {
        Some(wrong) => {
            let found = wrong.get_ref();
            let problem =
                format!("routes[{index}].{field}: {found:?} is not visible ASCII without space, quote and backslash");
            Err((wrong.span().start, problem))
        }
        None => Ok(tokens.into_iter().map(Spanned::into_inner).collect()),
    }
}

fn check_methods(index: usize, methods: Spanned<BTreeSet<String>>) -> Result<BTreeSet<String>, (usize, String)> {
    let at = methods.span().start;
    let methods = methods.into_inner();
    let wrong =
        methods.iter().find(|method| method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()));
    match wrong {
        Some(wrong) => {
            Err((at, format!("routes[{index}].methods: {wrong:?} is not a method in capital letters such as \"GET\"")))
        }
        None if methods.is_empty() => {
            Err((at, format!("routes[{index}].methods: an empty list allows nothing; leave it out")))
        }
        None => Ok(methods),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[upstreams]\napp = \"http://127.0.0.1:8790\"\n\n[[routes]]\nid = \"a\"\nupstream = \"app\"\n";

    fn refused(text: &str) -> String {
        parse("policy.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_reads_with_its_defaults() {
        let text = format!(
            "{HEAD}path = \"/a/*\"\nroles_any = [\"admin\"]\n[defaults]\nassurance = \"regional\"\non_stale = \"allow\"\n\
             sign_in = \"/in\"\n\
             [[routes]]\nid = \"b\"\nupstream = \"app\"\npath = \"/b\"\naccess = \"anonymous\"\n"
        );
        let policy = parse("policy.toml", &text).unwrap();
        let route = &policy.routes()[0];
        assert_eq!(
            (route.assurance, route.staleness_ms_max, route.on_stale),
            (Assurance::Regional, 5_000, OnStale::Allow)
        );
        assert_eq!((route.sign_in.as_deref(), &policy.routes()[1].sign_in), (Some("/in"), &None));
        let requirements = Requirements { roles_any: ["admin".parse().unwrap()].into(), ..Requirements::default() };
        assert_eq!(route.access, Access::Session(requirements));
        assert_eq!(policy.upstream("app"), Some(&Upstream::at("http://127.0.0.1:8790")));
    }

    #[test]
    fn an_upstream_may_be_a_pool() {
        let with = |upstream: &str| format!("[upstreams]\napp = {upstream}\n{}path = \"/a\"\n", &HEAD[43..]);
        let pool = parse("p", &with("{ addresses = [\"http://a:1\", \"http://b:1\"], affinity = \"none\" }")).unwrap();
        let addresses = ["http://a:1", "http://b:1"].map(str::to_owned).to_vec();
        let wanted = Upstream { addresses, affinity: Affinity::None, answer_ms_max: None };
        assert_eq!(pool.upstream("app"), Some(&wanted));
        let alone = parse("p", &with("{ addresses = [\"http://a:1\"], answer_ms_max = 100 }")).unwrap();
        let alone = alone.upstream("app").unwrap();
        assert_eq!((alone.address(), alone.answer_max().as_millis()), (None, 100));
        for (wrong, problem) in [
            (
                "{ addresses = [] }",
                "p:2: upstreams.app: an upstream must have 1 to 32 addresses, all of them different",
            ),
            ("{ addresses = [\"a\"], colour = 1 }", "p:2: an address, or { addresses ="),
            (
                "{ addresses = [\"http://a:1\"], answer_ms_max = 99 }",
                "p:2: upstreams.app.answer_ms_max: 99 is not from 100 to 300000, or the upstream is \"self\"",
            ),
            ("{ addresses = [\"self\"], answer_ms_max = 100 }", "upstreams.app.answer_ms_max: 100 is not"),
        ] {
            let said = parse("p", &with(wrong)).unwrap_err().to_string();
            assert!(said.contains(problem), "{said}");
        }
    }

    #[test]
    fn errors_name_line_field_and_what_is_allowed() {
        let cases = [
            (
                "path = \"/a*\"",
                "policy.toml:7: routes[0].path: \"/a*\" is not a canonical path such as \"/a/b\" or \"/a/*\"",
            ),
            (
                "path = \"/a\"\nmethods = [\"get\"]",
                "policy.toml:8: routes[0].methods: \"get\" is not a method in capital letters such as \"GET\"",
            ),
            (
                "path = \"/a\"\nstaleness_ms_max = 5",
                "policy.toml:4: routes[0].staleness_ms_max: 5 is not from 100 to 300000",
            ),
            (
                "path = \"/a\"\nscope_all = [\"read\", \"two words\"]",
                "policy.toml:8: routes[0].scope_all: \"two words\" is not visible ASCII without space, quote and backslash",
            ),
            (
                "path = \"/a\"\nsign_in = \"login.example\"",
                "policy.toml:4: routes[0].sign_in: \"login.example\" must be a path such as \"/sign-in\", or an https URL \
                 (http for this machine only), without fragment and parameter return_to, of at most 1024 bytes, on a route \
                 with access = \"session\"",
            ),
            ("path = \"/a\"\nroles_any = []", "policy.toml:8: an empty list demands nothing; leave it out"),
            ("path = \"/a\"\nacr_any = []", "policy.toml:8: an empty list demands nothing; leave it out"),
            (
                "path = \"/a\"\non_stale = \"maybe\"",
                "policy.toml:8: unknown variant `maybe`, expected one of `deny`, `allow`, `ask`",
            ),
            (
                "path = \"/a\"\nassurance = \"sure\"",
                "policy.toml:8: unknown variant `sure`, expected one of `bounded`, `regional`, `authoritative`",
            ),
            (
                "path = \"/a\"\naccess = \"anonymous\"\nmax_age_s = 5",
                "policy.toml:7: routes[0].access: an anonymous route has no roles, scope, acr, max_age or tenant",
            ),
        ];
        for (rest, text) in cases {
            assert_eq!(refused(&format!("{HEAD}{rest}\n")), text);
        }
        let elsewhere = HEAD.replace("http://127.0.0.1:8790", "http://127.0.0.1:8790/path");
        assert_eq!(
            refused(&format!("{elsewhere}path = \"/a\"\n")),
            "policy.toml:2: upstreams.app: \"http://127.0.0.1:8790/path\" is neither \"self\" nor scheme, host and port \
             such as \"http://127.0.0.1:8790\""
        );
        assert!(
            refused(&format!("{HEAD}path = \"/a\"\ncolour = \"red\"\n"))
                .starts_with("policy.toml:8: unknown field `colour`")
        );
    }
}
