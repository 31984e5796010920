//! `portcullis audit`.

use super::api::{Api, Pages};

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
    #[command(flatten)]
    pages: Pages,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let query = [
        ("actor", &arguments.actor),
        ("action", &arguments.action),
        ("target", &arguments.target),
        ("since", &arguments.since),
    ];
    let columns = ["at_ms", "actor", "action", "target", "status", "reason"];
    arguments.api.list(&["v1", "audit"], &query, ("entries", &columns), &arguments.pages)
}
