//! Builds what the benchmarks measure, then runs them; what they are is said in the crate `tests`.

use std::{env, ffi::OsString, path::PathBuf, process::Command};

use crate::{
    command::{root, run, run_quietly},
    setup::WASM_BINDGEN,
};

/// What the benchmarks measure inside WebAssembly, and where its glue goes.
const WASM_PACKAGE: &str = "portcullis-bench-wasm";
const WASM_OUT: &str = "build/bench";

/// Benchmarks that need gate and hub.
const OF_THE_EDGE: [&str; 3] = ["gate", "propagation", "floors"];

/// What the origin is measured beside in Rust: a workspace of its own, so that nothing else waits for it.
const PEERS: &str = "tests/peers/rust/Cargo.toml";

/// Whether a benchmark with `arguments` needs the edge.
pub(crate) fn needs_edge(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| OF_THE_EDGE.iter().any(|name| argument == name))
}

/// Whether a benchmark with `arguments` needs what others keep sessions with.
pub(crate) fn needs_peers(arguments: &[OsString]) -> bool {
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    has("origin") && !has("--alone")
}

/// Builds what the origin is measured beside, to where the benchmark finds it.
///
/// # Errors
///
/// It does not build.
pub(crate) fn build_peers() -> anyhow::Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--bins", "--manifest-path", PEERS, "--target-dir"]);
    run(cargo.arg(target_dir()).current_dir(root()))
}

/// Runs `portcullis-bench` with `arguments`.
///
/// # Errors
///
/// Something does not build, or the benchmark fails.
pub(crate) fn run_benchmark(arguments: &[OsString]) -> anyhow::Result<()> {
    build_wasm()?;
    // The origin is started from beside the benchmark.
    let packages = ["--package", "portcullis-origin", "--package", "portcullis-tests"];
    let programs = ["--bin", "portcullis", "--bin", "portcullis-bench"];
    run(Command::new("cargo").args(["build", "--release"]).args(packages).args(programs).current_dir(root()))?;
    let mut bench = Command::new("cargo");
    bench.args(["run", "--release", "--quiet", "--package", "portcullis-tests", "--bin", "portcullis-bench", "--"]);
    run(bench.args(arguments).current_dir(root()))
}

fn build_wasm() -> anyhow::Result<()> {
    let target = "wasm32-unknown-unknown";
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--package", WASM_PACKAGE, "--profile", "edge", "--target", target]);
    run(cargo.current_dir(root()))?;
    let built = target_dir().join(target).join("edge/portcullis_bench_wasm.wasm");
    let mut glue = Command::new(WASM_BINDGEN.path()?);
    glue.args(["--target", "web", "--no-typescript", "--out-name", "wasm", "--out-dir", WASM_OUT]).arg(built);
    run_quietly("making the glue of the module that is measured", glue.current_dir(root()))
}

fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |target| root().join(target))
}
