//! `index`: the sidecar's index beside crates `kv-index` and `dynamo-kv-router`, in the same run on the same events.
//!
//! Only ratios mean something: the machine is shared, so systems take turns and medians are compared. Batches are
//! timed, never single calls. Every result is compared with a naive twin first.

pub mod contention;
pub mod corpus;
pub mod lookup;
pub mod memory;
pub mod sockets;
pub mod store;
pub mod systems;
pub mod wire;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde_json::json;

use crate::figures::Figures;

/// A part of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Lookups beside the peers
    Lookup,
    /// Lookups while a writer edits what is asked for
    Contention,
    /// Bytes
    Memory,
    /// Stores beside `kv-index`
    Store,
    /// From wire bytes to the index
    Wire,
    /// A thousand publishers over sockets
    Sockets,
}

/// Conditions of a run.
#[derive(clap::Args)]
pub struct Options {
    /// Seed of the corpus
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these parts
    #[arg(long, value_enum)]
    part: Vec<Part>,
}

/// Runs the parts that are asked for, or all, each in a process of its own: in the memory that one part has freed, the next
/// one's tables would grow without a page fault, as no sidecar's do.
pub async fn run(options: &Options) -> Result<Figures> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut figures = Figures::new("index", json!({"seed": options.seed, "cores": cores}));
    match options.part[..] {
        [only] => run_part(only, options.seed, &mut figures).await?,
        [] => apart(Part::value_variants(), options.seed, &mut figures)?,
        ref parts => apart(parts, options.seed, &mut figures)?,
    }
    Ok(figures)
}

async fn run_part(part: Part, seed: u64, figures: &mut Figures) -> Result<()> {
    match part {
        Part::Lookup => {
            for (shape, bar) in lookup::SHAPES {
                lookup::run(shape, bar, seed, figures).await?;
            }
        }
        Part::Contention => contention::run(seed, figures)?,
        Part::Memory => memory::run(seed, figures)?,
        Part::Store => {
            store::fill(1_300_000, seed, 1.1, figures)?;
            store::fill(15_000_000, seed, 1.1, figures)?;
            store::decode(1_000_000, seed, 1.5, figures)?;
        }
        Part::Wire => {
            wire::blocks(seed, figures)?;
            wire::publishers(seed, figures)?;
        }
        Part::Sockets => sockets::run(seed, figures)?,
    }
    Ok(())
}

/// Runs each part in a process of its own and takes over its figures.
fn apart(parts: &[Part], seed: u64, figures: &mut Figures) -> Result<()> {
    let program = std::env::current_exe()?;
    let written = tempfile::NamedTempFile::new()?;
    for part in parts.iter().filter_map(Part::to_possible_value) {
        let mut command = std::process::Command::new(&program);
        command.args(["index", "--part", part.get_name(), "--seed", &seed.to_string(), "--json"]);
        let status = command.arg(written.path()).stdout(std::process::Stdio::null()).status()?;
        ensure!(status.success(), "part {}: {status}", part.get_name());
        figures.take(written.path())?;
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
