//! Command line of the indexer sidecar.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use indexer_sidecar::listeners::{Addresses, Listeners};
use indexer_sidecar::logs;
use indexer_sidecar::metrics::Metrics;
use indexer_sidecar::sidecar::{self, Loaded};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Follows the KV-cache events of vLLM pods and answers which pod holds a prompt.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (YAML or JSON).
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "check_config",
        conflicts_with = "check_config"
    )]
    config: Option<PathBuf>,
    /// Checks a configuration with its models and endpoints file, and ends.
    #[arg(long, value_name = "FILE")]
    check_config: Option<PathBuf>,
}

/// The one line on standard output: for programs that start the sidecar on port 0.
#[derive(Serialize)]
struct Listening {
    msg: &'static str,
    #[serde(flatten)]
    addresses: Addresses,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match (arguments.check_config, arguments.config) {
        (Some(file), _) => check(file),
        (None, Some(file)) => start(file),
        (None, None) => Err(anyhow::anyhow!("give --config FILE")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("indexer-sidecar: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(file: PathBuf) -> anyhow::Result<()> {
    sidecar::check(file.clone())?;
    println!("{}: ok", file.display());
    Ok(())
}

fn start(file: PathBuf) -> anyhow::Result<()> {
    let loaded = Loaded::read(file)?;
    let metrics = Arc::new(Metrics::default());
    let logs = logs::init(loaded.config.logs.level, std::io::stderr(), metrics.log_lines_dropped.clone())?;
    // One thread follows the event streams and serves the admin and asset ports, another answers picks (`pick::serve`),
    // others load models. With a pool of threads most of an event's cost was handing it from one to the next.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no thread for the runtime")?;
    let result = runtime.block_on(async {
        let shutdown = on_signal()?;
        let listeners = Listeners::bind(&loaded.config).await?;
        announce(listeners.addresses()?)?;
        sidecar::run(loaded, listeners, metrics, shutdown).await
    });
    // A name lookup that hangs in the C library must not hold up the end.
    runtime.shutdown_background();
    log::info!(ok = result.is_ok(); "stopped");
    logs.flush();
    result
}

fn announce(addresses: Addresses) -> anyhow::Result<()> {
    let line = serde_json::to_string(&Listening { msg: "listening", addresses })?;
    println!("{line}");
    Ok(())
}

/// Ends the sidecar at SIGTERM or SIGINT.
fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log::info!("stopping");
        token.cancel();
    });
    Ok(shutdown)
}
