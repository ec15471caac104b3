//! Benchmarks of whole paths, each beside what it is compared with, in one run on one machine.
//!
//! Started by `cargo xtask bench NAME`, which builds the programs (optimised) and says where they are. A benchmark
//! prints a table and with `--json FILE` writes the same figures with names and units. Not here: micro-benchmarks of
//! functions (criterion, beside the code), and anything that passes or fails.

mod arms;
mod mix;
mod path;
mod tokenize;
mod vocabulary;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use warmpath_bench::index;
use warmpath_harness::programs::Programs;

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Benchmarks of whole paths")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// What filter and callout add to plain Envoy: latency, and CPU per request
    Path {
        /// Also write the figures to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        #[command(flatten)]
        options: path::Options,
    },
    /// What tokens and keys cost, in V8 and natively, beside the crate tokenizers and Python's package
    Tokenize {
        /// Also write the figures to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        #[command(flatten)]
        options: tokenize::Options,
    },
    /// The index beside two peers: lookups, stores, memory, lookups while a writer edits what is asked for
    Index {
        /// Also write the figures to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        #[command(flatten)]
        options: index::Options,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let (figures, json) = match Arguments::parse().benchmark {
        Benchmark::Path { json, options } => (path::run(&options, &Programs::from_env()?).await?, json),
        Benchmark::Tokenize { json, options } => (tokenize::run(&options)?, json),
        Benchmark::Index { json, options } => (index::run(&options).await?, json),
    };
    figures.print();
    json.map_or(Ok(()), |file| figures.write(&file))
}
