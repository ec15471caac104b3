//! What shapes a pod, and the parts of it that engines and publishers get.

use std::sync::Arc;

use anyhow::Context;

use crate::driver::Pace;
use crate::engine::{BlockHasher, EngineConfig, HashAlgorithm, Limits, StepTime};
use crate::model::PodModel;
use crate::publisher::{EventsAt, PublisherConfig};
use crate::wire::{HashForm, Layout, Translator};

/// Everything that shapes a pod.
#[derive(Clone)]
pub struct PodConfig {
    /// The model; may be shared between pods.
    pub model: Arc<PodModel>,
    /// `host:port` of the HTTP server; port 0 takes a free one.
    pub listen: String,
    /// Rank 0's PUB socket; none: no events. Rank r binds r ports higher.
    pub events: Option<EventsAt>,
    /// Rank 0's ROUTER socket. Rank r binds r ports higher.
    pub replay: Option<String>,
    /// Topic of events.
    pub topic: String,
    /// Release to look like on the wire.
    pub wire: Layout,
    /// How hashes are sent.
    pub hash_form: HashForm,
    /// How blocks are hashed.
    pub hash_algorithm: HashAlgorithm,
    /// Where the first block's parent comes from.
    pub none_hash: NoneHash,
    /// Tokens per block.
    pub block_size: usize,
    /// KV blocks per rank.
    pub gpu_blocks: usize,
    /// Limits of a step.
    pub limits: Limits,
    /// How long steps take.
    pub step_time: StepTime,
    /// How engine time passes.
    pub pace: Pace,
    /// Engines behind the one HTTP server.
    pub data_parallel: u32,
    /// Batches kept for replay.
    pub buffer_steps: usize,
    /// Output length of chats that name none (vLLM: all that is left of the context).
    pub chat_output_tokens: usize,
}

/// Where the parent of first blocks comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoneHash {
    /// As the release does: random up to vLLM 0.28, a fixed seed after.
    Release,
    /// New with every start.
    Random,
    /// From this seed (`PYTHONHASHSEED`).
    Seed(String),
}

/// vLLM's default for `buffer_steps`.
pub const BUFFER_STEPS: usize = 10_000;
/// A pod of the published reference: 307,328 tokens of KV in blocks of 64.
pub const GPU_BLOCKS: usize = 4802;

impl PodConfig {
    /// vLLM 0.33 with the reference's cache, everything on free loopback ports.
    pub fn new(model: Arc<PodModel>) -> Self {
        Self {
            model,
            listen: "127.0.0.1:0".to_owned(),
            events: Some(EventsAt::Bind("127.0.0.1:0".to_owned())),
            replay: Some("127.0.0.1:0".to_owned()),
            topic: String::new(),
            wire: Layout::vllm("vllm-0.33", 33, 0),
            hash_form: HashForm::Int,
            hash_algorithm: HashAlgorithm::Sha256,
            none_hash: NoneHash::Release,
            block_size: 64,
            gpu_blocks: GPU_BLOCKS,
            limits: Limits::default(),
            step_time: StepTime::QWEN3_32B_2XH100,
            pace: Pace::Scale(1.0),
            data_parallel: 1,
            buffer_steps: BUFFER_STEPS,
            chat_output_tokens: 128,
        }
    }

    /// One rank's engine.
    pub(crate) fn engine(&self, none_hash: &NoneHash) -> anyhow::Result<EngineConfig> {
        let algorithm = self.hash_algorithm;
        let seeded = |seed: &str| algorithm.none_hash(seed);
        let none = match none_hash {
            NoneHash::Seed(seed) => seeded(seed),
            NoneHash::Release if self.wire.fixed_none_hash => seeded(crate::engine::hash::NONE_HASH_SEED),
            NoneHash::Release | NoneHash::Random => {
                let mut seed = [0; 16];
                getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
                seeded(&format!("{:032x}", u128::from_ne_bytes(seed)))
            }
        };
        Ok(EngineConfig {
            block_size: self.block_size,
            gpu_blocks: self.gpu_blocks,
            limits: self.limits,
            step_time: self.step_time,
            hasher: BlockHasher::new(algorithm, self.wire.extra_form, none),
            events: self.events.is_some(),
            output_vocabulary: self.model.output_vocabulary(),
        })
    }

    /// One rank's publisher.
    pub(crate) fn publisher(&self, rank: u32) -> anyhow::Result<Option<PublisherConfig>> {
        let Some(events) = &self.events else { return Ok(None) };
        let events = match events {
            EventsAt::Bind(address) => EventsAt::Bind(with_rank(address, rank)?),
            EventsAt::Connect(endpoint) => EventsAt::Connect(endpoint.clone()),
        };
        let layout = self.wire.clone();
        Ok(Some(PublisherConfig {
            events,
            replay: self.replay.as_deref().map(|address| with_rank(address, rank)).transpose()?,
            topic: self.topic.clone(),
            buffer: self.buffer_steps,
            rank,
            translator: Translator { layout, hash_form: self.hash_form, block_size: self.block_size },
        }))
    }
}

fn with_rank(address: &str, rank: u32) -> anyhow::Result<String> {
    let (host, port) = address.rsplit_once(':').with_context(|| format!("{address:?} is not host:port"))?;
    let port: u16 = port.parse().with_context(|| format!("{address:?} is not host:port"))?;
    let port = if port == 0 { 0 } else { u32::from(port) + rank };
    Ok(format!("{host}:{port}"))
}
