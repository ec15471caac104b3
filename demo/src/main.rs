//! Shows requests being steered by KV-cache content, next to round robin: the same requests, once under each policy,
//! through a real Envoy with the real filter and the real sidecar, to simulated pods.
//!
//! It is not a benchmark: pods keep the time of a step model, and the workload is made to show one thing.

mod policy;
mod report;
mod workload;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use warmpath_harness::{ModelFiles, Programs};

use crate::policy::Policy;
use crate::workload::Workload;

/// Shows requests being steered by KV-cache content, next to round robin.
#[derive(Parser)]
struct Arguments {
    /// Leave everything running until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Also write the figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let programs = Programs::from_env()?;
    let workload = Workload::make(&ModelFiles::demo())?;
    tokio::select! {
        result = show(&arguments, &programs, &workload) => result,
        // Returning drops the stacks, and they end their processes.
        signal = tokio::signal::ctrl_c() => signal.context("listening for Ctrl-C"),
    }
}

async fn show(arguments: &Arguments, programs: &Programs, workload: &Workload) -> Result<()> {
    let (round_robin, stack) = policy::run(Policy::RoundRobin, programs, workload).await?;
    drop(stack);
    let (warmpath, stack) = policy::run(Policy::Warmpath, programs, workload).await?;
    println!("\n{}\n", report::table(workload, &round_robin, &warmpath));
    if let Some(path) = &arguments.json {
        report::write_json(path, workload, &round_robin, &warmpath)?;
        println!("The same figures are in {}.\n", path.display());
    }
    if arguments.keep {
        println!("It runs until Ctrl-C.\n{}", report::further(&stack));
        std::future::pending::<()>().await;
    } else {
        println!(
            "`cargo xtask demo --keep` leaves it running and says where to look: gateway, metrics, logs."
        );
    }
    Ok(())
}
