//! `portcullis audit`.

use reqwest::Method;

use super::api::Api;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    api: Api,
    /// The id of an API key, or `bootstrap`.
    #[arg(long)]
    actor: Option<String>,
    /// An operation, such as `revoke_subject`.
    #[arg(long)]
    action: Option<String>,
    /// To what, such as `subject:alice`.
    #[arg(long)]
    target: Option<String>,
    /// Not before this time, Unix seconds.
    #[arg(long)]
    since: Option<String>,
    /// Where the page before ended.
    #[arg(long)]
    cursor: Option<String>,
    /// Entries of the page, 1 to 200.
    #[arg(long)]
    limit: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let named = [
        ("actor", &arguments.actor),
        ("action", &arguments.action),
        ("target", &arguments.target),
        ("since", &arguments.since),
        ("cursor", &arguments.cursor),
        ("limit", &arguments.limit),
    ];
    let query: Vec<(&str, &str)> =
        named.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect();
    let answer = arguments.api.call(Method::GET, &["v1", "audit"], &query, None)?;
    arguments.api.list(&answer, "entries", &["at_ms", "actor", "action", "target", "status", "reason"])
}
