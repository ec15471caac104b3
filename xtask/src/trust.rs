//! `cargo xtask trust`: how much of what an engine holds the index credits while its event stream is disturbed.

use anyhow::{Result, bail};

use crate::run;
use crate::workspace::Workspace;

/// Which simulated streams.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Number of runs
    #[arg(long, default_value_t = 1000)]
    runs: u64,
    /// Seed of the first
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Play seeded streams with faults through the follower and the index, and print by class of fault what was credited of
/// what was held, averaged over time, beside what dropping everything at each fault would have credited.
///
/// # Errors
/// When the index credited what was gone, or less than the test asks for.
pub(crate) fn measure(workspace: &Workspace, options: &Options) -> Result<()> {
    if options.runs == 0 {
        bail!("--runs 0: nothing to play");
    }
    let mut command = workspace.cargo();
    command.args([
        "test",
        "--quiet",
        "--package",
        "warmpath-indexer-sidecar",
        "--test",
        "simulated",
        "--",
        "--nocapture",
    ]);
    command.env("WARMPATH_RUNS", options.runs.to_string()).env("WARMPATH_SEED", options.seed.to_string());
    run::run(&mut command)
}
