//! Which endpoint holds which blocks, as far as its event stream proves it.
//!
//! Not here: where events come from (`events`), and which endpoint is best (`pick`).
//!
//! [`chains`] stores who holds what and answers lookups; a [`stream`] turns one publisher's events into that. Streams
//! are locked one by one, so writers of different streams meet only in the chains. A lookup takes no lock of a stream:
//! it reads a list of the model's holders that is published anew when a stream's change.

pub mod admission;
pub mod budget;
pub mod chains;
mod forget;
pub mod groups;
mod growing;
pub mod hashes;
pub mod metrics;
mod model;
mod picks;
mod plane;
mod repair;
pub mod report;
pub mod speculation;
mod stream;
mod tally;
pub mod trust;
mod waiting;
mod windows;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use warmpath_core::block::BlockKey;
use warmpath_core::definition::SaltRule;

use self::budget::Budget;
use self::chains::Matches;
pub use self::metrics::IndexMetrics;
use self::model::{Model, State, Stream};
use self::stream::StreamBlocks;
pub use self::tally::Counts;
pub use self::trust::{Reason, Trust, TrustState};
use crate::events::decode::Batch;
use crate::events::event::Medium;

/// Entries (publisher, group, medium, engine hash) that the whole index holds unless configured otherwise: at about
/// 100 bytes each, 400 MB. One pod with 80 GB of KV cache holds some 20,000 blocks, so this is some 200 pods.
pub const BLOCKS_MAX_DEFAULT: usize = 4_000_000;

/// Bytes of the whole index on the heap, unless configured otherwise.
pub const BYTES_MAX_DEFAULT: usize = 1 << 30;

/// What decides the keys of a model's blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRules {
    /// Seed of the deployment's key space.
    pub seed: u64,
    /// What a `cache_salt` does.
    pub salt: SaltRule,
    /// Tokens per key block. Engine blocks of a multiple of it are indexed, as several keys each.
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
    /// Its data-parallel rank that holds the most; the others of this are that rank's.
    pub rank: u32,
    /// Its data-parallel ranks that are followed: they share the address, and with it one HTTP port.
    pub ranks: u32,
    /// Leading blocks held in GPU memory.
    pub blocks: u32,
    /// Leading blocks that recent picks will bring there, the held ones counted again; 0: none.
    pub coming: u32,
    /// Leading blocks held on each medium, by itself, in the order of [`Medium::ALL`].
    pub lengths: [u32; Medium::ALL.len()],
    /// The rank's event stream tells what it holds now: it is not lost.
    pub live: bool,
    /// How far that can be trusted.
    pub trust: TrustState,
    /// The engine's block size, as its events told; none yet: `None`.
    pub block_tokens: Option<u32>,
}

/// The index, shared between the event streams that write it and the picks that read it.
pub struct SharedIndex {
    models: RwLock<HashMap<Arc<str>, Arc<Model>>>,
    counted: AtomicUsize,
    budget: Arc<Budget>,
    /// Held by who makes room.
    forgetting: Mutex<()>,
    blocks_max: usize,
    metrics: IndexMetrics,
    started: Instant,
    speculate_for: Duration,
}

impl SharedIndex {
    /// An empty index that holds at most `blocks_max` entries.
    pub fn new(blocks_max: usize) -> Self {
        let metrics = IndexMetrics::default();
        metrics.blocks_max.set(i64::try_from(blocks_max).unwrap_or(i64::MAX));
        let budget = Arc::new(Budget::new(BYTES_MAX_DEFAULT));
        let started = Instant::now();
        Self {
            models: RwLock::default(),
            counted: AtomicUsize::new(0),
            budget,
            forgetting: Mutex::default(),
            blocks_max,
            metrics,
            started,
            speculate_for: Duration::ZERO,
        }
    }

    /// The same, of at most so many bytes on the heap.
    pub fn within(self, bytes_max: usize) -> Self {
        self.metrics.bytes_max.set(i64::try_from(bytes_max).unwrap_or(i64::MAX));
        Self { budget: Arc::new(Budget::new(bytes_max)), ..self }
    }

    /// The same, in which the blocks of a pick count as coming on its endpoint for so long; 0: they do not.
    pub fn speculating(self, speculate_for: Duration) -> Self {
        Self { speculate_for, ..self }
    }

    /// Counters of the index.
    pub fn metrics(&self) -> &IndexMetrics {
        &self.metrics
    }

    /// Time since the index was made: the clock of everything in it.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Bytes used and reserved now.
    pub fn bytes(&self) -> usize {
        self.budget.used()
    }

    /// Entries held now.
    pub fn len(&self) -> usize {
        self.counted.load(Ordering::Relaxed)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many leading `keys` each endpoint of `model` holds: one entry per endpoint, by address, also for those
    /// that hold none. Empty for an unknown model.
    ///
    /// Cost: one lookup in the chains, and a few reads for each stream of the model; for those of hybrid models also
    /// [`windows`]' searches.
    pub fn lookup(&self, model: &str, keys: &[BlockKey]) -> Vec<EndpointMatch> {
        let Some(model) = self.model(model) else { return Vec::new() };
        let view = model.view();
        let mut matches = Matches::default();
        if !keys.is_empty() {
            let marked = model.speculation.expire(&model.chains, Instant::now());
            self.metrics.speculative_blocks.set(i64::try_from(marked).unwrap_or(i64::MAX));
            model.chains.lookup(keys, &mut matches);
        }
        let mut endpoints: Vec<EndpointMatch> = Vec::new();
        for rank in view.iter() {
            let found = rank.found(&matches, keys);
            match endpoints.last_mut().filter(|last| last.address == found.address) {
                Some(best) => best.merge(found),
                None => endpoints.push(found),
            }
        }
        for (address, coming) in model.speculation.lengths(&matches) {
            if let Ok(at) = endpoints.binary_search_by(|found| found.address.cmp(&address)) {
                endpoints[at].coming = coming;
            }
        }
        endpoints
    }

    /// Marks the blocks of a request that goes to `address` as coming there.
    pub fn speculate(&self, model: &str, address: &Arc<str>, keys: &[BlockKey]) {
        if self.speculate_for.is_zero() {
            return;
        }
        let Some(model) = self.model(model) else { return };
        if !model.speculation.mark(&model.chains, address, keys, Instant::now()) {
            self.metrics.speculations_cut.inc();
        }
    }

    /// Remembers that a request with these keys was sent to `address`, if a stream there has blocks whose parents it
    /// may prove.
    pub fn note_pick(&self, model: &str, address: &Arc<str>, keys: &[BlockKey]) {
        let Some(model) = self.model(model) else { return };
        if model.view().iter().any(|rank| rank.state.needs_picks() && rank.address == *address) {
            model.picks.note(address, keys);
        }
    }

    /// Begins a publisher's stream, empty and lost, in place of any older one of that name.
    pub fn open(&self, id: &StreamId, rules: KeyRules) {
        self.close(id);
        let model = {
            let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Model::new(Arc::clone(&self.budget), self.speculate_for));
            Arc::clone(models.entry(Arc::clone(&id.model)).or_insert_with(new))
        };
        model.open(id, rules);
    }

    /// Ends a stream and forgets its blocks.
    pub fn close(&self, id: &StreamId) {
        let Some(model) = self.model(&id.model) else { return };
        if let Some(stream) = model.close(id) {
            model.speculation.forget(&model.chains, &id.address);
            let mut state = stream.lock();
            self.recount(state.blocks.counted(), 0);
            state.blocks.close();
            if let Some(older) = &mut state.older {
                older.close();
            }
            state.charge(&self.budget);
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if models.get(&id.model).is_some_and(|model| model.is_empty()) {
            models.remove(&id.model);
        }
    }

    /// Nothing that a stream has told can be relied on: a loss that could not be repaired. What its hashes stand for,
    /// its groups of layers and its block size stay known.
    pub fn doubt(&self, id: &StreamId) {
        self.change(id, |state| state.blocks.doubt());
    }

    /// Forgets all that a stream has told: another process publishes on it now.
    pub fn restart(&self, id: &StreamId) {
        self.change(id, State::restart);
    }

    /// The stream has been followed since its process began, or not.
    pub fn set_from_start(&self, id: &StreamId, from_start: bool) {
        self.change(id, |state| state.blocks.set_from_start(from_start));
    }

    /// How many blocks the engine has memory for on its GPU; `None`: unknown.
    pub fn set_capacity(&self, id: &StreamId, blocks: Option<u64>) {
        self.change(id, |state| state.set_capacity(blocks));
    }

    /// Says how far a stream can be trusted.
    pub fn set_trust(&self, id: &StreamId, trust: Trust) {
        self.change(id, |state| state.trust = trust);
        if trust.state != TrustState::Partial
            && let Some(model) = self.model(&id.model)
        {
            model.picks.forget(&id.address);
        }
    }

    /// How far a stream can be trusted; `None`: there is no such stream.
    pub fn trust(&self, id: &StreamId) -> Option<Trust> {
        Some(self.stream(id)?.lock().trust)
    }

    /// Applies the events of one batch, in their order. Those that could not be decoded are the caller's to count.
    /// Returns whether older blocks are in doubt after that.
    pub fn apply(&self, id: &StreamId, batch: &Batch, now: Duration) -> bool {
        let Some(model) = self.model(&id.model) else { return false };
        let room = self.blocks_max.saturating_sub(self.len());
        let mut doubtful = false;
        self.change(id, |state| {
            state.apply(batch, now, &model.picks, &id.address, room);
            doubtful = state.blocks.is_partial();
        });
        doubtful
    }

    /// Gives up on blocks of a stream whose parents did not turn up in time.
    pub fn expire(&self, id: &StreamId, now: Duration) {
        self.change(id, |state| state.blocks.expire(now));
    }

    /// Whether a stream's older blocks are in doubt.
    pub fn is_doubtful(&self, id: &StreamId) -> bool {
        self.stream(id).is_some_and(|stream| stream.lock().blocks.is_partial())
    }

    fn model(&self, name: &str) -> Option<Arc<Model>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn stream(&self, id: &StreamId) -> Option<Arc<Stream>> {
        self.model(&id.model)?.stream(id)
    }

    /// Changes a stream, counts what changed and shows it to lookups.
    fn change(&self, id: &StreamId, how: impl FnOnce(&mut State)) {
        let Some(model) = self.model(&id.model) else { return };
        let Some(stream) = model.stream(id) else { return };
        self.change_stream(&model, &stream, how);
        self.make_room();
        self.metrics.bytes.set(i64::try_from(self.budget.used()).unwrap_or(i64::MAX));
    }

    fn change_stream<T>(&self, model: &Model, stream: &Stream, how: impl FnOnce(&mut State) -> T) -> T {
        let mut state = stream.lock();
        let before = state.blocks.counted();
        let result = how(&mut state);
        state.charge(&self.budget);
        self.recount(before, state.blocks.counted());
        if state.older.is_none() {
            state.blocks.tally.flush(&self.metrics);
        }
        let changed = stream.show(&mut state);
        let retired = std::mem::take(&mut state.retired);
        drop(state);
        if changed {
            model.publish();
        }
        // After that: their holders may be given to another stream.
        retired.into_iter().for_each(|mut blocks: StreamBlocks| blocks.close());
        result
    }

    fn recount(&self, before: usize, after: usize) {
        let counted = match after >= before {
            true => self.counted.fetch_add(after - before, Ordering::Relaxed) + (after - before),
            false => self.counted.fetch_sub(before - after, Ordering::Relaxed) - (before - after),
        };
        self.metrics.blocks.set(i64::try_from(counted).unwrap_or(i64::MAX));
    }
}

impl EndpointMatch {
    /// Takes in another rank of the same endpoint: live ranks count before others, then the longer match.
    fn merge(&mut self, rank: Self) {
        let block_tokens = self.block_tokens.or(rank.block_tokens);
        let ranks = self.ranks + rank.ranks;
        if (rank.live, rank.blocks, rank.lengths) > (self.live, self.blocks, self.lengths) {
            *self = rank;
        }
        (self.block_tokens, self.ranks) = (block_tokens, ranks);
    }
}
