//! `portcullis apikeys`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::api::{Arguments, Pages};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The keys, oldest first.
    List(Pages),
    /// One key.
    Show {
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
    /// Make a key, and print it this once.
    Create {
        /// For people.
        name: String,
        /// What it may do; may be given several times.
        #[arg(long = "scope", required = true)]
        scopes: Vec<String>,
        /// The one tenant that it may touch.
        #[arg(long)]
        tenant: Option<String>,
        /// After how many seconds it ends.
        #[arg(long)]
        expires_in_s: Option<u64>,
    },
    /// Give a key a new secret, and print it this once.
    Rotate {
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// For how many seconds the secret of before still counts.
        #[arg(long, default_value_t = 86_400)]
        overlap_s: u64,
    },
    /// End a key.
    Remove {
        #[arg(allow_hyphen_values = true)]
        id: String,
    },
}

pub(super) fn run(arguments: &Arguments<Command>) -> anyhow::Result<()> {
    let api = &arguments.api;
    match &arguments.command {
        Command::List(pages) => {
            let columns = ["id", "name", "scopes", "tenant", "expires_at", "last_used_at"];
            api.list(&["v1", "apikeys"], &[], ("api_keys", &columns), pages)
        }
        Command::Show { id } => api.show(&api.get(&["v1", "apikeys", id])?),
        Command::Create { name, scopes, tenant, expires_in_s } => {
            let body = json!({ "name": name, "scopes": scopes, "tenant": tenant, "expires_in_s": expires_in_s });
            api.act(Method::POST, &["v1", "apikeys"], &body)
        }
        Command::Rotate { id, overlap_s } => {
            api.act(Method::POST, &["v1", "apikeys", id, "rotate"], &json!({ "overlap_s": overlap_s }))
        }
        Command::Remove { id } => api.act(Method::DELETE, &["v1", "apikeys", id], &json!({})),
    }
}
