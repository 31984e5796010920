//! `portcullis subjects`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::api::Arguments;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Status, roles and version.
    Show { subject: String },
    /// End every session; may be repeated.
    Revoke { subject: String },
    /// End every session, and let none be opened.
    Disable { subject: String },
    /// Let sessions be opened again.
    Enable { subject: String },
    /// Replace the roles; without any, there are none.
    Roles { subject: String, roles: Vec<String> },
}

pub(super) fn run(arguments: &Arguments<Command>) -> anyhow::Result<()> {
    let api = &arguments.api;
    let command = |subject: &str, name: &str| api.act(Method::POST, &["v1", "subjects", subject, name], &json!({}));
    match &arguments.command {
        Command::Show { subject } => api.show(&api.get(&["v1", "subjects", subject])?),
        Command::Revoke { subject } => command(subject, "revoke"),
        Command::Disable { subject } => command(subject, "disable"),
        Command::Enable { subject } => command(subject, "enable"),
        Command::Roles { subject, roles } => {
            api.act(Method::PUT, &["v1", "subjects", subject, "roles"], &json!({ "roles": roles }))
        }
    }
}
