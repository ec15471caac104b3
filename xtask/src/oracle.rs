//! `cargo xtask golden` and `differ`: the program of `oracle/`, natively or in Wasm; and its tests in Wasm.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::node;
use crate::run::{run as run_loudly, say};
use crate::runner::{self, Findings};
use crate::workspace::Workspace;

const PACKAGE: &str = "warmpath-oracle";
/// What it is built for to run in Node.
const WASI: &str = "wasm32-wasip1";
/// The profile in which it is optimised.
const CHECKS: &str = "checks";

/// Where it runs, and what it is told.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// As the first argument: run as a WASI module in Node's V8, with the flag that Envoy sets (--no-liftoff)
    #[arg(long)]
    wasm: bool,
    /// Handed on; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// What the program does, and how it is built for it.
#[derive(Clone, Copy)]
pub(crate) enum Task {
    /// In the dev profile, that the tests have built: it takes seconds.
    Golden,
    /// Optimised: a million strings take minutes.
    Differ,
}

/// Build the program and become it.
///
/// # Errors
/// When the build fails, or Node cannot be provided.
pub(crate) fn run(workspace: &Workspace, task: Task, options: &Options) -> Result<()> {
    let (name, profile) = match task {
        Task::Golden => ("golden", ["--profile", "dev"]),
        Task::Differ => ("differ", ["--profile", CHECKS]),
    };
    say(&format!("building {PACKAGE}"));
    let mut build = workspace.cargo();
    build.args(["build", "--package", PACKAGE]);
    let mut command = if options.wasm {
        // Unoptimised, V8 would take minutes for what takes seconds.
        run_loudly(build.args(["--profile", CHECKS, "--target", WASI]))?;
        let module = workspace.target.join(WASI).join(format!("{CHECKS}/{PACKAGE}.wasm"));
        let [program, arguments @ ..] = node(workspace)?;
        let mut command = Command::new(program);
        command.args(arguments).arg(module);
        command
    } else {
        run_loudly(build.args(profile))?;
        let directory = if matches!(task, Task::Golden) { "debug" } else { CHECKS };
        Command::new(workspace.binary(directory, PACKAGE))
    };
    command.arg(name).args(&options.rest);
    Err(command.exec()).context("starting the program")
}

/// Run the tests of recorded answers as a WASI module in Node.
///
/// # Errors
/// When they cannot be built, or one fails.
pub(crate) fn golden_in_wasm(workspace: &Workspace, findings: &mut Findings) -> Result<()> {
    let runner = node(workspace)?.join(OsStr::new(" "));
    let mut command = workspace.cargo();
    command
        .args(["test", "--package", PACKAGE, "--profile", CHECKS, "--target", WASI, "--test", "recorded"])
        .args(["--", "--show-output"])
        .env("CARGO_TARGET_WASM32_WASIP1_RUNNER", runner);
    // WASI does not follow a link that leads anywhere else.
    let shared =
        std::env::var_os("WARMPATH_SHARED").map_or_else(|| workspace.root.join("../shared"), Into::into);
    if let Ok(shared) = shared.canonicalize() {
        command.env("WARMPATH_SHARED", shared);
    }
    runner::tests(&mut command, findings)
}

/// Node as Envoy runs Wasm, without the quick compiler; the module comes next.
fn node(workspace: &Workspace) -> Result<[OsString; 4]> {
    let start = workspace.root.join("oracle/wasi.mjs");
    Ok([node::provide(workspace)?.into(), "--no-liftoff".into(), "--no-warnings".into(), start.into()])
}
