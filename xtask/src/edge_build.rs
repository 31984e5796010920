//! Builds gate and hub: Rust to WebAssembly, its glue, the entry module, and the route policy in the form that the gate reads.

mod kept;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context as _, bail, ensure};

pub(crate) use self::kept::{build_if_changed, copy_to};
use crate::{
    command::{npm_program, root, run, run_quietly, search_path},
    setup::{WASM_BINDGEN, WORKER_BUILD},
};

/// What the module may weigh with gzip -9, in bytes: Workers load it at a cold start.
const GZIPPED_BYTES_MAX: usize = 300 * 1024;

/// Files beside the build that it needs to run: the entry, and the configurations of bare workerd.
const COPIED: [&str; 9] = [
    "entry.mjs",
    "connections.mjs",
    "feed.mjs",
    "hub.mjs",
    "refuse.mjs",
    "session.mjs",
    "upstream.mjs",
    "workerd.capnp",
    "behind-proxy.capnp",
];

/// What to build.
pub(crate) struct EdgeBuild {
    /// The route policy to use, instead of `edge/policy.toml`.
    pub(crate) policy: Option<PathBuf>,
    /// Where the files go.
    pub(crate) out_dir: PathBuf,
}

/// The folder that `wrangler.toml` names.
pub(crate) fn default_out_dir() -> PathBuf {
    root().join("build/edge")
}

/// Builds the edge; the size of its module, gzipped, in bytes.
///
/// # Errors
///
/// The policy or the code is wrong, or the module is too large.
pub(crate) fn build(edge: &EdgeBuild) -> anyhow::Result<usize> {
    let crate_dir = root().join("edge");
    let out_dir = std::path::absolute(&edge.out_dir)?;
    // First, since it takes no time and is what an operator gets wrong.
    let policy = policy(edge.policy.as_deref())?;
    let _alone = kept::alone()?;
    let began = SystemTime::now();
    kept::unstamp(&out_dir)?;
    let mut builder = Command::new(WORKER_BUILD.path()?);
    builder.args(["--profile", "edge", "--out-dir"]).arg(&out_dir).current_dir(&crate_dir);
    builder.env("PATH", search_path()?);
    builder.env("WASM_BINDGEN_BIN", WASM_BINDGEN.path()?);
    builder.env("WASM_OPT_BIN", npm_program("wasm-opt"));
    builder.env("ESBUILD_BIN", npm_program("esbuild"));
    // A relative one would mean another folder there than here.
    if let Some(target) = env::var_os("CARGO_TARGET_DIR") {
        builder.env("CARGO_TARGET_DIR", std::path::absolute(target)?);
    }
    run(&mut builder)?;

    let module = out_dir.join("index_bg.wasm");
    strip_names(&module)?;
    fs::write(out_dir.join("policy.bin"), policy).context("cannot write policy.bin")?;
    for file in COPIED {
        fs::copy(crate_dir.join(file), out_dir.join(file)).with_context(|| format!("cannot copy edge/{file}"))?;
    }
    let bytes = gzipped_bytes(&module)?;
    if bytes > GZIPPED_BYTES_MAX {
        bail!("the module has {bytes} bytes gzipped; {GZIPPED_BYTES_MAX} is the limit");
    }
    if edge.policy.is_none() {
        kept::stamp(&out_dir, began)?;
    }
    Ok(bytes)
}

/// The bytes of a policy file, checked.
fn policy(file: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let default = root().join("edge/policy.toml");
    let file = file.unwrap_or(&default);
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the policy {}", file.display()))?;
    let shown = file.strip_prefix(root()).unwrap_or(file).display().to_string();
    Ok(shared::policy_text::parse(&shown, &text)?.encode()?)
}

/// worker-build keeps the names of functions, an eighth of the module.
fn strip_names(module: &Path) -> anyhow::Result<()> {
    let mut wasm_opt = Command::new(npm_program("wasm-opt"));
    wasm_opt.env("PATH", search_path()?);
    wasm_opt.arg(module).args(["--detect-features", "--strip-debug", "-o"]).arg(module);
    run_quietly("taking the names out of the module", &mut wasm_opt)
}

fn gzipped_bytes(module: &Path) -> anyhow::Result<usize> {
    let output = Command::new("gzip").args(["-9", "--stdout"]).arg(module).output().context("cannot start gzip")?;
    ensure!(output.status.success(), "gzip ended with {}", output.status);
    Ok(output.stdout.len())
}
