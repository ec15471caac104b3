//! `warmpath-simulator`: one simulated pod as a process.

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use warmpath_simulator::pod::End;
use warmpath_simulator::{Pod, PodHandle};

mod options;

/// What a killed process reports (128 + SIGKILL).
const KILLED: u8 = 137;

fn main() -> ExitCode {
    match options::Options::parse().pod_config().and_then(Pod::start).and_then(serve) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("warmpath-simulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(pod: PodHandle) -> anyhow::Result<ExitCode> {
    let ready = json!({
        "listen": pod.listen,
        "events": pod.events.first(),
        "replay": pod.replay.first(),
        "ranks": pod.events.len(),
    });
    println!("{ready}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        anyhow::Ok(tokio::select! {
            _ = terminate.recv() => End::Shutdown,
            _ = interrupt.recv() => End::Shutdown,
            end = pod.ended() => end,
        })
    })?;
    match end {
        End::Shutdown => {
            pod.shutdown();
            Ok(ExitCode::SUCCESS)
        }
        // The process ends with the pod's threads still running: nothing is tidied up.
        End::Killed => std::process::exit(KILLED.into()),
    }
}
