//! The streams of one model, and the list of their holders that lookups read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use warmpath_core::block::BlockKey;

use super::budget::Budget;
use super::chains::{Chains, Matches};
use super::picks::Picks;
use super::speculation::Speculation;
use super::stream::{Forgotten, Setting, StreamBlocks, View};
use super::{EndpointMatch, KeyRules, StreamId, Trust, TrustState};
use crate::events::decode::Batch;

/// Streams by address and rank.
type Streams = BTreeMap<(Arc<str>, u32), Arc<Stream>>;

/// One model.
pub(super) struct Model {
    pub(super) chains: Arc<Chains>,
    pub(super) picks: Picks,
    pub(super) speculation: Speculation,
    streams: Mutex<Streams>,
    view: ArcSwap<Vec<RankView>>,
}

/// One stream as lookups see it.
#[derive(Clone, Debug)]
pub(super) struct RankView {
    pub(super) address: Arc<str>,
    pub(super) state: TrustState,
    rank: u32,
    view: View,
}

impl RankView {
    pub(super) fn found(&self, matches: &Matches, keys: &[BlockKey]) -> EndpointMatch {
        let live = self.state != TrustState::Lost;
        let lengths = if live { self.view.lengths(matches, keys) } else { Default::default() };
        EndpointMatch {
            address: Arc::clone(&self.address),
            rank: self.rank,
            ranks: 1,
            blocks: lengths[0],
            coming: 0,
            lengths,
            live,
            trust: self.state,
            block_tokens: self.view.block_tokens,
        }
    }
}

/// One stream.
pub(super) struct Stream {
    state: Mutex<State>,
    shown: Mutex<(TrustState, View)>,
}

/// What one stream has told.
pub(super) struct State {
    pub(super) blocks: StreamBlocks,
    /// While a hole is being repaired: what was told before it, and since by the replay.
    pub(super) older: Option<StreamBlocks>,
    pub(super) trust: Trust,
    /// Replaced, and to be closed once no lookup is shown them.
    pub(super) retired: Vec<StreamBlocks>,
    pub(super) chains: Arc<Chains>,
    pub(super) rules: KeyRules,
    /// Bytes that the budget has been charged for it.
    charged: usize,
    model: Arc<str>,
    capacity: Option<u64>,
}

impl State {
    /// Blocks of a process that has told nothing yet.
    pub(super) fn fresh(&self) -> StreamBlocks {
        let mut blocks = StreamBlocks::new(Arc::clone(&self.chains), Arc::clone(&self.model), self.rules);
        blocks.set_capacity(self.capacity);
        blocks
    }

    pub(super) fn restart(&mut self) {
        let mut fresh = self.fresh();
        fresh.tally = self.blocks.tally.clone();
        self.retired.push(std::mem::replace(&mut self.blocks, fresh));
    }

    /// Charges the budget for what it takes on the heap now, beside what it has in the chains.
    pub(super) fn charge(&mut self, budget: &Budget) {
        let bytes = self.blocks.bytes() + self.older.as_ref().map_or(0, StreamBlocks::bytes);
        budget.charge(self.charged, bytes);
        self.charged = bytes;
    }

    /// Forgets some of it for want of bytes.
    pub(super) fn forget(&mut self) -> Vec<Forgotten> {
        let mut forgotten = self.older.as_mut().map(StreamBlocks::forget).unwrap_or_default();
        forgotten.extend(self.blocks.forget());
        forgotten
    }

    /// Entries, of which some can be forgotten.
    pub(super) fn entries(&self) -> usize {
        [Some(&self.blocks), self.older.as_ref()]
            .into_iter()
            .flatten()
            .map(|blocks| blocks.counted() + blocks.ghosts())
            .sum()
    }

    pub(super) fn set_capacity(&mut self, blocks: Option<u64>) {
        self.capacity = blocks;
        self.blocks.set_capacity(blocks);
        if let Some(older) = &mut self.older {
            older.set_capacity(blocks);
        }
    }

    pub(super) fn apply(&mut self, batch: &Batch, now: Duration, picks: &Picks, address: &str, room: usize) {
        let picks = self.trust.state.needs_picks().then_some((picks, address));
        self.blocks.expire(now);
        let before = self.blocks.counted();
        for event in batch.events.iter().flatten() {
            let room = room.saturating_add(before).saturating_sub(self.blocks.counted());
            let setting = Setting { now, picks, older: self.older.as_ref(), room };
            self.blocks.apply(event, &setting);
        }
        self.blocks.settle(batch.events.iter().all(Result::is_ok));
    }

    pub(super) fn apply_older(&mut self, batch: &Batch, now: Duration, room: usize) {
        let Some(older) = &mut self.older else { return };
        let before = older.counted();
        for event in batch.events.iter().flatten() {
            let room = room.saturating_add(before).saturating_sub(older.counted());
            older.apply(event, &Setting { now, picks: None, older: None, room });
        }
        older.settle(batch.events.iter().all(Result::is_ok));
    }
}

impl Stream {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a writer leaves at worst one event half applied: the index is a hint, and goes on being used.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> MutexGuard<'_, (TrustState, View)> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what lookups are to see from now on; true: that changed, and the model must be published.
    pub(super) fn show(&self, state: &mut State) -> bool {
        let view = state.blocks.new_view();
        let mut shown = self.shown();
        let changed = view.is_some() || shown.0 != state.trust.state;
        shown.0 = state.trust.state;
        if let Some(view) = view {
            shown.1 = view;
        }
        changed
    }
}

impl Model {
    /// A model without streams, whose chains grow within `budget`.
    pub(super) fn new(budget: Arc<Budget>, speculate_for: Duration) -> Self {
        Self {
            speculation: Speculation::new(speculate_for),
            chains: Arc::new(Chains::new(budget)),
            picks: Picks::default(),
            streams: Mutex::default(),
            view: ArcSwap::from_pointee(Vec::new()),
        }
    }

    pub(super) fn open(&self, id: &StreamId, rules: KeyRules) {
        let blocks = StreamBlocks::new(Arc::clone(&self.chains), Arc::clone(&id.model), rules);
        let state = State {
            blocks,
            older: None,
            trust: Trust::default(),
            retired: Vec::new(),
            chains: Arc::clone(&self.chains),
            rules,
            charged: 0,
            model: Arc::clone(&id.model),
            capacity: None,
        };
        let shown = Mutex::new((state.trust.state, View::default()));
        let stream = Arc::new(Stream { state: Mutex::new(state), shown });
        self.streams().insert((Arc::clone(&id.address), id.rank), stream);
        self.publish();
    }

    /// Takes a stream out of sight; its blocks are still to be closed.
    pub(super) fn close(&self, id: &StreamId) -> Option<Arc<Stream>> {
        let closed = self.streams().remove(&(Arc::clone(&id.address), id.rank));
        if closed.is_some() {
            self.publish();
        }
        closed
    }

    pub(super) fn stream(&self, id: &StreamId) -> Option<Arc<Stream>> {
        self.streams().get(&(Arc::clone(&id.address), id.rank)).cloned()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams().is_empty()
    }

    /// Every stream with its address and rank.
    pub(super) fn all(&self) -> Vec<(Arc<str>, u32, Arc<Stream>)> {
        let streams = self.streams();
        streams
            .iter()
            .map(|((address, rank), stream)| (Arc::clone(address), *rank, Arc::clone(stream)))
            .collect()
    }

    pub(super) fn view(&self) -> arc_swap::Guard<Arc<Vec<RankView>>> {
        self.view.load()
    }

    /// Shows lookups what the streams hold now.
    pub(super) fn publish(&self) {
        let streams = self.streams();
        let ranks = streams.iter().map(|((address, rank), stream)| {
            let (state, view) = stream.shown().clone();
            RankView { address: Arc::clone(address), state, rank: *rank, view }
        });
        self.view.store(Arc::new(ranks.collect()));
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
