//! Blocks that are on their way: a pick marks its request's blocks as coming on the endpoint that it chose.
//!
//! Until the engine tells of them, seconds pass, and a burst of requests with one new prefix would be spread over all
//! pods. So each endpoint has a second holder in the chains for what recent picks will make it hold. Marks are never
//! mixed with what is proven: a lookup tells both lengths, and the order says what each is worth (`pick/order.rs`).
//! The engine's own event credits the proven holder and leaves the mark alone; the mark's deadline ends it, confirmed
//! or not. A block that is marked already keeps its deadline. Marks take what is free in the byte budget, and nothing
//! is evicted for them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use warmpath_core::block::BlockKey;

use super::chains::{BlockRef, Chains, Holder, Matches};

/// Most blocks of one pick that are marked: a prompt of 131,072 tokens at 16 in a block.
pub const PICK_BLOCKS_MAX: usize = 8192;

/// Most blocks that are marked at a time, for one model: at some 10 bytes each 10 MB, two seconds of 1,000 picks with
/// 500 new blocks each.
pub const BLOCKS_MAX: usize = 1_000_000;

/// One pick's new marks: runs of blocks, each by its last block and its length.
struct Marks {
    deadline: Instant,
    holder: Holder,
    runs: Vec<(BlockRef, u32)>,
}

#[derive(Default)]
struct State {
    holders: HashMap<Arc<str>, Holder>,
    /// By deadline.
    marks: VecDeque<Marks>,
    blocks: usize,
}

/// What is coming, by endpoint of one model.
pub struct Speculation {
    duration: Duration,
    state: Mutex<State>,
}

impl Speculation {
    /// Nothing is coming; marks last `duration`, or are not made at all when it is 0.
    pub fn new(duration: Duration) -> Self {
        Self { duration, state: Mutex::default() }
    }

    /// Marks `keys`, a prompt's leading blocks, as coming on the endpoint `address`. False: not all of them, because
    /// as many are marked as may be.
    pub fn mark(&self, chains: &Chains, address: &Arc<str>, keys: &[BlockKey], now: Instant) -> bool {
        if self.duration.is_zero() || keys.is_empty() {
            return true;
        }
        let mut state = self.lock();
        let holder = match state.holders.get(address) {
            Some(holder) => *holder,
            None => {
                let Some(holder) = chains.add_holder() else { return false };
                state.holders.insert(Arc::clone(address), holder);
                holder
            }
        };
        let wanted = keys.len().min(PICK_BLOCKS_MAX).min(BLOCKS_MAX.saturating_sub(state.blocks));
        let mut placed = Vec::with_capacity(wanted);
        chains.credit(holder, None, &keys[..wanted], &mut placed);
        let runs: Vec<_> = placed.chunk_by(|a, b| a.1 == b.1).filter_map(run).collect();
        state.blocks += runs.iter().map(|(_, blocks)| *blocks as usize).sum::<usize>();
        if !runs.is_empty() {
            state.marks.push_back(Marks { deadline: now + self.duration, holder, runs });
        }
        placed.len() == keys.len()
    }

    /// Ends the marks whose deadline has passed; returns how many blocks are still marked.
    pub fn expire(&self, chains: &Chains, now: Instant) -> usize {
        let mut state = self.lock();
        while state.marks.front().is_some_and(|marks| marks.deadline <= now) {
            if let Some(marks) = state.marks.pop_front() {
                state.end(chains, &marks);
            }
        }
        state.blocks
    }

    /// The holder that stands for what is coming on `address`; `None`: nothing was ever marked there.
    pub fn holder(&self, address: &str) -> Option<Holder> {
        self.lock().holders.get(address).copied()
    }

    /// Leading blocks that are marked, by endpoint, where there are any.
    pub fn lengths(&self, matches: &Matches) -> Vec<(Arc<str>, u32)> {
        let state = self.lock();
        if state.marks.is_empty() {
            return Vec::new();
        }
        let found = state.holders.iter().map(|(address, holder)| (address, matches.of(*holder)));
        found
            .filter(|(_, blocks)| *blocks > 0)
            .map(|(address, blocks)| (Arc::clone(address), blocks))
            .collect()
    }

    /// Ends all marks of an endpoint that is gone.
    pub fn forget(&self, chains: &Chains, address: &str) {
        let mut state = self.lock();
        let Some(holder) = state.holders.remove(address) else { return };
        let (gone, stay) =
            std::mem::take(&mut state.marks).into_iter().partition(|marks| marks.holder == holder);
        state.marks = stay;
        let gone: VecDeque<Marks> = gone;
        gone.iter().for_each(|marks| state.end(chains, marks));
        chains.drop_holder(holder);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves at worst a mark that does not end.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&mut self, chains: &Chains, marks: &Marks) {
        for (last, blocks) in &marks.runs {
            self.blocks -= *blocks as usize;
            chains.uncredit(marks.holder, *last, *blocks);
        }
    }
}

/// A run of blocks that were not marked before.
fn run(blocks: &[(BlockRef, bool)]) -> Option<(BlockRef, u32)> {
    blocks.last().filter(|(_, held)| !held).map(|(last, _)| (*last, blocks.len() as u32))
}
