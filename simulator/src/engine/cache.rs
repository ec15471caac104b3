//! How a sequence gets, fills and gives back blocks, and the record of what that changed in the prefix cache.

use super::blocks::{BlockId, BlockPool};
use super::event::{Event, Stored};
use super::sequence::Sequence;

/// The block pool and the changes since they were last taken.
#[derive(Debug)]
pub(super) struct Cache {
    pub(super) pool: BlockPool,
    pub(super) block_size: usize,
    events: Vec<Event>,
    record: bool,
}

impl Cache {
    /// `record`: whether events are wanted.
    pub(super) fn new(blocks: usize, block_size: usize, record: bool) -> Self {
        Self { pool: BlockPool::new(blocks), block_size, events: Vec::new(), record }
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Blocks to allocate before `tokens` more can be computed.
    pub(super) fn blocks_missing(&self, sequence: &Sequence, tokens: usize) -> usize {
        (sequence.computed + tokens).div_ceil(self.block_size) - sequence.blocks.len()
    }

    /// The cached leading blocks that a sequence can start from: never the block with its last token, which has to be
    /// computed to get the next one.
    pub(super) fn reusable(&self, sequence: &Sequence) -> Vec<BlockId> {
        let most = (sequence.tokens() - 1) / self.block_size;
        self.pool.longest_prefix(&sequence.digests[..most.min(sequence.digests.len())])
    }

    /// Starts a sequence from cached blocks.
    pub(super) fn reuse(&mut self, sequence: &mut Sequence, hits: Vec<BlockId>) {
        self.pool.take(&hits);
        sequence.computed = hits.len() * self.block_size;
        sequence.stored = hits.len();
        sequence.blocks = hits;
    }

    /// Plans `tokens` more for a sequence: allocates their blocks and makes those findable that become full (as vLLM
    /// does: when they are scheduled, not when they are computed). The blocks must be free.
    pub(super) fn grow(&mut self, sequence: &mut Sequence, tokens: usize) {
        let missing = self.blocks_missing(sequence, tokens);
        if missing > 0 {
            let (events, record) = (&mut self.events, self.record);
            self.pool.allocate(missing, &mut sequence.blocks, |digest| {
                if record {
                    events.push(Event::Removed(digest));
                }
            });
        }
        sequence.scheduled = tokens;
        let full = (sequence.computed + tokens) / self.block_size;
        if full > sequence.stored {
            self.store(sequence, full);
        }
    }

    fn store(&mut self, sequence: &mut Sequence, full: usize) {
        let first = sequence.stored;
        for (id, digest) in sequence.blocks[first..full].iter().zip(&sequence.digests[first..full]) {
            self.pool.store(*id, *digest);
        }
        if self.record {
            self.events.push(Event::Stored(Stored {
                digests: sequence.digests[first..full].to_vec(),
                parent: first.checked_sub(1).map(|parent| sequence.digests[parent]),
                tokens: sequence.token_range(first * self.block_size, full * self.block_size).collect(),
                scope: sequence.request.scope.clone(),
            }));
        }
        sequence.stored = full;
    }

    /// Takes a sequence's blocks back; their content stays findable until they are handed out again.
    pub(super) fn release(&mut self, sequence: &mut Sequence) {
        self.pool.release(&sequence.blocks);
        sequence.restart();
    }

    /// Empties the prefix cache; `false` while requests hold blocks. The event goes out with the next step.
    pub(super) fn reset(&mut self) -> bool {
        let done = self.pool.reset();
        if done && self.record {
            self.events.push(Event::Cleared);
        }
        done
    }
}
