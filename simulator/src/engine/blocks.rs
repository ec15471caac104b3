//! The pool of KV blocks with its prefix cache.
//!
//! vLLM's rules (`vllm/v1/core/block_pool.py`): a block is cached when it is full; a freed block keeps its content
//! and stays findable until it is handed out again; free blocks are handed out least recently freed first. There is
//! no deduplication: a second copy of a cached block stays its owner's, is another findable copy, and its removal is
//! told like the first one's.
//! Every operation costs O(1) per block touched.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::hash::Digest;

/// Number of a physical block.
pub type BlockId = u32;

/// End of the free list.
const NIL: BlockId = BlockId::MAX;

#[derive(Clone, Debug)]
struct Block {
    references: u32,
    digest: Option<Digest>,
    /// Neighbours in the free list; only valid while `references` is 0.
    previous: BlockId,
    next: BlockId,
}

/// Physical copies of one content, oldest first: that one is found.
#[derive(Clone, Debug)]
enum Copies {
    One(BlockId),
    Many(Vec<BlockId>),
}

/// All blocks of one engine.
#[derive(Clone, Debug)]
pub struct BlockPool {
    blocks: Vec<Block>,
    cached: HashMap<Digest, Copies>,
    /// Next to be handed out.
    head: BlockId,
    /// Most recently freed.
    tail: BlockId,
    free: usize,
}

impl BlockPool {
    /// A pool of `count` empty blocks.
    pub fn new(count: usize) -> Self {
        let mut pool = Self {
            blocks: vec![Block { references: 0, digest: None, previous: NIL, next: NIL }; count],
            cached: HashMap::new(),
            head: NIL,
            tail: NIL,
            free: 0,
        };
        for id in 0..count as BlockId {
            pool.append_free(id);
        }
        pool
    }

    /// All blocks.
    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that no request holds, cached or not.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Blocks that requests hold.
    pub fn used(&self) -> usize {
        self.blocks.len() - self.free
    }

    /// Every findable content with its number of physical copies, in no order.
    pub fn cached(&self) -> impl Iterator<Item = (Digest, usize)> + '_ {
        self.cached.iter().map(|(digest, copies)| match copies {
            Copies::One(_) => (*digest, 1),
            Copies::Many(ids) => (*digest, ids.len()),
        })
    }

    /// Contents that can be found.
    pub fn cached_contents(&self) -> usize {
        self.cached.len()
    }

    /// Blocks that hold the longest cached prefix of `digests`.
    pub fn longest_prefix(&self, digests: &[Digest]) -> Vec<BlockId> {
        let find = |digest| match self.cached.get(digest)? {
            Copies::One(id) => Some(*id),
            Copies::Many(ids) => ids.first().copied(),
        };
        digests.iter().map_while(find).collect()
    }

    /// How many of `ids` are free: taking them uses that much of [`Self::free`].
    pub fn free_among(&self, ids: &[BlockId]) -> usize {
        ids.iter().filter(|&&id| self.block(id).references == 0).count()
    }

    /// Takes one more reference to each block.
    pub fn take(&mut self, ids: &[BlockId]) {
        for &id in ids {
            if self.block(id).references == 0 {
                self.unlink_free(id);
            }
            self.block_mut(id).references += 1;
        }
    }

    /// Hands out `count` blocks, the least recently freed first, and tells of cached copies lost by that. The caller
    /// has checked that so many are free.
    pub fn allocate(&mut self, count: usize, into: &mut Vec<BlockId>, mut removed: impl FnMut(Digest)) {
        assert!(count <= self.free, "{count} blocks asked, {} free", self.free);
        for _ in 0..count {
            let id = self.head;
            self.unlink_free(id);
            if let Some(digest) = self.block_mut(id).digest.take() {
                self.forget(digest, id);
                removed(digest);
            }
            self.block_mut(id).references = 1;
            into.push(id);
        }
    }

    /// Makes a full block findable.
    pub fn store(&mut self, id: BlockId, digest: Digest) {
        debug_assert!(self.block(id).digest.is_none(), "block {id} is stored already");
        self.block_mut(id).digest = Some(digest);
        match self.cached.entry(digest) {
            Entry::Vacant(entry) => {
                entry.insert(Copies::One(id));
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Copies::One(first) => {
                    let first = *first;
                    entry.insert(Copies::Many(vec![first, id]));
                }
                Copies::Many(ids) => ids.push(id),
            },
        }
    }

    /// Gives a request's blocks back, tail first: a prefix outlives its continuations.
    pub fn release(&mut self, ids: &[BlockId]) {
        for &id in ids.iter().rev() {
            let block = self.block_mut(id);
            block.references -= 1;
            if block.references == 0 {
                self.append_free(id);
            }
        }
    }

    /// Forgets all contents; refused (`false`) while requests hold blocks.
    pub fn reset(&mut self) -> bool {
        if self.used() > 0 {
            return false;
        }
        self.cached.clear();
        self.blocks.iter_mut().for_each(|block| block.digest = None);
        true
    }

    fn forget(&mut self, digest: Digest, id: BlockId) {
        let Entry::Occupied(mut entry) = self.cached.entry(digest) else { return };
        match entry.get_mut() {
            Copies::One(_) => {
                entry.remove();
            }
            Copies::Many(ids) => {
                ids.retain(|&copy| copy != id);
                if let [last] = ids[..] {
                    entry.insert(Copies::One(last));
                }
            }
        }
    }

    fn append_free(&mut self, id: BlockId) {
        let tail = self.tail;
        let block = self.block_mut(id);
        (block.previous, block.next) = (tail, NIL);
        match tail {
            NIL => self.head = id,
            tail => self.block_mut(tail).next = id,
        }
        self.tail = id;
        self.free += 1;
    }

    fn unlink_free(&mut self, id: BlockId) {
        let Block { previous, next, .. } = *self.block(id);
        match previous {
            NIL => self.head = next,
            previous => self.block_mut(previous).next = next,
        }
        match next {
            NIL => self.tail = previous,
            next => self.block_mut(next).previous = previous,
        }
        self.free -= 1;
    }

    fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id as usize]
    }

    fn block_mut(&mut self, id: BlockId) -> &mut Block {
        &mut self.blocks[id as usize]
    }
}
