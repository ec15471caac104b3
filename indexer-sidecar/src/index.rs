//! Which endpoint holds which blocks, as far as its event stream proves it.
//!
//! Not here: where events come from (`events`), and which endpoint is best (`pick`).
//!
//! One [`stream::StreamBlocks`] per publisher, under one lock. Cost of a lookup: for each publisher of the model one
//! hash lookup per leading block that it holds, plus one. Memory: about 100 bytes per (publisher, block).

pub mod admission;
pub mod budget;
pub mod chains;
mod growing;
pub mod hashes;
pub mod metrics;
mod stream;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use warmpath_core::block::BlockKey;
use warmpath_core::definition::SaltRule;

pub use self::metrics::IndexMetrics;
use self::stream::StreamBlocks;
use crate::events::decode::Batch;

/// Entries (publisher, group, medium, engine hash) that the whole index holds unless configured otherwise: at about
/// 100 bytes each, 400 MB. One pod with 80 GB of KV cache holds some 20,000 blocks, so this is some 200 pods.
pub const BLOCKS_MAX_DEFAULT: usize = 4_000_000;

/// What decides the keys of a model's blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRules {
    /// Seed of the deployment's key space.
    pub seed: u64,
    /// What a `cache_salt` does.
    pub salt: SaltRule,
    /// Tokens per key block; only engine blocks of this size are indexed.
    pub block_tokens: u32,
}

/// A publisher: one data-parallel rank of an endpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId {
    /// Name of the model definition.
    pub model: Arc<str>,
    /// The endpoint's `ip:port`, as Envoy knows it.
    pub address: Arc<str>,
    /// Data-parallel rank.
    pub rank: u32,
}

/// What one endpoint holds of a prompt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointMatch {
    /// The endpoint's `ip:port`, as Envoy knows it.
    pub address: Arc<str>,
    /// Leading blocks held in GPU memory, by its best rank.
    pub blocks: u32,
    /// At least one rank's event stream is up and in order.
    pub live: bool,
    /// The engine's block size, as its events told; none yet: `None`.
    pub block_tokens: Option<u32>,
}

struct Stream {
    blocks: StreamBlocks,
    live: bool,
}

#[derive(Default)]
struct State {
    streams: BTreeMap<StreamId, Stream>,
    /// Sum of all streams' entries.
    len: usize,
}

/// The index, shared between the event streams that write it and the picks that read it.
pub struct SharedIndex {
    state: RwLock<State>,
    blocks_max: usize,
    metrics: IndexMetrics,
}

impl SharedIndex {
    /// An empty index that holds at most `blocks_max` entries.
    pub fn new(blocks_max: usize) -> Self {
        let metrics = IndexMetrics::default();
        metrics.blocks_max.set(i64::try_from(blocks_max).unwrap_or(i64::MAX));
        Self { state: RwLock::default(), blocks_max, metrics }
    }

    /// Counters of the index.
    pub fn metrics(&self) -> &IndexMetrics {
        &self.metrics
    }

    /// Entries held now.
    pub fn len(&self) -> usize {
        self.read().len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many leading `keys` each endpoint of `model` holds: one entry per endpoint, by address, also for those
    /// that hold none. Empty for an unknown model.
    pub fn lookup(&self, model: &str, keys: &[BlockKey]) -> Vec<EndpointMatch> {
        let state = self.read();
        let mut matches: Vec<EndpointMatch> = Vec::new();
        let from = StreamId { model: model.into(), address: "".into(), rank: 0 };
        for (id, stream) in state.streams.range(from..).take_while(|(id, _)| &*id.model == model) {
            let blocks = u32::try_from(stream.blocks.leading(keys)).unwrap_or(u32::MAX);
            let rank = EndpointMatch {
                address: Arc::clone(&id.address),
                blocks,
                live: stream.live,
                block_tokens: stream.blocks.block_tokens(),
            };
            match matches.last_mut().filter(|last| last.address == id.address) {
                Some(best) => best.merge(rank),
                None => matches.push(rank),
            }
        }
        matches
    }

    /// Begins a publisher's stream, empty and not live, in place of any older one of that name.
    pub fn open(&self, id: &StreamId, rules: KeyRules) {
        self.close(id);
        let blocks = StreamBlocks::new(Arc::clone(&id.model), rules);
        self.write().streams.insert(id.clone(), Stream { blocks, live: false });
    }

    /// Ends a stream and forgets its blocks.
    pub fn close(&self, id: &StreamId) {
        let mut state = self.write();
        if let Some(stream) = state.streams.remove(id) {
            state.len -= stream.blocks.len();
        }
        self.metrics.blocks.set(state.len as i64);
    }

    /// Forgets a stream's blocks, as after a loss that could not be repaired. What the process told of its groups of
    /// layers and its block size stays.
    pub fn clear(&self, id: &StreamId) {
        self.drop_blocks(id, StreamBlocks::clear);
    }

    /// Forgets all that a stream has told: another process publishes on it now.
    pub fn restart(&self, id: &StreamId) {
        self.drop_blocks(id, StreamBlocks::restart);
    }

    fn drop_blocks(&self, id: &StreamId, how: fn(&mut StreamBlocks)) {
        let mut state = self.write();
        let Some(stream) = state.streams.get_mut(id) else { return };
        let before = stream.blocks.len();
        how(&mut stream.blocks);
        state.len -= before;
        self.metrics.blocks.set(state.len as i64);
    }

    /// Says whether a stream is up and in order.
    pub fn set_live(&self, id: &StreamId, live: bool) {
        if let Some(stream) = self.write().streams.get_mut(id) {
            stream.live = live;
        }
    }

    /// Applies the events of one batch, in their order. Those that could not be decoded are the caller's to count.
    pub fn apply(&self, id: &StreamId, batch: &Batch) {
        let mut state = self.write();
        let state = &mut *state;
        let Some(stream) = state.streams.get_mut(id) else { return };
        for event in batch.events.iter().flatten() {
            let before = stream.blocks.len();
            let change = stream.blocks.apply(event, self.blocks_max.saturating_sub(state.len));
            state.len = state.len - before + stream.blocks.len();
            self.metrics.count(change.admitted, change.evicted, change.skipped);
        }
        self.metrics.blocks.set(state.len as i64);
    }

    // A panic in a writer leaves at worst one event half applied: the index is a hint, and goes on being used.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EndpointMatch {
    /// Takes in another rank of the same endpoint: live ranks count before others, then the longer match.
    fn merge(&mut self, rank: Self) {
        if (rank.live, rank.blocks) > (self.live, self.blocks) {
            self.blocks = rank.blocks;
            self.live = rank.live;
        }
        self.block_tokens = self.block_tokens.or(rank.block_tokens);
    }
}
