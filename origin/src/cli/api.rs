//! What the commands over the management API share: where the origin is, the key, how an answer is printed.
//!
//! Invariant (I10): the key comes from the environment or a file, never from an argument, which others could see.

use std::path::PathBuf;

use anyhow::Context as _;
use client::{Client, Error, List};
use comfy_table::{Table, presets};
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use super::{print, runtime};

/// Where the key may stand in the environment, the first that is set.
const KEY_VARIABLES: [&str; 2] = ["PORTCULLIS_API_KEY", "PORTCULLIS_MANAGEMENT_KEY"];

pub(super) const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused or not authorised, \
                                     5 the origin does not answer or takes no calls now.";

#[derive(Debug, clap::Args)]
pub(super) struct Api {
    /// Address of the origin.
    #[arg(
        long,
        global = true,
        env = "PORTCULLIS_ORIGIN_URL",
        default_value = "http://127.0.0.1:8780",
        value_name = "URL"
    )]
    origin: Url,
    /// File with the API key; without it PORTCULLIS_API_KEY or PORTCULLIS_MANAGEMENT_KEY holds it.
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print the answer of the origin as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Why this is done, for the audit trail.
    #[arg(long, global = true, value_name = "TEXT")]
    because: Option<String>,
}

/// A group of commands over the management API.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments<C: clap::Subcommand> {
    #[command(flatten)]
    pub(super) api: Api,
    #[command(subcommand)]
    pub(super) command: C,
}

/// How much of a list is printed.
#[derive(Debug, clap::Args)]
pub(super) struct Pages {
    /// Go on where an earlier list ended.
    #[arg(long, allow_hyphen_values = true)]
    cursor: Option<String>,
    /// Print this many entries at most; all, if left out.
    #[arg(long, value_name = "ENTRIES", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl Api {
    /// A call; the origin's answer.
    pub(super) fn call(&self, method: Method, segments: &[&str], body: Option<&Value>) -> anyhow::Result<Value> {
        Ok(runtime()?.block_on(self.client()?.call(method, segments, &[], body))?)
    }

    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(self.origin.clone(), self.key()?.into())?.with_reason(self.because.clone()))
    }

    pub(super) fn get(&self, segments: &[&str]) -> anyhow::Result<Value> {
        self.call(Method::GET, segments, None)
    }

    /// A command; prints its answer.
    pub(super) fn act(&self, method: Method, segments: &[&str], body: &Value) -> anyhow::Result<()> {
        self.show(&self.call(method, segments, Some(body))?)
    }

    /// Whether answers are printed as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints an object, one member a line.
    pub(super) fn show(&self, answer: &Value) -> anyhow::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for (name, value) in answer.as_object().into_iter().flatten() {
            table.add_row([name.clone(), cell(value)]);
        }
        self.print(answer, &table)
    }

    /// Prints a list, whose pages have their entries under `member`, one entry a line.
    pub(super) fn list(
        &self,
        segments: &[&str],
        query: &[(&str, &Option<String>)],
        (member, columns): (&str, &[&str]),
        pages: &Pages,
    ) -> anyhow::Result<()> {
        let query = query.iter().copied().chain([("cursor", &pages.cursor)]);
        let query: Vec<_> = query.filter_map(|(name, value)| Some((name, value.as_deref()?))).collect();
        let max = pages.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let List { entries, next_cursor } = runtime()?.block_on(self.client()?.list(segments, &query, member, max))?;
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(columns);
        for entry in &entries {
            table.add_row(columns.iter().map(|column| cell(&entry[*column])));
        }
        self.print(&json!({ member: entries, "next_cursor": next_cursor }), &table)?;
        match next_cursor {
            Some(cursor) if !self.json => print(&format!("more: --cursor {cursor}\n")),
            _ => Ok(()),
        }
    }

    fn print(&self, answer: &Value, table: &Table) -> anyhow::Result<()> {
        print(&if self.json { format!("{answer}\n") } else { format!("{table}\n") })
    }

    fn key(&self) -> anyhow::Result<String> {
        let text = match &self.key_file {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
            None => KEY_VARIABLES.iter().find_map(|name| std::env::var(name).ok()).with_context(|| {
                format!("there is no key: set {}, or name a file with --key-file", KEY_VARIABLES.join(" or "))
            })?,
        };
        Ok(text.trim_ascii_end().to_owned())
    }
}

/// What a failed call means to a script.
pub(super) fn exit_code(error: &Error) -> u8 {
    match error {
        Error::Refused { status: 404, .. } => 3,
        Error::Refused { status: 401 | 403, .. } => 4,
        Error::Refused { status: 429 | 503, .. } | Error::Unreachable(_) => 5,
        _ => 1,
    }
}

/// One cell: texts as they are but for control characters, which a terminal would obey.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.iter().all(Value::is_string) => {
            values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
