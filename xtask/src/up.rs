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
    children::{Children, Part, Stop},
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

/// The most upstreams of a run: as many as a small machine bears.
pub(crate) const UPSTREAMS_MAX: u16 = 8;

/// The ports of one run: the usual ones, or the next that are free.
struct Ports {
    redis: u16,
    origin: u16,
    gate: u16,
    inspector: u16,
    /// One for each upstream.
    demos: Vec<u16>,
}

/// Installs, builds and starts everything, with the demo on so many `upstreams`, and runs until a signal, or until a program ends
/// without which nothing goes on.
///
/// # Errors
///
/// Something cannot be installed, built or started, is not ready in time, or ends by itself; or another run has the data.
pub(crate) fn run(store: Store, upstreams: u16, data: Option<PathBuf>) -> anyhow::Result<()> {
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
    let ran = start(store, upstreams, &directory, &mut lock, &mut children).and_then(|()| children.wait());
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
fn start(
    store: Store,
    upstreams: u16,
    directory: &Path,
    lock: &mut Lock,
    children: &mut Children,
) -> anyhow::Result<()> {
    secrets::make(directory)?;
    let programs = Programs::prepare(store, directory.to_owned(), Ports::choose(upstreams)?)?;
    let ports = &programs.ports;
    edge_build::copy_to(&programs.edge())?;
    if store == Store::Redis {
        children.start("redis", Part::Needed, &mut programs.redis()?)?;
        children.until_ready("redis", || pings(ports.redis))?;
    }
    let feed_key = programs.feed_key()?;
    children.start("origin", Part::Needed, &mut programs.origin(&["serve"]))?;
    children.until_ready("origin", || get(ports.origin, "/readyz").is_some_and(|answer| answer.is_ok()))?;
    let demos = start_demos(&programs, &feed_key, children)?;
    children.start("gate", Part::Needed, &mut programs.gate(&feed_key)?)?;
    children.until_ready("gate", || {
        let status = get(ports.gate, "/.portcullis/status");
        status.is_some_and(|answer| answer.text.contains(r#""ready":true"#))
            && get(ports.gate, "/").is_some_and(|answer| answer.is_ok())
    })?;

    let page = format!("http://localhost:{}/", ports.gate);
    lock.tell(&page)?;
    println!("\n  open            {page}");
    println!("  the origin      http://127.0.0.1:{}/", ports.origin);
    for (port, process) in &demos {
        println!("  the upstream    http://127.0.0.1:{port}/, process {process}");
    }
    if store == Store::Redis {
        println!("  the Redis       redis://127.0.0.1:{}/", ports.redis);
    }
    println!("  data and logs   {}\n\nCtrl-C stops all of it.", directory.display());
    Ok(())
}

/// Starts the demo on each of its ports; these, with their processes.
fn start_demos(programs: &Programs, feed_key: &str, children: &mut Children) -> anyhow::Result<Vec<(u16, u32)>> {
    let ports = &programs.ports.demos;
    let (part, names): (_, Vec<_>) = match ports.len() {
        1 => (Part::Needed, vec!["demo".to_owned()]),
        count => (Part::OneOfSome, (1..=count).map(|number| format!("demo-{number}")).collect()),
    };
    let mut demos = Vec::new();
    for (port, name) in ports.iter().zip(&names) {
        demos.push((*port, children.start(name, part, &mut programs.demo(*port, feed_key)?)?));
    }
    for (port, name) in ports.iter().zip(&names) {
        // It lets nobody in but through the gate, and that it says.
        children.until_ready(name, || get(*port, "/").is_some())?;
    }
    Ok(demos)
}

impl Ports {
    fn choose(upstreams: u16) -> anyhow::Result<Self> {
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
            demos: (0..upstreams).map(|_| next(8790)).collect::<anyhow::Result<_>>()?,
        })
    }
}
