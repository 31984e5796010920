//! `portcullis sessions`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::api::Arguments;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The open sessions of a subject.
    List { subject: String },
    /// One session.
    Show { session: String },
    /// End a session; may be repeated.
    Revoke { session: String },
}

pub(super) fn run(arguments: &Arguments<Command>) -> anyhow::Result<()> {
    let api = &arguments.api;
    match &arguments.command {
        Command::List { subject } => {
            let answer = api.get(&["v1", "subjects", subject, "sessions"])?;
            api.list(&answer, "sessions", &["session_id", "client_id", "tenant", "state", "opened_at", "expires_at"])
        }
        Command::Show { session } => api.show(&api.get(&["v1", "sessions", session])?),
        Command::Revoke { session } => api.act(Method::POST, &["v1", "sessions", session, "revoke"], &json!({})),
    }
}
