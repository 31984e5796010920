//! The command line: reads the configuration, builds the parts and runs them.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use crate::{
    config::{
        Config, document,
        secrets::{Secrets, load_master_key},
    },
    server::{self, Server},
    telemetry,
};

/// The origin of Portcullis: sessions, tokens and the feed of floors.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the origin until SIGTERM or SIGINT.
    Serve(ConfigFile),
    /// The signing keys.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Print the documented configuration with every default and limit, or check one with --config.
    Config(ConfigFile),
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Print the public keys as JSON, `{"feed_key", "jwks"}`; makes the keys if there are none yet.
    Show(ConfigFile),
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration file (TOML). Without it, defaults and the environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs one command to its end.
///
/// # Errors
///
/// What went wrong, with its causes, for a person to read; never a secret.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        Command::Serve(file) => serve(Config::load(file.config.as_deref())?),
        Command::Keys { command: KeysCommand::Show(file) } => show_keys(&Config::load(file.config.as_deref())?),
        Command::Config(ConfigFile { config: None }) => print(&document()),
        Command::Config(ConfigFile { config: Some(path) }) => {
            Config::load(Some(&path))?;
            print(&format!("{}: every setting is known and within its limits\n", path.display()))
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    // Tests stop the process at a named point through the variable FAILPOINTS.
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    telemetry::start_logging(&config.telemetry)?;
    let secrets = Secrets::load(&config.secrets)?;
    runtime()?.block_on(async { Server::start(config, secrets).await?.run().await })
}

fn show_keys(config: &Config) -> anyhow::Result<()> {
    let master_key = load_master_key(&config.secrets)?;
    let keys = runtime()?.block_on(async {
        let store = server::open_store(config).await?;
        server::open_keys(&store, config, &master_key).await
    })?;
    let shown = serde_json::json!({ "feed_key": keys.feed().public_text(), "jwks": keys.jwks() });
    print(&format!("{shown}\n"))
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
