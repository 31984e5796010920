//! `portcullis tenants`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::api::Arguments;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// End every session of a tenant; may be repeated.
    Revoke { tenant: String },
}

pub(super) fn run(arguments: &Arguments<Command>) -> anyhow::Result<()> {
    let Command::Revoke { tenant } = &arguments.command;
    arguments.api.act(Method::POST, &["v1", "tenants", tenant, "revoke"], &json!({}))
}
