//! The engine as a pure state machine: requests in, steps out. No I/O, no clock, no threads.
//!
//! A driver submits requests and calls [`Engine::step`] again and again; each step says how long it takes and what is
//! known when it ends. In real time the driver sleeps that long, in virtual time it adds the duration to its clock.

pub mod blocks;
mod cache;
pub mod event;
pub mod hash;
mod scheduler;
mod sequence;
mod serialise;
pub mod step_time;

use std::sync::Arc;
use std::time::Duration;

pub use event::{Event, Scope, Stored};
pub use hash::{BlockHasher, Digest, ExtraForm, HashAlgorithm, Lora};
pub use scheduler::Limits;
pub use sequence::{EngineRequest, RequestId};
pub use step_time::{StepTime, Work};

use blocks::BlockPool;
use cache::Cache;
use scheduler::Scheduler;
use sequence::Sequence;

/// Everything that shapes an engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Tokens per block.
    pub block_size: usize,
    /// KV blocks (`num_gpu_blocks`). One of them is vLLM's null block and holds nothing.
    pub gpu_blocks: usize,
    /// Limits of a step.
    pub limits: Limits,
    /// How long steps take.
    pub step_time: StepTime,
    /// Hashes blocks.
    pub hasher: BlockHasher,
    /// Whether steps carry events; off, they cost nothing.
    pub events: bool,
    /// Token ids that made-up output is drawn from; not empty.
    pub output_vocabulary: Arc<[u32]>,
}

/// Why a request is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubmitError {
    /// Nothing to compute or nothing to generate.
    #[error("a request needs at least one prompt token and one output token")]
    Empty,
    /// Prompt and output together can never fit.
    #[error("{tokens} tokens of prompt and output do not fit into {capacity} tokens of KV cache")]
    TooLong {
        /// Tokens of prompt and output.
        tokens: usize,
        /// Tokens that the whole cache holds.
        capacity: usize,
    },
}

/// What is known at the end of a step.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct StepOutcome {
    /// How long the step takes.
    pub duration: Duration,
    /// One new token for each of these requests.
    pub tokens: Vec<(RequestId, u32)>,
    /// Requests that ran for the first time, with the number of prompt tokens found in the cache.
    pub admitted: Vec<(RequestId, usize)>,
    /// Requests that got their last token.
    pub finished: Vec<RequestId>,
    /// Requests thrown back to be recomputed.
    pub preempted: usize,
    /// Changes of the prefix cache, in order; one batch on the wire.
    pub events: Vec<Event>,
    /// What was computed.
    pub work: Work,
}

/// One engine (one data-parallel rank).
#[derive(Debug)]
pub struct Engine {
    scheduler: Scheduler,
    cache: Cache,
    hasher: BlockHasher,
    step_time: StepTime,
    output_vocabulary: Arc<[u32]>,
    next_id: u64,
}

impl Engine {
    /// An idle engine with an empty cache.
    pub fn new(config: EngineConfig) -> Self {
        let usable = config.gpu_blocks.saturating_sub(1);
        Self {
            scheduler: Scheduler::new(config.limits),
            cache: Cache::new(usable, config.block_size, config.events),
            hasher: config.hasher,
            step_time: config.step_time,
            output_vocabulary: config.output_vocabulary,
            next_id: 0,
        }
    }

    /// Queues a request.
    pub fn submit(&mut self, request: EngineRequest) -> Result<RequestId, SubmitError> {
        if request.prompt.is_empty() || request.output_tokens == 0 {
            return Err(SubmitError::Empty);
        }
        let tokens = request.prompt.len() + request.output_tokens;
        let capacity = self.capacity();
        if tokens > capacity {
            return Err(SubmitError::TooLong { tokens, capacity });
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        let mut sequence = Sequence::new(id, request, &self.output_vocabulary);
        sequence.extend_digests(self.cache.block_size, &mut self.hasher);
        self.scheduler.waiting.push_back(sequence);
        Ok(id)
    }

    /// Runs one step; none while there is nothing to do.
    pub fn step(&mut self) -> Option<StepOutcome> {
        if self.scheduler.running.is_empty() && self.scheduler.waiting.is_empty() {
            return None;
        }
        let schedule = self.scheduler.schedule(&mut self.cache);
        let mut outcome = StepOutcome {
            duration: self.step_time.duration(&schedule.work),
            admitted: schedule.admitted,
            preempted: schedule.preempted,
            events: self.cache.take_events(),
            work: schedule.work,
            ..StepOutcome::default()
        };
        self.compute(&mut outcome);
        Some(outcome)
    }

    /// Drops a request whose client has gone; `false` if it is not here (any more).
    pub fn abort(&mut self, id: RequestId) -> bool {
        if let Some(at) = self.scheduler.running.iter().position(|sequence| sequence.id == id) {
            let mut sequence = self.scheduler.running.remove(at);
            self.cache.release(&mut sequence);
            return true;
        }
        let before = self.scheduler.waiting.len();
        self.scheduler.waiting.retain(|sequence| sequence.id != id);
        self.scheduler.waiting.len() < before
    }

    /// Empties the prefix cache (`/reset_prefix_cache`); `false` while requests hold blocks. As in vLLM the event goes
    /// out with the next step that runs.
    pub fn reset_prefix_cache(&mut self) -> bool {
        self.cache.reset()
    }

    /// Requests that compute.
    pub fn running(&self) -> usize {
        self.scheduler.running.len()
    }

    /// Requests that wait for admission.
    pub fn waiting(&self) -> usize {
        self.scheduler.waiting.len()
    }

    /// The blocks, for looking at.
    pub fn pool(&self) -> &BlockPool {
        &self.cache.pool
    }

    /// Tokens that the whole cache holds.
    pub fn capacity(&self) -> usize {
        self.cache.pool.total() * self.cache.block_size
    }

    /// Share of the blocks that requests hold, 0 to 1 (`vllm:kv_cache_usage_perc`).
    pub fn usage(&self) -> f64 {
        self.cache.pool.used() as f64 / self.cache.pool.total().max(1) as f64
    }

    /// Carries out what was scheduled: sequences that have computed all their tokens get the next one.
    fn compute(&mut self, outcome: &mut StepOutcome) {
        let (cache, hasher) = (&mut self.cache, &mut self.hasher);
        for sequence in self.scheduler.running.iter_mut().filter(|sequence| sequence.scheduled > 0) {
            sequence.computed += sequence.scheduled;
            sequence.scheduled = 0;
            if sequence.computed < sequence.tokens() {
                continue;
            }
            outcome.tokens.push((sequence.id, sequence.sample()));
            if sequence.outputs == sequence.request.output_tokens {
                outcome.finished.push(sequence.id);
                cache.release(sequence);
            } else {
                sequence.extend_digests(cache.block_size, hasher);
            }
        }
        if !outcome.finished.is_empty() {
            self.scheduler.running.retain(|sequence| sequence.outputs < sequence.request.output_tokens);
        }
    }
}
