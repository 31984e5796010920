//! `portcullis sessions`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::api::{Arguments, Pages};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The open sessions of a subject.
    List {
        subject: String,
        #[command(flatten)]
        pages: Pages,
    },
    /// One session.
    Show {
        #[arg(allow_hyphen_values = true)]
        session: String,
    },
    /// End a session; may be repeated.
    Revoke {
        #[arg(allow_hyphen_values = true)]
        session: String,
    },
}

pub(super) fn run(arguments: &Arguments<Command>) -> anyhow::Result<()> {
    let api = &arguments.api;
    match &arguments.command {
        Command::List { subject, pages } => {
            let columns = ["session_id", "client_id", "tenant", "state", "opened_at", "expires_at"];
            api.list(&["v1", "subjects", subject, "sessions"], &[], ("sessions", &columns), pages)
        }
        Command::Show { session } => api.show(&api.get(&["v1", "sessions", session])?),
        Command::Revoke { session } => api.act(Method::POST, &["v1", "sessions", session, "revoke"], &json!({})),
    }
}
