//! Command line options.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use warmpath_simulator::config::{BUFFER_STEPS, GPU_BLOCKS};
use warmpath_simulator::driver::Pace;
use warmpath_simulator::engine::{HashAlgorithm, Limits};
use warmpath_simulator::model::{ModelConfig, PodModel};
use warmpath_simulator::publisher::EventsAt;
use warmpath_simulator::wire::{HashForm, Layout};
use warmpath_simulator::{NoneHash, PodConfig};

/// A vLLM look-alike: prefix caching, KV events, metrics and latency of a pod, without a GPU or weights.
///
/// Prints one line of JSON when it is ready. Failure switches: POST /sim/kill, /sim/hang?for=5s, /sim/release,
/// /sim/restart, /sim/drop-events?n=3, /sim/pause-events, /sim/resume-events; GET /sim/state.
#[derive(Parser, Debug)]
#[command(version)]
pub(crate) struct Options {
    /// HTTP address; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8000")]
    listen: String,
    /// Address of the KV events' PUB socket; data-parallel rank r binds r ports higher
    #[arg(long, default_value = "127.0.0.1:5557")]
    events: String,
    /// Central endpoint that the PUB socket connects to (tcp://host:port); then --events does not count
    #[arg(long)]
    events_connect: Option<String>,
    /// Publish no events
    #[arg(long)]
    no_events: bool,
    /// Address of the replay socket; none without it
    #[arg(long)]
    replay: Option<String>,
    /// Topic of events
    #[arg(long, default_value = "")]
    topic: String,
    /// Batches kept for replay
    #[arg(long, default_value_t = BUFFER_STEPS)]
    buffer_steps: usize,
    /// Release to look like on the wire: vllm-0.10.0 to vllm-0.33, sglang, sglang-array
    #[arg(long, default_value = "vllm-0.33")]
    wire: Layout,
    /// How events hold hashes
    #[arg(long, value_enum, default_value = "int")]
    event_hashes: HashForm,
    /// How blocks are hashed
    #[arg(long, value_enum, default_value = "sha256")]
    prefix_caching_hash_algo: HashAlgorithm,
    /// Seed of the first block's parent (PYTHONHASHSEED), or `random`; by default as the release does
    #[arg(long)]
    hash_seed: Option<String>,
    /// Name of the model
    #[arg(long, default_value = "demo")]
    model: String,
    /// Hugging Face tokenizer.json
    #[arg(long)]
    tokenizer: PathBuf,
    /// tokenizer_config.json
    #[arg(long)]
    tokenizer_config: Option<PathBuf>,
    /// The model's config.json
    #[arg(long)]
    model_config: Option<PathBuf>,
    /// Jinja chat template
    #[arg(long)]
    chat_template: Option<PathBuf>,
    /// LoRA adapter; may be given several times
    #[arg(long = "lora-adapter")]
    lora_adapters: Vec<String>,
    /// Longest prompt and output together, in tokens
    #[arg(long, default_value_t = 16384)]
    max_model_len: u32,
    /// Tokens per KV block
    #[arg(long, default_value_t = 64)]
    block_size: usize,
    /// KV blocks per data-parallel rank
    #[arg(long, default_value_t = GPU_BLOCKS)]
    gpu_blocks: usize,
    /// Tokens per engine step
    #[arg(long, default_value_t = Limits::default().tokens)]
    max_num_batched_tokens: usize,
    /// Requests that run at once
    #[arg(long, default_value_t = Limits::default().sequences)]
    max_num_seqs: usize,
    /// Engines behind the HTTP server
    #[arg(long, default_value_t = 1)]
    data_parallel_size: u32,
    /// Tokens of a chat answer where the request does not say
    #[arg(long, default_value_t = 128)]
    chat_output_tokens: usize,
    /// Real seconds per engine second: 0.1 is ten times faster
    #[arg(long, default_value_t = 1.0)]
    time_scale: f64,
    /// Steps take no time; then --time-scale does not count
    #[arg(long)]
    instant: bool,
}

impl Options {
    /// Loads the model and checks what clap cannot.
    pub(crate) fn pod_config(self) -> anyhow::Result<PodConfig> {
        let at_least_one = [
            ("--block-size", self.block_size),
            ("--max-num-batched-tokens", self.max_num_batched_tokens),
            ("--max-num-seqs", self.max_num_seqs),
            ("--data-parallel-size", self.data_parallel_size as usize),
            ("--chat-output-tokens", self.chat_output_tokens),
        ];
        for (option, value) in at_least_one {
            anyhow::ensure!(value > 0, "{option} must be at least 1");
        }
        anyhow::ensure!(self.gpu_blocks > 1, "--gpu-blocks must be at least 2: one block is reserved");
        anyhow::ensure!(
            self.time_scale.is_finite() && self.time_scale >= 0.0,
            "--time-scale must be a number from 0 on"
        );
        anyhow::ensure!(
            self.event_hashes == HashForm::Int || self.wire.byte_hashes,
            "--event-hashes bytes: {} sends integers only",
            self.wire.name
        );
        let events = match self.events_connect {
            Some(endpoint) => EventsAt::Connect(endpoint),
            None => EventsAt::Bind(self.events),
        };
        let model = PodModel::load(ModelConfig {
            name: self.model,
            tokenizer: self.tokenizer,
            tokenizer_config: self.tokenizer_config,
            config: self.model_config,
            chat_template: self.chat_template,
            lora_adapters: self.lora_adapters,
            max_model_len: self.max_model_len,
        })?;
        Ok(PodConfig {
            listen: self.listen,
            events: (!self.no_events).then_some(events),
            replay: self.replay,
            topic: self.topic,
            wire: self.wire,
            hash_form: self.event_hashes,
            hash_algorithm: self.prefix_caching_hash_algo,
            none_hash: match self.hash_seed.as_deref() {
                None => NoneHash::Release,
                Some("random") => NoneHash::Random,
                Some(seed) => NoneHash::Seed(seed.to_owned()),
            },
            block_size: self.block_size,
            gpu_blocks: self.gpu_blocks,
            limits: Limits { tokens: self.max_num_batched_tokens, sequences: self.max_num_seqs },
            pace: if self.instant { Pace::Instant } else { Pace::Scale(self.time_scale) },
            data_parallel: self.data_parallel_size,
            buffer_steps: self.buffer_steps,
            chat_output_tokens: self.chat_output_tokens,
            ..PodConfig::new(Arc::new(model))
        })
    }
}
