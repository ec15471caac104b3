//! The only entry point for people and CI: provisioning, building, testing, showing.
//!
//! It is not a build system: cargo decides what is up to date. What cargo does not know (Envoy, Node, a Python
//! environment, the filter's post-processing) is done here, under `target/`, and checked by stamps.

mod bench;
mod check_config;
mod demo_bars;
mod envoy;
mod fuzz;
mod node;
mod oracle;
mod programs;
mod replay;
mod run;
mod runner;
mod test;
mod trust;
mod vllm;
mod wasm;
mod wheel;
mod workspace;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};

use crate::programs::Programs;
use crate::workspace::Workspace;

/// Recipes of Warmpath.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    recipe: Option<Recipe>,
}

#[derive(Subcommand)]
enum Recipe {
    /// Show requests being steered by KV-cache content, next to round robin
    Demo {
        /// Leave everything running until Ctrl-C
        #[arg(long)]
        keep: bool,
        /// Also write the figures to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Run everything that CI runs: format, lints, unit, Wasm and end-to-end tests
    Test(test::Options),
    /// Run a benchmark of bench/ on optimised programs
    Bench {
        /// Its name, for example `path`
        name: String,
        /// Also write the figures to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Handed on to the benchmark
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Run every case of a folder of recorded answers of vLLM, laid out like ../shared/golden
    Golden(oracle::Options),
    /// Compare our tokenizer runtime with the crate tokenizers over generated strings
    Differ(oracle::Options),
    /// Run a fuzz target for some seconds
    Fuzz(fuzz::Options),
    /// Play captured event streams through the sidecar's own subscriber and index
    Replay(replay::Options),
    /// Play simulated event streams with faults, and print what was credited of what was held
    Trust(trust::Options),
    /// Check a configuration of the filter plugin or of the sidecar
    CheckConfig(check_config::Options),
    /// Build the filter module target/warmpath_filter.wasm
    Wasm {
        /// With the crate `tokenizers` inside, for models with `tokenize: inline-hf`: target/warmpath_filter_hf.wasm
        #[arg(long)]
        hf_tokenizers: bool,
    },
    /// Fetch what the other recipes need (Envoy, Node, the Wasm test runner) and print where it is
    Provision,
    /// Format all code
    Fmt,
    /// Lint all code, natively and for Wasm
    Clippy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().recipe {
        Some(recipe) => follow(recipe),
        None => Arguments::command().print_help().map_err(Into::into),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

fn follow(recipe: Recipe) -> Result<()> {
    let workspace = Workspace::find()?;
    match recipe {
        Recipe::Demo { keep, json } => demo(&workspace, keep, json),
        Recipe::Test(options) => test::run_all(&workspace, &options),
        Recipe::Bench { name, json, rest } => bench::run(&workspace, &name, json, &rest),
        Recipe::Golden(options) => oracle::run(&workspace, oracle::Task::Golden, &options),
        Recipe::Differ(options) => oracle::run(&workspace, oracle::Task::Differ, &options),
        Recipe::Fuzz(options) => fuzz::run(&workspace, &options),
        Recipe::Replay(options) => replay::play(&workspace, &options),
        Recipe::Trust(options) => trust::measure(&workspace, &options),
        Recipe::CheckConfig(options) => check_config::check(&workspace, &options),
        Recipe::Wasm { hf_tokenizers: false } => wasm::build(&workspace, wasm::DEFAULT).map(drop),
        Recipe::Wasm { hf_tokenizers: true } => wasm::build(&workspace, wasm::HF_TOKENIZERS).map(drop),
        Recipe::Provision => provision(&workspace),
        Recipe::Fmt => run::run(workspace.cargo().args(["fmt", "--all"])),
        Recipe::Clippy => test::clippy(&workspace),
    }
}

fn demo(workspace: &Workspace, keep: bool, json: Option<PathBuf>) -> Result<()> {
    let programs = Programs::build(workspace)?;
    let mut command = std::process::Command::new(workspace.binary("debug", "warmpath-demo"));
    programs.export(&mut command).args(keep.then_some("--keep"));
    if let Some(json) = json {
        command.arg("--json").arg(json);
    }
    // In our place, so that Ctrl-C reaches the demo alone and its exit code is ours.
    Err(command.exec()).context("starting the demo")
}

fn provision(workspace: &Workspace) -> Result<()> {
    println!("envoy         {}", envoy::provide(workspace)?.display());
    println!("oldest envoy  {}", envoy::OLDEST.program(workspace)?.display());
    println!("node          {}", node::provide(workspace)?.display());
    println!("test runner   {}", node::test_runner(workspace)?.display());
    Ok(())
}
