//! `cargo xtask golden` and `differ`: the program of `oracle/`, natively or in Wasm.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::node;
use crate::run::{run as run_loudly, say};
use crate::workspace::Workspace;

const PACKAGE: &str = "warmpath-oracle";

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
        Task::Differ => ("differ", ["--profile", "release"]),
    };
    say(&format!("building {PACKAGE}"));
    let mut build = workspace.cargo();
    build.args(["build", "--package", PACKAGE]);
    let mut command = if options.wasm {
        // Unoptimised, V8 would take minutes for what takes seconds.
        run_loudly(build.args(["--release", "--target", "wasm32-wasip1"]))?;
        let module = workspace.target.join("wasm32-wasip1/release").join(format!("{PACKAGE}.wasm"));
        node(workspace, &module)?
    } else {
        run_loudly(build.args(profile))?;
        let directory = if matches!(task, Task::Golden) { "debug" } else { "release" };
        Command::new(workspace.binary(directory, PACKAGE))
    };
    command.arg(name).args(&options.rest);
    Err(command.exec()).context("starting the program")
}

/// Node with the module, as Envoy runs Wasm: without the quick compiler.
fn node(workspace: &Workspace, module: &Path) -> Result<Command> {
    let mut command = Command::new(node::provide(workspace)?);
    command.args(["--no-liftoff", "--no-warnings"]).arg(workspace.root.join("oracle/wasi.mjs")).arg(module);
    Ok(command)
}
