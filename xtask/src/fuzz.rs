//! `cargo xtask fuzz TARGET --seconds N`: a fuzz target under libFuzzer, on the toolchain that everything else is built with.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{run as run_loudly, say};
use crate::workspace::Workspace;

/// The driver. Its sanitizers need a nightly compiler; coverage does not, and `core` forbids unsafe code.
const VERSION: &str = "0.13.2";
/// An input that takes longer is a finding, in seconds: nothing here takes one.
const SLOWEST: u32 = 10;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// One of fuzz/fuzz_targets, for example `request_body` or `tokenizer_asset`
    target: String,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Build the target and run it; libFuzzer prints how many executions there were.
///
/// # Errors
/// When something cannot be built, or an input was found that panics or hangs: it is in `fuzz/artifacts`.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let target = &options.target;
    let source = workspace.root.join("fuzz/fuzz_targets").join(format!("{target}.rs"));
    if !source.is_file() {
        bail!("{} does not exist", source.display());
    }
    let driver = driver(workspace)?;
    let directory = driver.parent().context("the driver's path has no directory")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(directory).chain(std::env::split_paths(&path));
    let mut command: Command = workspace.cargo();
    command.args(["fuzz", "run", target, "--sanitizer", "none"]);
    if target == "kv_events" {
        command.args(["--features", "sidecar"]);
    }
    command
        .arg("--target-dir")
        .arg(workspace.target.join("fuzz"))
        .args(["--", &format!("-max_total_time={}", options.seconds), &format!("-timeout={SLOWEST}")])
        // Longer bodies than the default of 4096 bytes.
        .args(["-max_len=65536", "-print_final_stats=1", "-verbosity=0"])
        .env("PATH", std::env::join_paths(paths)?);
    say(&format!("fuzzing {target} for {} s", options.seconds));
    run_loudly(&mut command)
}

/// `cargo-fuzz`, built once under `target/`.
fn driver(workspace: &Workspace) -> Result<PathBuf> {
    let root = workspace.tools().join("tools");
    let driver = root.join("bin/cargo-fuzz");
    if !driver.is_file() {
        say(&format!("building cargo-fuzz {VERSION} into {} (about a minute)", root.display()));
        run_loudly(
            workspace
                .cargo()
                .args(["install", "cargo-fuzz", "--version", VERSION, "--target-dir"])
                .arg(workspace.target.join("cargo-fuzz"))
                .arg("--root")
                .arg(&root),
        )?;
    }
    Ok(driver)
}
