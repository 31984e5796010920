//! `cargo xtask up`: everything on this machine, until Ctrl-C: a store, the origin, the gate with its hub, the demo.
//!
//! What lasts is in `.portcullis/STORE/`: secrets (for this user only), configuration, data and logs. Removing the folder
//! starts anew.

mod children;
mod lock;
mod probe;
mod programs;
mod secrets;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;
use clap::ValueEnum;

use self::{
    children::{Children, Stop},
    lock::Lock,
    probe::{free_port, get, pings},
    programs::Programs,
};
use crate::{
    command::{self, root},
    edge_build,
    setup::{self, Program},
};

/// Where the origin keeps sessions.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// One file.
    Embedded,
    /// A Redis server that is started for it.
    Redis,
}

/// The ports of one run: the usual ones, or the next that are free.
#[derive(Clone, Copy)]
struct Ports {
    redis: u16,
    origin: u16,
    gate: u16,
    inspector: u16,
    demo: u16,
}

/// Installs, builds and starts everything, and runs until a signal, or until one of the programs ends.
///
/// # Errors
///
/// Something cannot be installed, built or started, is not ready in time, or ends by itself; or another run has the data.
pub(crate) fn run(store: Store, data: Option<PathBuf>) -> anyhow::Result<()> {
    let (name, needed): (_, &[_]) = match store {
        Store::Embedded => ("embedded", &[]),
        Store::Redis => ("redis", &[Program::Redis]),
    };
    let directory = std::path::absolute(data.unwrap_or_else(|| root().join(".portcullis").join(name)))?;
    secrets::private_directory(&directory)?;
    let mut lock = Lock::take(&directory)?;
    setup::run(needed)?;
    build()?;

    // Before this a signal ends this process and the builds at once; from here on there are programs to stop.
    let mut children = Children::new(directory.clone(), Stop::on_signals()?);
    let ran = start(store, &directory, &mut lock, &mut children).and_then(|()| children.wait());
    children.stop();
    if children.is_stopped() {
        println!("all stopped");
        return Ok(());
    }
    ran
}

fn build() -> anyhow::Result<()> {
    let packages = ["build", "--package", "portcullis-origin", "--package", "portcullis-demo"];
    command::run(Command::new("cargo").args(packages).current_dir(root()))?;
    edge_build::build_if_changed()
}

/// Starts each program once the one before it is ready.
fn start(store: Store, directory: &Path, lock: &mut Lock, children: &mut Children) -> anyhow::Result<()> {
    secrets::make(directory)?;
    let programs = Programs::prepare(store, directory.to_owned(), Ports::choose()?)?;
    let ports = programs.ports;
    edge_build::copy_to(&programs.edge())?;
    if store == Store::Redis {
        children.start("redis", &mut programs.redis()?)?;
        children.until_ready("redis", || pings(ports.redis))?;
    }
    let feed_key = programs.feed_key()?;
    children.start("origin", &mut programs.origin(&["serve"]))?;
    children.until_ready("origin", || get(ports.origin, "/readyz").is_some_and(|answer| answer.is_ok()))?;
    children.start("demo", &mut programs.demo(&feed_key)?)?;
    // It lets nobody in but through the gate, and that it says.
    children.until_ready("demo", || get(ports.demo, "/").is_some())?;
    children.start("gate", &mut programs.gate(&feed_key)?)?;
    children.until_ready("gate", || {
        let status = get(ports.gate, "/.portcullis/status");
        status.is_some_and(|answer| answer.text.contains(r#""ready":true"#))
            && get(ports.gate, "/").is_some_and(|answer| answer.is_ok())
    })?;

    let page = format!("http://localhost:{}/", ports.gate);
    lock.tell(&page)?;
    println!("\n  open            {page}");
    println!("  the origin      http://127.0.0.1:{}/", ports.origin);
    println!("  the upstream    http://127.0.0.1:{}/", ports.demo);
    if store == Store::Redis {
        println!("  the Redis       redis://127.0.0.1:{}/", ports.redis);
    }
    println!("  data and logs   {}\n\nCtrl-C stops all of it.", directory.display());
    Ok(())
}

impl Ports {
    fn choose() -> anyhow::Result<Self> {
        let mut taken = Vec::new();
        let mut next = |usual: u16| {
            let Some(port) = (usual..=u16::MAX).find(|port| !taken.contains(port) && free_port(*port)) else {
                bail!("no port from {usual} on is free");
            };
            taken.push(port);
            Ok(port)
        };
        Ok(Self {
            redis: next(8779)?,
            origin: next(8780)?,
            gate: next(8787)?,
            inspector: next(9229)?,
            demo: next(8790)?,
        })
    }
}
