//! `cargo xtask replay`: captured event streams through the sidecar's own subscriber and index.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;
use crate::workspace::Workspace;

/// What to play.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Captured streams in the layout of ../shared/kv-events; `replay_*` is served by the replay socket of the live
    /// file given before it
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also write the result to this file
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Tokens of one key; by default the smallest block size in the captures
    #[arg(long)]
    block_tokens: Option<u32>,
    /// Blocks that the captured engine's GPU had memory for; counts are held to it
    #[arg(long)]
    num_gpu_blocks: Option<u64>,
}

/// Play the captures and print what they came to.
///
/// # Errors
/// When a file cannot be read (with its line), or a stream does not settle.
pub(crate) fn play(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut build = workspace.cargo();
    build.args(["build", "--quiet", "--package", "warmpath-indexer-sidecar", "--example", "replay"]);
    run::run(&mut build)?;
    let mut command = Command::new(workspace.binary("debug/examples", "replay"));
    command.args(&options.files);
    if let Some(json) = &options.json {
        command.arg("--json").arg(json);
    }
    if let Some(tokens) = options.block_tokens {
        command.arg("--block-tokens").arg(tokens.to_string());
    }
    if let Some(blocks) = options.num_gpu_blocks {
        command.arg("--num-gpu-blocks").arg(blocks.to_string());
    }
    if !command.status().context("starting the replay")?.success() {
        bail!("the replay failed");
    }
    Ok(())
}
