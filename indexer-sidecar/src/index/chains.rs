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
//! Not here: what an event means (`stream`), engine hashes (`hashes`), and what is best (`pick`).
//!
//! A stream that doubts all it has told adds a holder for what it proves from now on, and keeps the old one out of its
//! answers: one step, whatever it held. A later store proves its whole chain: [`Chains::shift`] with `u32::MAX`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use warmpath_core::block::BlockKey;

/// One stream's blocks of one kind, as a slot of [`Matches`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Holder(pub u16);

/// Holders of one model at a time: 4,000 endpoints with 16 each. Slots are 16 bits, which keeps a membership small.
pub const HOLDERS_MAX: usize = 64_000;

/// The place of a block, 40 bits. Valid while any holder holds the block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockRef(u64);

/// Match lengths by holder: dense, and reused from lookup to lookup.
#[derive(Clone, Default, Debug)]
pub struct Matches {
    blocks: Vec<u32>,
}

impl Matches {
    /// Leading blocks that `holder` holds.
    pub fn of(&self, holder: Holder) -> u32 {
        self.blocks.get(usize::from(holder.0)).copied().unwrap_or(0)
    }

    /// All of them, by slot; holders beyond the end hold nothing.
    pub fn as_slice(&self) -> &[u32] {
        &self.blocks
    }
}

/// The blocks of one model and who holds them.
#[derive(Default)]
pub struct Chains {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    places: HashMap<BlockKey, u64>,
    blocks: HashMap<u64, Block>,
    next: u64,
    holders: BTreeSet<Holder>,
}

struct Block {
    key: BlockKey,
    parent: Option<BlockRef>,
    held: BTreeSet<Holder>,
}

impl Chains {
    /// Nothing, held by nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new holder that holds nothing; `None`: there are [`HOLDERS_MAX`] already.
    pub fn add_holder(&self) -> Option<Holder> {
        let mut state = self.write();
        let free = (0..HOLDERS_MAX as u16).map(Holder).find(|slot| !state.holders.contains(slot))?;
        state.holders.insert(free);
        Some(free)
    }

    /// Takes all of its blocks from `holder` and gives the slot back: it must not be used any more.
    pub fn drop_holder(&self, holder: Holder) {
        self.clear_holder(holder);
        self.write().holders.remove(&holder);
    }

    /// Takes all of its blocks from `holder`, which stays. Returns how many.
    pub fn clear_holder(&self, holder: Holder) -> u64 {
        let mut state = self.write();
        let held: Vec<u64> = state
            .blocks
            .iter()
            .filter(|(_, block)| block.held.contains(&holder))
            .map(|(id, _)| *id)
            .collect();
        for id in &held {
            state.take(holder, BlockRef(*id));
        }
        held.len() as u64
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
        let mut state = self.write();
        let mut parent = parent;
        for key in keys {
            let block = BlockRef(state.place(*key, parent));
            let held = state.blocks.get_mut(&block.0).is_some_and(|found| !found.held.insert(holder));
            blocks.push((block, held));
            parent = Some(block);
        }
        keys.len()
    }

    /// Takes `block` and the `blocks - 1` before it in its chain from `holder`; returns how many of them it held.
    /// (More than one: an engine block that is several key blocks.)
    pub fn uncredit(&self, holder: Holder, block: BlockRef, blocks: u32) -> u32 {
        let mut state = self.write();
        state.path(block, blocks).into_iter().filter(|block| state.take(holder, *block)).count() as u32
    }

    /// Moves `block` and the `blocks - 1` before it in its chain (`u32::MAX`: all) from one holder to another, each
    /// as far as `from` holds it; returns how many moved. So a doubt ends or begins without losing the mapping.
    pub fn shift(&self, from: Holder, to: Holder, block: BlockRef, blocks: u32) -> u32 {
        let mut state = self.write();
        let mut moved = 0;
        for block in state.path(block, blocks) {
            let Some(found) = state.blocks.get_mut(&block.0) else { continue };
            if found.held.contains(&from) {
                found.held.insert(to);
                state.take(from, block);
                moved += 1;
            }
        }
        moved
    }

    /// As [`Self::shift`], but `from` keeps them. Returns how many `to` did not hold before. So a block that is stored
    /// by its hash alone (offloading) is credited on another medium, and a chain is proven while its doubt lasts.
    pub fn share(&self, from: Holder, to: Holder, block: BlockRef, blocks: u32) -> u32 {
        let mut state = self.write();
        let mut shared = 0;
        for block in state.path(block, blocks) {
            let Some(found) = state.blocks.get_mut(&block.0) else { continue };
            shared += u32::from(found.held.contains(&from) && found.held.insert(to));
        }
        shared
    }

    /// Whether `holder` holds `block`.
    pub fn holds(&self, holder: Holder, block: BlockRef) -> bool {
        self.read().blocks.get(&block.0).is_some_and(|found| found.held.contains(&holder))
    }

    /// The key of a valid `block`.
    pub fn key(&self, block: BlockRef) -> Option<BlockKey> {
        self.read().blocks.get(&block.0).map(|found| found.key)
    }

    /// How many leading `keys` each holder holds.
    pub fn lookup(&self, keys: &[BlockKey], matches: &mut Matches) {
        let state = self.read();
        matches.blocks.clear();
        matches.blocks.resize(state.holders.last().map_or(0, |last| usize::from(last.0) + 1), 0);
        for (depth, key) in keys.iter().enumerate() {
            let Some(block) = state.places.get(key).and_then(|id| state.blocks.get(id)) else { return };
            for holder in &block.held {
                if let Some(length) =
                    matches.blocks.get_mut(usize::from(holder.0)).filter(|len| **len == depth as u32)
                {
                    *length += 1;
                }
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn place(&mut self, key: BlockKey, parent: Option<BlockRef>) -> u64 {
        if let Some(place) = self.places.get(&key) {
            return *place;
        }
        self.next += 1;
        self.places.insert(key, self.next);
        self.blocks.insert(self.next, Block { key, parent, held: BTreeSet::new() });
        self.next
    }

    fn path(&self, block: BlockRef, blocks: u32) -> Vec<BlockRef> {
        let mut path = Vec::new();
        let mut at = Some(block);
        while let Some(block) = at.filter(|_| path.len() < blocks as usize) {
            path.push(block);
            at = self.blocks.get(&block.0).and_then(|found| found.parent);
        }
        path
    }

    fn take(&mut self, holder: Holder, block: BlockRef) -> bool {
        let Some(found) = self.blocks.get_mut(&block.0) else { return false };
        let held = found.held.remove(&holder);
        if found.held.is_empty() {
            self.places.remove(&found.key);
            self.blocks.remove(&block.0);
        }
        held
    }
}
