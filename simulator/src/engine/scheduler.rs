//! Which requests compute how many tokens in a step.
//!
//! vLLM V1's rules (`vllm/v1/core/sched/scheduler.py`, first come first served): a token budget per step; running
//! requests first, one token each or the next chunk of their prefill; then waiting ones in order, each with its
//! cached leading blocks, as long as blocks can be had; when a running request finds no block, the newest running one
//! is preempted and recomputed later.
//! A step costs O(running sequences + blocks touched).

use std::collections::VecDeque;

use super::cache::Cache;
use super::sequence::{RequestId, Sequence};
use super::step_time::Work;

/// Limits of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Tokens per step (`--max-num-batched-tokens`).
    pub tokens: usize,
    /// Running requests (`--max-num-seqs`).
    pub sequences: usize,
}

impl Default for Limits {
    /// vLLM's defaults for serving on H100.
    fn default() -> Self {
        Self { tokens: 8192, sequences: 1024 }
    }
}

/// Requests in the order in which they are served.
#[derive(Debug)]
pub(super) struct Scheduler {
    /// Oldest first.
    pub(super) running: Vec<Sequence>,
    pub(super) waiting: VecDeque<Sequence>,
    limits: Limits,
}

/// What was decided for one step.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) work: Work,
    /// First admissions with the prompt tokens found in cache.
    pub(super) admitted: Vec<(RequestId, usize)>,
    pub(super) preempted: usize,
}

impl Scheduler {
    pub(super) fn new(limits: Limits) -> Self {
        Self { running: Vec::new(), waiting: VecDeque::new(), limits }
    }

    /// Plans a step: afterwards `scheduled` of every running sequence says how many tokens it computes.
    pub(super) fn schedule(&mut self, cache: &mut Cache) -> Schedule {
        let mut schedule = Schedule::default();
        let mut budget = self.limits.tokens;
        self.schedule_running(cache, &mut budget, &mut schedule);
        if schedule.preempted == 0 {
            self.schedule_waiting(cache, &mut budget, &mut schedule);
        }
        schedule.work = self.work(cache);
        schedule
    }

    fn schedule_running(&mut self, cache: &mut Cache, budget: &mut usize, schedule: &mut Schedule) {
        let mut at = 0;
        while at < self.running.len() && *budget > 0 {
            let sequence = &self.running[at];
            let tokens = (sequence.tokens() - sequence.computed).min(*budget);
            let blocks = cache.blocks_missing(sequence, tokens);
            while blocks > cache.pool.free() && self.running.len() > at {
                self.preempt_newest(cache);
                schedule.preempted += 1;
            }
            let Some(sequence) = self.running.get_mut(at) else { break };
            cache.grow(sequence, tokens);
            *budget -= tokens;
            at += 1;
        }
        for sequence in self.running.iter_mut().skip(at) {
            sequence.scheduled = 0;
        }
    }

    fn preempt_newest(&mut self, cache: &mut Cache) {
        if let Some(mut sequence) = self.running.pop() {
            cache.release(&mut sequence);
            self.waiting.push_front(sequence);
        }
    }

    fn schedule_waiting(&mut self, cache: &mut Cache, budget: &mut usize, schedule: &mut Schedule) {
        while *budget > 0 && self.running.len() < self.limits.sequences {
            let Some(sequence) = self.waiting.front() else { break };
            let hits = cache.reusable(sequence);
            let computed = hits.len() * cache.block_size;
            let tokens = (sequence.tokens() - computed).min(*budget);
            let blocks = (computed + tokens).div_ceil(cache.block_size) - hits.len();
            // Reused blocks that nobody holds leave the free list as well.
            if blocks + cache.pool.free_among(&hits) > cache.pool.free() {
                break;
            }
            let Some(mut sequence) = self.waiting.pop_front() else { break };
            cache.reuse(&mut sequence, hits);
            cache.grow(&mut sequence, tokens);
            if sequence.cached_tokens.is_none() {
                sequence.cached_tokens = Some(computed);
                schedule.admitted.push((sequence.id, computed));
            }
            *budget -= tokens;
            self.running.push(sequence);
        }
    }

    /// The planned step's work. Only full blocks are shared, so distinct tokens are the blocks in use less the unused
    /// ends of each sequence's last block.
    fn work(&self, cache: &Cache) -> Work {
        let mut work = Work::default();
        let mut unused = 0;
        for sequence in &self.running {
            let context = sequence.computed + sequence.scheduled;
            unused += sequence.blocks.len() * cache.block_size - context;
            if sequence.scheduled == 0 {
                continue;
            }
            work.kv_tokens_summed += context;
            if sequence.is_decoding() {
                work.decoding += 1;
            } else {
                work.prefill_tokens += sequence.scheduled;
            }
        }
        work.kv_tokens_distinct = cache.pool.used() * cache.block_size - unused;
        work
    }
}
