//! The command line: one file per subcommand; here is the list of them, and what they share.

mod api;
mod apikeys;
mod audit;
mod config;
mod doctor;
mod keys;
pub(crate) mod plan;
mod policy;
mod serve;
mod sessions;
mod store;
mod subjects;
mod tenants;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError};

/// The origin of Portcullis: sessions, tokens and the feed of floors.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, after_help = api::EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the origin until SIGTERM or SIGINT.
    Serve(ConfigFile),
    /// The signing keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Sessions, through the management API.
    Sessions(api::Arguments<sessions::Command>),
    /// Subjects, through the management API.
    Subjects(api::Arguments<subjects::Command>),
    /// Tenants, through the management API.
    Tenants(api::Arguments<tenants::Command>),
    /// The route policy of the gates, through the management API.
    Policy(api::Arguments<policy::Command>),
    /// The keys of the management API.
    Apikeys(api::Arguments<apikeys::Command>),
    /// Who did what to whom, when and why, newest first.
    Audit(audit::Arguments),
    /// Everything that a store holds, to move it to another one.
    #[command(subcommand)]
    Store(store::Command),
    /// Print what an installation needs in memory, CPU and traffic, on an ordinary day and on a bad one.
    Plan(plan::Arguments),
    /// Find out whether the store keeps what it acknowledges, and how it is.
    Doctor(doctor::Arguments),
    /// Print the documented configuration with every default and limit, or check one with --config.
    Config(ConfigFile),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file (TOML). Without it, defaults and the environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref())
    }
}

/// Runs one command to its end.
///
/// # Errors
///
/// What went wrong, with its causes, for a person to read; never a secret.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Serve(file) => serve::run(&file),
        Command::Keys(command) => keys::run(&command),
        Command::Sessions(arguments) => sessions::run(&arguments),
        Command::Subjects(arguments) => subjects::run(&arguments),
        Command::Tenants(arguments) => tenants::run(&arguments),
        Command::Policy(arguments) => policy::run(&arguments),
        Command::Apikeys(arguments) => apikeys::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Store(command) => store::run(&command),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Config(file) => config::run(&file),
    }
}

/// The exit code of a failure: see [`api::EXIT_CODES`].
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<doctor::NotHealthy>() {
        Some(found) => found.exit_code(),
        None => error.downcast_ref().map_or(1, api::exit_code),
    }
}

/// The chain of causes on one line, without those that the one before tells already.
pub fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    let mut last = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !last.contains(&cause) {
            told.push_str(if told.is_empty() { "" } else { ": " });
            told.push_str(&cause);
            last = cause;
        }
    }
    told
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the async runtime")
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::{ErrorKind, Write as _};
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parses(line: &str) -> bool {
        Arguments::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn no_cause_is_told_twice() {
        let lost = std::io::Error::other("the disk is full");
        let error = crate::transfer::ImportError::Open(lost);
        let error = anyhow::Error::from(error).context("cannot import x");
        assert_eq!(told(&error), "cannot import x: it cannot be opened: the disk is full");
        let inner = anyhow::anyhow!("a").context("b: a").context("c");
        assert_eq!(told(&inner), "c: b: a");
    }

    /// Ids are random base64url: one of 64 begins with a hyphen.
    #[test]
    fn an_id_may_begin_with_a_hyphen() {
        for command in [
            "sessions show ID",
            "sessions revoke ID --json",
            "sessions list alice --cursor ID",
            "apikeys show ID",
            "apikeys rotate ID --overlap-s 60",
            "apikeys remove ID",
            "apikeys list --cursor ID",
            "audit --cursor ID",
            "keys revoke ID",
        ] {
            for id in ["-AAAAAAAAAAAAAAAAAAAAA", "--AAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAA"] {
                let line = format!("portcullis {}", command.replace("ID", id));
                assert!(parses(&line), "{line}");
            }
        }
        assert!(!parses("portcullis sessions show AAAA --no-such-option"), "an option that is none is told");
    }

    #[test]
    fn a_list_of_no_entries_is_refused_with_what_is_allowed() {
        let parsed = |limit| Arguments::try_parse_from(["portcullis", "audit", "--limit", limit]);
        let said = parsed("0").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains("0 is not in 1.."), "{said}");
        assert!(parsed("1").is_ok());
    }
}
