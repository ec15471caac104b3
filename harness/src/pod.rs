//! A simulated pod, and what the sidecar has to know of any pod.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::client::Client;
use crate::metrics::Metrics;
use crate::model::ModelFiles;
use crate::process::Process;

/// Time to the line that says where it listens (it loads a tokenizer first).
const START_LIMIT: Duration = Duration::from_secs(120);

/// An entry of the sidecar's endpoints file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where Envoy sends requests.
    pub address: SocketAddr,
    /// Name of the model.
    pub model: String,
    /// `host:port` of the event socket of rank 0.
    pub events: String,
    /// `host:port` of the replay socket of rank 0.
    pub replay: Option<String>,
    /// Data-parallel ranks behind the address.
    pub ranks: u32,
}

impl Endpoint {
    /// As it stands in the endpoints file.
    #[must_use]
    pub fn entry(&self) -> Value {
        json!({
            "address": self.address.to_string(),
            "model": self.model,
            "events": self.events,
            "replay": self.replay,
            "data_parallel_ranks": self.ranks,
        })
    }
}

/// How a simulated pod differs from the default.
#[derive(Debug, Clone)]
pub struct PodOptions {
    /// Blocks in its cache.
    pub gpu_blocks: u32,
    /// Duration of its steps, as a multiple of the step model's.
    pub time_scale: f64,
    /// Answers without any waiting.
    pub instant: bool,
    /// Data-parallel ranks behind its HTTP port.
    pub ranks: u32,
    /// Layout of its events, as the simulator names them; its default when none.
    pub wire: Option<String>,
    /// Further arguments of the simulator.
    pub arguments: Vec<String>,
}

impl Default for PodOptions {
    fn default() -> Self {
        PodOptions {
            gpu_blocks: 1024,
            time_scale: 1.0,
            instant: true,
            ranks: 1,
            wire: None,
            arguments: Vec::new(),
        }
    }
}

/// A running simulator.
#[derive(Debug)]
pub struct Pod {
    name: String,
    process: Process,
    endpoint: Endpoint,
    replay: String,
    model: ModelFiles,
    options: PodOptions,
}

/// A loopback address for one pod, where the system has many: while the pod is killed, nobody else gets its ports.
fn own_address() -> Ipv4Addr {
    static PODS: AtomicU8 = AtomicU8::new(0);
    if cfg!(not(target_os = "linux")) {
        return Ipv4Addr::LOCALHOST;
    }
    let [low, high, ..] = std::process::id().to_le_bytes();
    // From 2 to 254.
    Ipv4Addr::new(127, high, low, 2 + PODS.fetch_add(1, Ordering::Relaxed) % 253)
}

impl Pod {
    /// Start a pod on free ports.
    ///
    /// # Errors
    /// When it cannot be started or is not ready in time, with the end of its logs.
    pub async fn start(
        simulator: &Path,
        name: &str,
        model: &ModelFiles,
        options: &PodOptions,
        directory: &Path,
    ) -> Result<Self> {
        let any = format!("{}:0", own_address());
        let (process, [listen, events, replay]) =
            spawn(simulator, name, model, options, directory, [&any, &any, &any]).await?;
        let address = listen.parse().with_context(|| format!("{name} listens on {listen:?}"))?;
        let (model_name, ranks) = (model.name.clone(), options.ranks);
        let endpoint = Endpoint { address, model: model_name, events, replay: Some(replay.clone()), ranks };
        Ok(Pod {
            name: name.to_owned(),
            process,
            endpoint,
            replay,
            model: model.clone(),
            options: options.clone(),
        })
    }

    /// Kill it when it runs, and start it again on the same ports, with an empty cache.
    ///
    /// # Errors
    /// As [`Pod::start`].
    pub async fn restart(&mut self, simulator: &Path, directory: &Path) -> Result<()> {
        self.process.kill();
        // Another log file: the line that says where it listens must be the new one.
        self.name.push_str("-again");
        let address = self.endpoint.address.to_string();
        let ports = [address.as_str(), &self.endpoint.events, &self.replay];
        (self.process, _) =
            spawn(simulator, &self.name, &self.model, &self.options, directory, ports).await?;
        Ok(())
    }

    /// What the sidecar has to know of it.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where it serves HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Straight to the pod, past Envoy.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::http1(self.address())
    }

    /// Its own metrics, by vLLM's names.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<Metrics> {
        self.client().metrics("/metrics").await
    }
}

async fn spawn(
    simulator: &Path,
    name: &str,
    model: &ModelFiles,
    options: &PodOptions,
    directory: &Path,
    [listen, events, replay]: [&str; 3],
) -> Result<(Process, [String; 3])> {
    let mut command = Command::new(simulator);
    command.args(["--listen", listen, "--events", events, "--replay", replay]);
    command.args(["--model", &model.name, "--block-size", &model.block_tokens.to_string()]);
    command.arg("--tokenizer").arg(&model.tokenizer).arg("--chat-template").arg(&model.chat_template);
    command.arg("--tokenizer-config").arg(&model.tokenizer_config).arg("--model-config").arg(&model.config);
    command.args(["--max-model-len", &model.max_model_len.to_string()]);
    command.args(["--gpu-blocks", &options.gpu_blocks.to_string()]);
    command.args(["--time-scale", &options.time_scale.to_string()]);
    command.args(options.instant.then_some("--instant"));
    command.args(["--data-parallel-size", &options.ranks.to_string()]);
    if let Some(wire) = &options.wire {
        command.args(["--wire", wire]);
    }
    command.args(&options.arguments);
    let mut process = Process::start(name, command, directory)?;
    let bound = process
        .wait_for_line(START_LIMIT, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let address = |key: &str| Some(line[key].as_str()?.trim_start_matches("tcp://").to_owned());
            Some([address("listen")?, address("events")?, address("replay")?])
        })
        .await?;
    Ok((process, bound))
}
