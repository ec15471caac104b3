//! Which holder holds which blocks of one model: the storage that event streams write and picks read.
//!
//! A **holder** is one stream's blocks of one kind, for example what one rank proves to have in GPU memory; a stream
//! may have several (one per group of layers and medium, one for blocks in doubt, one for blocks that are remembered
//! only for their key). A **block** has one place, found by its key; it exists while any holder holds it, and its
//! [`BlockRef`] is valid that long. So whoever keeps a `BlockRef` keeps the block under a holder of its own.
//!
//! What is guaranteed:
//! - A key is chained over its prefix, so a block's place fixes its parent's. [`Chains::credit`] puts blocks after a
//!   parent that is still valid, or at the beginning of a prompt.
//! - **Holes are kept.** A holder may hold block 5 without block 3. A match is the leading run: it ends at the first
//!   block that the holder does not hold, and blocks behind a hole count again when the hole is filled.
//! - Crediting a block that is held, or taking away one that is not, changes nothing and says so. Copies, and several
//!   engine hashes for one block, are the caller's to count ([`super::hashes::Hashes`] keeps copies).
//! - Every call is atomic for readers, each on its own: a lookup sees all of one `credit` or nothing of it.
//!
//! A stream that doubts all it has told adds a holder for what it proves from now on, and keeps the old one out of its
//! answers: one step, whatever it held. A later store proves its whole chain: [`Chains::shift`] with `u32::MAX`.
//!
//! # Cost
//!
//! Blocks lie in segments: up to 4,096 consecutive blocks of a chain, cut neither where a chain diverges nor where a
//! holder ends ([`segment`]). With S segments along a query of B blocks, and H holders in them on average:
//! - a lookup takes S table searches, S * (1 to log B) reads of keys, each of 4 or 16 places at once, S * H steps for the
//!   holders (eight or more at a time where many hold a segment), and clears one number per slot; it does not touch
//!   every block;
//! - crediting a run of blocks that exist takes the same, appending new ones a copy of their keys;
//! - 8 bytes per distinct block (a 128th of them twice), with an eighth to spare where it grew by itself; some 40 per segment, its place in
//!   the table included; 4 to 8 per (segment, holder) where several hold it, nothing where one does.
//!
//! # Readers and writers
//!
//! Chains are spread by their first key over [`SHARDS`] locks. A reader never waits for more than the one call that
//! writes to its shard at that moment: [`PART_KEYS`] keys at most, a few microseconds; a call with more is done in
//! parts, as is one that concerns all blocks of a holder.
//!
//! Not here: what an event means (`stream`), engine hashes (`hashes`), and what is best (`pick`).

mod holders;
mod lookup;
mod party;
mod place;
mod room;
mod segment;
mod shard;
mod slab;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use warmpath_core::block::BlockKey;

use self::holders::Slots;
pub use self::holders::{HOLDERS_MAX, Holder};
pub use self::lookup::Matches;
pub use self::place::BlockRef;
use self::shard::{Shard, To};
use super::budget::Budget;

/// Locks of one model's chains.
pub const SHARDS: usize = 16;
/// Most keys that are written under one lock: 64 KiB of them.
pub const PART_KEYS: usize = 8192;
/// How often a reader tries again before it sleeps: some microseconds.
const READ_SPINS: usize = 1000;
/// Segments that are looked through under one lock.
const PART_SEGMENTS: u32 = 256;
/// The blocks of one model and who holds them.
pub struct Chains {
    shards: [RwLock<Shard>; SHARDS],
    slots: Slots,
    budget: Arc<Budget>,
}

impl Chains {
    /// Nothing, held by nobody, growing within `budget`.
    pub fn new(budget: Arc<Budget>) -> Self {
        let shards = std::array::from_fn(|_| RwLock::default());
        Self { shards, slots: Slots::default(), budget }
    }

    /// A new holder that holds nothing, in the lowest free slot; `None`: there are [`HOLDERS_MAX`] already.
    pub fn add_holder(&self) -> Option<Holder> {
        self.slots.add()
    }

    /// Takes all of its blocks from `holder` and gives the slot back: it must not be used any more. Cost as
    /// [`Chains::clear_holder`].
    pub fn drop_holder(&self, holder: Holder) {
        self.clear_holder(holder);
        self.slots.free(holder);
    }

    /// Takes all of its blocks from `holder`, which stays; returns how many. Cost: every segment is looked at, some
    /// nanoseconds each, in parts between which readers and other writers go on.
    pub fn clear_holder(&self, holder: Holder) -> u64 {
        let mut cleared = 0;
        for index in 0..SHARDS {
            let mut from = 0;
            loop {
                let mut shard = self.write(index);
                let before = shard.bytes();
                let end = shard.segments.end().min(from + PART_SEGMENTS);
                for id in from..end {
                    let len = shard.segments[id].len();
                    cleared += shard.take(id, holder, 0, len) as u64;
                }
                shard.settle(&self.budget, before);
                if end == shard.segments.end() {
                    break;
                }
                from = end;
            }
        }
        cleared
    }

    /// Gives `keys`, one after the other behind `parent` (none: they begin a prompt), to `holder`, and appends their
    /// places to `blocks`, each with whether the holder held it before. Returns how many were placed: fewer than asked
    /// when the byte budget is used up.
    pub fn credit(
        &self,
        holder: Holder,
        parent: Option<BlockRef>,
        keys: &[BlockKey],
        blocks: &mut Vec<(BlockRef, bool)>,
    ) -> usize {
        let Some(first) = keys.first() else { return 0 };
        let index = parent.map_or_else(|| shard_of(*first), BlockRef::shard);
        let start = blocks.len();
        let mut parent = parent;
        while blocks.len() - start < keys.len() {
            let rest = &keys[blocks.len() - start..];
            let part = &rest[..rest.len().min(PART_KEYS)];
            let already = blocks.len();
            let mut shard = self.write(index);
            let to = To { holder, slots: self.slots.end() };
            if !shard.make_room(&self.budget, part.len(), to.slots) {
                break;
            }
            let before = shard.bytes();
            shard.credit(to, parent.map(BlockRef::place), part, |segment, from, to, held| {
                let first = blocks.len();
                blocks.extend((from..to).map(|offset| (BlockRef::new(index, (segment, offset)), false)));
                for (start, end) in held {
                    let held = &mut blocks[first + start - from..first + end - from];
                    held.iter_mut().for_each(|block| block.1 = true);
                }
            });
            shard.settle(&self.budget, before);
            if blocks.len() == already {
                break;
            }
            parent = blocks.last().map(|(block, _)| *block);
        }
        blocks.len() - start
    }

    /// Takes `block` and the `blocks - 1` before it in its chain from `holder`; returns how many of them it held.
    /// (More than one: an engine block that is several key blocks.)
    pub fn uncredit(&self, holder: Holder, block: BlockRef, blocks: u32) -> u32 {
        let mut shard = self.write(block.shard());
        let before = shard.bytes();
        let (segment, offset) = block.place();
        let taken = if blocks == 1 {
            shard.take(segment, holder, offset, offset + 1)
        } else {
            let path = shard.path((segment, offset), blocks);
            path.into_iter().map(|(id, from, to)| shard.take(id, holder, from, to)).sum()
        };
        shard.settle(&self.budget, before);
        taken as u32
    }

    /// Moves `block` and the `blocks - 1` before it in its chain (`u32::MAX`: all) from one holder to another, each
    /// as far as `from` holds it; returns how many moved. So a doubt ends or begins without losing the mapping.
    pub fn shift(&self, from: Holder, to: Holder, block: BlockRef, blocks: u32) -> u32 {
        let mut shard = self.write(block.shard());
        let before = shard.bytes();
        let (mut moved, mut parts) = (0, Vec::new());
        for (id, start, end) in shard.path(block.place(), blocks) {
            shard.parts(id, from, start, end, &mut parts);
            for (start, end) in &parts {
                shard.hold(id, to, *start, *end);
                moved += shard.take(id, from, *start, *end);
            }
        }
        shard.settle(&self.budget, before);
        moved as u32
    }

    /// As [`Self::shift`], but `from` keeps them. Returns how many `to` did not hold before. So a block that is stored
    /// by its hash alone (offloading) is credited on another medium, and a chain is proven while its doubt lasts.
    pub fn share(&self, from: Holder, to: Holder, block: BlockRef, blocks: u32) -> u32 {
        let mut shard = self.write(block.shard());
        let before = shard.bytes();
        let (mut shared, mut parts, mut already) = (0, Vec::new(), Vec::new());
        for (id, start, end) in shard.path(block.place(), blocks) {
            shard.parts(id, from, start, end, &mut parts);
            for (start, end) in &parts {
                shard.parts(id, to, *start, *end, &mut already);
                shard.hold(id, to, *start, *end);
                shared += end - start - already.iter().map(|(start, end)| end - start).sum::<usize>();
            }
        }
        shard.settle(&self.budget, before);
        shared as u32
    }

    /// Whether `holder` holds `block`.
    pub fn holds(&self, holder: Holder, block: BlockRef) -> bool {
        let (segment, offset) = block.place();
        let mut parts = Vec::new();
        self.read(block.shard()).parts(segment, holder, offset, offset + 1, &mut parts);
        !parts.is_empty()
    }

    /// The block before a valid `block` in its chain; `None`: it begins a prompt.
    pub fn parent(&self, block: BlockRef) -> Option<BlockRef> {
        let (segment, offset) = block.place();
        match offset.checked_sub(1) {
            Some(above) => Some(BlockRef::new(block.shard(), (segment, above))),
            None => self.read(block.shard()).segments[segment]
                .parent()
                .map(|place| BlockRef::new(block.shard(), place)),
        }
    }

    /// How many blocks are before a valid `block` in its prompt. Cost: one step for each segment of its chain.
    pub fn depth(&self, block: BlockRef) -> usize {
        let shard = self.read(block.shard());
        let (mut depth, mut at) = (0, Some(block.place()));
        while let Some((segment, offset)) = at {
            at = shard.segments[segment].parent();
            depth += offset + usize::from(at.is_some());
        }
        depth
    }

    /// The key of a valid `block`.
    pub fn key(&self, block: BlockRef) -> Option<BlockKey> {
        let (segment, offset) = block.place();
        self.read(block.shard()).segments[segment].keys().get(offset).copied().map(BlockKey)
    }

    /// How many leading `keys` each holder holds.
    pub fn lookup(&self, keys: &[BlockKey], matches: &mut Matches) {
        let lengths = matches.clear(self.slots.end());
        if let Some(first) = keys.first() {
            self.read(shard_of(*first)).lookup(keys, lengths);
        }
    }

    /// Segments in use.
    pub fn segments(&self) -> usize {
        (0..SHARDS).map(|shard| self.read(shard).segments.len()).sum()
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        (0..SHARDS).map(|shard| self.read(shard).bytes()).sum()
    }

    // A panic in a writer leaves at worst one call half done: the index is a hint, and goes on being used.
    fn read(&self, shard: usize) -> RwLockReadGuard<'_, Shard> {
        // Going to sleep and being woken takes ten times as long as what a writer does.
        for _ in 0..READ_SPINS {
            match self.shards[shard].try_read() {
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        self.shards[shard].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, shard: usize) -> RwLockWriteGuard<'_, Shard> {
        self.shards[shard].write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Chains {
    fn drop(&mut self) {
        let reserved = |shard| self.read(shard).bytes() + self.read(shard).room();
        self.budget.release((0..SHARDS).map(reserved).sum());
    }
}

fn shard_of(first: BlockKey) -> usize {
    first.0 as usize % SHARDS
}
