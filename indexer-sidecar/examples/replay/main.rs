//! Plays captured event streams through the sidecar's own subscriber and index, over real ZMQ sockets, and prints what
//! they came to. `cargo xtask replay` runs it.
//!
//! A file whose name begins with `replay_` is served by the replay socket of the live file given before it.

mod capture;
mod play;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use capture::{Batches, Stream};
use clap::Parser;

#[derive(Parser)]
#[command(name = "replay", about = "Plays captured event streams through the real subscriber and index")]
struct Arguments {
    /// Captures: live frames, each followed by the replays (`replay_*`) of its publisher
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also writes the result to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Tokens of one key; by default the smallest block size in the captures
    #[arg(long)]
    block_tokens: Option<u32>,
    /// Blocks that the captured engine's GPU had memory for: counts are held to it, as `num_gpu_blocks` in an endpoints
    /// file does
    #[arg(long)]
    num_gpu_blocks: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One publisher with what its replay socket has.
pub(crate) struct Publisher {
    pub(crate) stream: Stream,
    pub(crate) replay: Option<Batches>,
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut publishers: Vec<Publisher> = Vec::new();
    for file in &arguments.files {
        eprintln!("reading {}", file.display());
        let read = capture::read(file)?;
        if !is_replay(file) {
            let streams = read.into_streams();
            publishers.extend(streams.into_iter().map(|stream| Publisher { stream, replay: None }));
            continue;
        }
        // The live file before it may hold several publishers: the replay is that of the one with the same batches.
        let last = publishers.last().map(|publisher| publisher.stream.file.clone());
        let Some(live) = last else {
            bail!("{}: a replay must come after the live capture of its publisher", file.display());
        };
        let replies = read.into_batches();
        let of_file = publishers.iter_mut().filter(|publisher| publisher.stream.file == live);
        let same = |publisher: &&mut Publisher| publisher.stream.batches.shared(&replies);
        if let Some(publisher) = of_file.max_by_key(same) {
            publisher.replay.get_or_insert_default().merge(replies);
        }
    }
    let block_tokens = match arguments.block_tokens {
        Some(0) => bail!("--block-tokens 0: a key has at least one token"),
        Some(tokens) => tokens,
        None => {
            let sizes = publishers.iter().filter_map(|publisher| {
                let replay = publisher.replay.iter().flat_map(|replay| replay.block_tokens());
                publisher.stream.batches.block_tokens().into_iter().chain(replay).min()
            });
            // A capture without a store has no block size, and nothing that one would decide.
            sizes.min().unwrap_or(16)
        }
    };
    let runtime = tokio::runtime::Runtime::new().context("no threads for the runtime")?;
    let mut results = Vec::new();
    for publisher in publishers {
        results.push(runtime.block_on(play::play(publisher, block_tokens, arguments.num_gpu_blocks))?);
    }
    report::print(&results);
    if let Some(file) = &arguments.json {
        let result = serde_json::json!({ "key_block_tokens": block_tokens, "streams": results });
        let text = serde_json::to_string_pretty(&result)? + "\n";
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

fn is_replay(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("replay_"))
}
