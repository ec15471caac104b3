//! A real vLLM server on this machine's CPU. Its weights are noise; what it caches, counts and publishes is real.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};
use zeromq::{DealerSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use crate::client::Client;
use crate::process::Process;

/// Longest start: 35 to 80 s were seen for one server alone, 230 s on a machine that compiled at the same time.
const START_LIMIT: Duration = Duration::from_secs(600);
/// Pause between two looks at a server that starts.
const START_POLL: Duration = Duration::from_millis(500);
/// Longest replay: the publisher's thread looks for requests ten times a second.
const REPLAY_LIMIT: Duration = Duration::from_secs(10);
/// Sequence number of the message that ends a replay (`ZmqEventPublisher.END_SEQ`: -1).
const REPLAY_END: u64 = u64::MAX;

/// Runs vLLM in the process group of this shell and ends it when the shell or the shell's parent is gone: SIGTERM
/// first, so that engine, workers and shared memory go in order, then SIGKILL to the group. vLLM starts processes
/// of its own, which outlive it when only its pid is killed.
const GUARD: &str = r#"
"$@" & server=$!
(while kill -0 $$ && kill -0 $PPID; do sleep 1; done 2>/dev/null; kill -TERM $server; sleep 10; kill -KILL 0) &
wait $server
"#;

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct VllmSetup<'a> {
    /// Interpreter of an environment that has vLLM.
    pub python: &'a Path,
    /// Directory with `config.json`, the tokenizer's files and the chat template; no weights.
    pub model: &'a Path,
    /// Name that requests call it by.
    pub served_name: &'a str,
    /// Tokens per block; on CPU a multiple of 32.
    pub block_tokens: u32,
    /// Blocks of the cache. vLLM keeps one of them for itself (the null block).
    pub gpu_blocks: u32,
    /// Longest request in tokens; must fit into the blocks that are left.
    pub max_model_len: u32,
}

/// vLLM's own counters of its prefix cache, in tokens (`vllm:prefix_cache_*_total`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixCache {
    /// Prompt tokens that were looked up.
    pub queries: u64,
    /// Those that were found.
    pub hits: u64,
    /// Requests that lost their blocks to others while running; their prompts may have been looked up twice.
    pub preemptions: u64,
}

/// A started server; dropping it ends it.
#[derive(Debug)]
pub struct Vllm {
    process: Process,
    client: Client,
    events: SocketAddr,
    replay: SocketAddr,
}

impl Vllm {
    /// Start a server on loopback, its output going to `NAME.stdout` and `NAME.stderr` in `directory`, and wait until it
    /// is healthy.
    ///
    /// # Errors
    /// When it does not get there; with the end of its logs.
    pub async fn start(setup: &VllmSetup<'_>, name: &str, directory: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut process = Process::start(name, command(setup, address), directory)?;
        let client = Client::http1(address);
        process
            .wait_until("GET /health", START_LIMIT, async || {
                let healthy = client.get("/health").await.is_ok_and(|answer| answer.status.is_success());
                if !healthy {
                    tokio::time::sleep(START_POLL).await;
                }
                healthy
            })
            .await?;
        let sources = client.get("/kv_event_sources").await?.ok()?.json()?;
        let port = |key: &str| {
            let endpoint = sources["0"][key].as_str().unwrap_or_default();
            let address = endpoint.strip_prefix("tcp://").unwrap_or_default().parse::<SocketAddr>();
            address.with_context(|| format!("/kv_event_sources: no address in 0.{key}: {sources}"))
        };
        Ok(Vllm { process, events: port("endpoint")?, replay: port("replay_endpoint")?, client })
    }

    /// Where it serves HTTP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.client.address()
    }

    /// Its PUB socket.
    #[must_use]
    pub fn events(&self) -> SocketAddr {
        self.events
    }

    /// Its replay socket.
    #[must_use]
    pub fn replay(&self) -> SocketAddr {
        self.replay
    }

    /// A client to the server itself, past Envoy.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The prefix cache's counters. They are complete for every request that has been answered.
    ///
    /// # Errors
    /// When the server has ended or does not answer.
    pub async fn prefix_cache(&mut self) -> Result<PrefixCache> {
        self.process.check_running()?;
        let metrics = self.client.metrics("/metrics").await?;
        let tokens = |name: &str| {
            ensure!(metrics.series(name).next().is_some(), "vLLM has no metric {name}");
            Ok(metrics.sum(name) as u64)
        };
        Ok(PrefixCache {
            queries: tokens("vllm:prefix_cache_queries_total")?,
            hits: tokens("vllm:prefix_cache_hits_total")?,
            preemptions: tokens("vllm:num_preemptions_total")?,
        })
    }

    /// Batches of events that its publisher has sent, of which `known` are known already: asked of its replay socket.
    ///
    /// Complete for every request that has been answered: the engine queues a step's events before it gives out the
    /// step's tokens. The publisher's thread takes one batch from that queue between two replays, so it is asked
    /// until an answer brings nothing new.
    ///
    /// # Errors
    /// When the replay socket does not answer in time.
    pub async fn published(&self, known: u64) -> Result<u64> {
        let endpoint = format!("tcp://{}", self.replay);
        match tokio::time::timeout(REPLAY_LIMIT, replay_to_end(&endpoint, known)).await {
            Ok(result) => result.with_context(|| format!("replay from {endpoint}")),
            Err(_) => bail!("no complete replay from {endpoint} within {REPLAY_LIMIT:?}"),
        }
    }

    /// Empty its prefix cache. The event for it is published with the next request's first step.
    ///
    /// # Errors
    /// When it refuses: blocks are in use.
    pub async fn reset_prefix_cache(&self) -> Result<()> {
        let answer = self.client.post_json("/reset_prefix_cache", &json!({})).await?.ok()?.json()?;
        ensure!(answer["success"] == Value::Bool(true), "/reset_prefix_cache: {answer}");
        Ok(())
    }
}

/// Replays from `start` on until one brings nothing: the sequence number after the last one that came.
async fn replay_to_end(endpoint: &str, start: u64) -> Result<u64> {
    let mut socket = DealerSocket::new();
    socket.connect(endpoint).await?;
    let mut next = replay(&mut socket, start).await?;
    loop {
        let again = replay(&mut socket, next).await?;
        if again == next {
            return Ok(next);
        }
        next = again;
    }
}

/// One replay from `start` on: the sequence number after the last one that came. Replies are read from their end,
/// since older publishers send one frame less in front.
async fn replay(socket: &mut DealerSocket, start: u64) -> Result<u64> {
    let mut request = ZmqMessage::from(Bytes::new());
    request.push_back(Bytes::copy_from_slice(&start.to_be_bytes()));
    socket.send(request).await?;
    let mut next = start;
    loop {
        let frames = socket.recv().await?.into_vec();
        let sequence = frames.len().checked_sub(2).and_then(|at| <[u8; 8]>::try_from(&frames[at][..]).ok());
        match sequence.map(u64::from_be_bytes) {
            Some(REPLAY_END) => return Ok(next),
            Some(sequence) => next = sequence + 1,
            None => bail!("a replay message without a sequence number: {} frames", frames.len()),
        }
    }
}

fn command(setup: &VllmSetup<'_>, address: SocketAddr) -> Command {
    // With `*:0` it binds a free port of VLLM_HOST_IP and tells it on /kv_event_sources (vLLM 0.31 and newer).
    let events = json!({
        "enable_kv_cache_events": true, "publisher": "zmq", "endpoint": "tcp://*:0", "replay_endpoint": "tcp://*:0",
    });
    let environment = [
        ("VLLM_HOST_IP", "127.0.0.1"),
        ("VLLM_CPU_KVCACHE_SPACE", "1"),
        ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
        ("OMP_NUM_THREADS", "1"),
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_OFFLINE", "1"),
        ("VLLM_NO_USAGE_STATS", "1"),
        // Without it there is no /reset_prefix_cache.
        ("VLLM_SERVER_DEV_MODE", "1"),
    ];
    let mut command = Command::new("sh");
    command
        .process_group(0)
        .envs(environment)
        .args(["-c", GUARD, "vllm"])
        .arg(setup.python)
        .args(["-m", "vllm.entrypoints.openai.api_server"])
        .args(["--load-format", "dummy", "--enforce-eager", "--enable-prefix-caching"])
        .arg("--model")
        .arg(setup.model)
        .args(["--served-model-name", setup.served_name])
        .args(["--block-size", &setup.block_tokens.to_string()])
        .args(["--num-gpu-blocks-override", &setup.gpu_blocks.to_string()])
        .args(["--max-model-len", &setup.max_model_len.to_string()])
        .args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()])
        .args(["--kv-events-config", &events.to_string()]);
    command
}

/// An address that was free a moment ago: vLLM does not tell the port that it gets for 0.
fn free_address() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("binding a free port")?;
    listener.local_addr().context("asking for the bound address")
}
