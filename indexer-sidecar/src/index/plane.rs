//! One publisher's blocks of one group of layers on one medium: what each engine hash stands for, how many copies of
//! it there are, and which blocks are credited for it.
//!
//! An entry with copies is **counted**: its blocks are held by the plane's *holder*, which lookups see. One without is
//! a **ghost**: its blocks are held by the *memory*, which lookups do not see, so that the hash can be chained onto
//! or stored again by its name alone. A ghost may be credited as well, when a later store proved its whole chain (its
//! blocks are **proofs** then); the first removal of that hash ends this, because how many copies there are is not
//! known then.

use std::collections::{HashMap, HashSet, VecDeque};

use warmpath_core::block::BlockKey;

use super::chains::{BlockRef, Chains, Holder};
use super::hashes::{AHEAD, Entry, Hashes, StoreResult};
use crate::events::event::EngineHash;

/// Ghosts that a plane keeps beyond as many entries as were ever counted at a time. Offloading writes a block to the
/// host's memory within a few steps of its removal, and a step removes some hundreds at most.
pub(super) const GHOSTS_SPARE: usize = 4096;

/// Flag: a copy was removed since the hash was last stored.
const SHRUNK: u8 = 1;
/// Flag: a ghost that has outlived one sweep.
const OLD: u8 = 2;
/// Flag: the hash waits in [`Plane::surplus`].
const QUEUED: u8 = 4;

/// What a removal came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Evicted {
    /// One copy is gone, others remain or not.
    Copy,
    /// A block that was credited by its chain alone is so no longer.
    Proof,
    /// The hash had no credit.
    Nothing,
}

/// Who holds blocks, and which of them for more than one hash.
struct Held {
    holder: Holder,
    /// Hashes beyond the first that a block is held for.
    others: HashMap<BlockRef, u32>,
}

impl Held {
    fn open(chains: &Chains) -> Option<Self> {
        Some(Self { holder: chains.add_holder()?, others: HashMap::new() })
    }

    /// `span` blocks up to `block` are held for one hash less.
    fn take(&mut self, chains: &Chains, block: BlockRef, span: u32) {
        if self.others.is_empty() {
            chains.uncredit(self.holder, block, span);
            return;
        }
        let mut at = Some(block);
        for _ in 0..span {
            let Some(block) = at else { return };
            // Before it is taken: nobody else may hold it.
            at = chains.parent(block);
            match self.others.get_mut(&block) {
                Some(1) => drop(self.others.remove(&block)),
                Some(count) => *count -= 1,
                None => drop(chains.uncredit(self.holder, block, 1)),
            }
        }
    }

    /// `span` blocks up to `block`, which `from` holds, are held for one hash more.
    fn share(&mut self, chains: &Chains, from: Holder, block: BlockRef, span: u32) {
        if span == 1 && self.others.is_empty() && chains.share(from, self.holder, block, 1) == 1 {
            return;
        }
        let mut at = Some(block);
        for _ in 0..span {
            let Some(block) = at else { return };
            at = chains.parent(block);
            if chains.share(from, self.holder, block, 1) == 0 && chains.holds(self.holder, block) {
                *self.others.entry(block).or_default() += 1;
            }
        }
    }
}

/// One group of layers on one medium.
pub(super) struct Plane {
    credit: Held,
    memory: Held,
    hashes: Hashes,
    /// Keys of one engine block.
    ratio: u32,
    /// Blocks of hashes that stand for more than their own: ancestors whose hashes were never told.
    spans: HashMap<u64, u32>,
    copies: u64,
    counted: usize,
    counted_most: usize,
    ghosts: usize,
    young: usize,
    /// Copies beyond the first of a hash, and hashes of which one was removed.
    suspects: u64,
    /// Low 64 bits of the hashes that have such copies, those first that had one first; also some that have none any
    /// more.
    surplus: VecDeque<u64>,
    /// Blocks that are credited by their chain alone.
    proofs: HashSet<BlockRef>,
}

impl Plane {
    /// `None`: the index has as many holders as it may.
    pub(super) fn open(chains: &Chains, ratio: u32) -> Option<Self> {
        let credit = Held::open(chains)?;
        let Some(memory) = Held::open(chains) else {
            chains.drop_holder(credit.holder);
            return None;
        };
        Some(Self {
            credit,
            memory,
            hashes: Hashes::new(),
            ratio,
            spans: HashMap::new(),
            copies: 0,
            counted: 0,
            counted_most: 0,
            ghosts: 0,
            young: 0,
            suspects: 0,
            surplus: VecDeque::new(),
            proofs: HashSet::new(),
        })
    }

    pub(super) fn close(self, chains: &Chains) {
        chains.drop_holder(self.credit.holder);
        chains.drop_holder(self.memory.holder);
    }

    /// The holder that lookups see.
    pub(super) fn holder(&self) -> Holder {
        self.credit.holder
    }

    /// Keys of one engine block.
    pub(super) fn ratio(&self) -> u32 {
        self.ratio
    }

    /// Whether a hash has a copy.
    pub(super) fn is_counted(&self, hash: EngineHash) -> bool {
        self.hashes.get(hash).is_some_and(|entry| entry.copies > 0)
    }

    /// Copies in all.
    pub(super) fn copies(&self) -> u64 {
        self.copies
    }

    /// Copies and proofs, in engine blocks: what the engine must have memory for.
    pub(super) fn credited(&self) -> u64 {
        self.copies + (self.proofs.len() as u64).div_ceil(u64::from(self.ratio))
    }

    /// Copies that may be phantoms.
    pub(super) fn suspects(&self) -> u64 {
        self.suspects
    }

    /// Hashes with a copy.
    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    /// Hashes without a copy.
    pub(super) fn ghosts(&self) -> usize {
        self.ghosts
    }

    /// Asks memory for what a call for this hash will read.
    #[inline]
    pub(super) fn touch(&self, hash: EngineHash) {
        self.hashes.touch(hash);
    }

    /// The (last) block that a hash stands for, and who holds it for certain.
    pub(super) fn known(&self, hash: EngineHash) -> Option<(BlockRef, Holder)> {
        let entry = self.hashes.get(hash)?;
        Some((entry.block, if entry.copies > 0 { self.credit.holder } else { self.memory.holder }))
    }

    fn span(&self, hash: EngineHash) -> u32 {
        self.spans.get(&(hash.0 as u64)).copied().unwrap_or(self.ratio)
    }

    /// Counts one more copy of each of `hashes`, whose keys (`ratio` each) follow each other behind `parent`. Returns
    /// how many hashes were taken in: fewer than asked when the byte budget is used up.
    pub(super) fn admit(
        &mut self,
        chains: &Chains,
        hashes: &[EngineHash],
        parent: Option<BlockRef>,
        keys: &[BlockKey],
    ) -> usize {
        // Memory answers while the chains are written.
        hashes.iter().take(AHEAD).for_each(|hash| self.touch(*hash));
        let mut blocks = Vec::with_capacity(keys.len());
        chains.credit(self.credit.holder, parent, keys, &mut blocks);
        let ratio = self.ratio as usize;
        let whole = blocks.chunks_exact(ratio);
        for (block, held) in whole.remainder() {
            if !held {
                chains.uncredit(self.credit.holder, *block, 1);
            }
        }
        let taken = blocks.len() / ratio;
        for (at, (hash, blocks)) in hashes.iter().zip(whole).enumerate() {
            if let Some(ahead) = hashes[..taken].get(at + AHEAD) {
                self.touch(*ahead);
            }
            self.count(chains, *hash, blocks);
        }
        taken
    }

    /// As [`Self::admit`] for one hash that also stands for ancestors whose own hashes are unknown.
    pub(super) fn admit_anchor(
        &mut self,
        chains: &Chains,
        hash: EngineHash,
        keys: &[BlockKey],
    ) -> Option<BlockRef> {
        let mut blocks = Vec::with_capacity(keys.len());
        let placed = chains.credit(self.credit.holder, None, keys, &mut blocks);
        if placed < keys.len() {
            for (block, _) in blocks.iter().filter(|(_, held)| !held) {
                chains.uncredit(self.credit.holder, *block, 1);
            }
            return None;
        }
        if keys.len() as u32 > self.ratio {
            self.spans.insert(hash.0 as u64, keys.len() as u32);
        }
        self.count(chains, hash, &blocks);
        self.known(hash).map(|(block, _)| block)
    }

    /// Counts one copy of a hash whose blocks are credited already, each with whether it was so before.
    fn count(&mut self, chains: &Chains, hash: EngineHash, blocks: &[(BlockRef, bool)]) {
        let Some((last, _)) = blocks.last().copied() else { return };
        match self.hashes.store(hash, last) {
            StoreResult::Added => self.share_of(blocks),
            StoreResult::Copy(entry) if entry.copies > 0 => {
                self.suspects += 1;
                self.suspects -= u64::from(entry.flags & SHRUNK != 0);
                if entry.flags & QUEUED == 0 {
                    self.queue(hash);
                }
                let (copies, flags) = (entry.copies.saturating_add(1), entry.flags & !SHRUNK | QUEUED);
                if flags != entry.flags {
                    self.hashes.insert(hash, Entry { copies, flags, ..entry });
                }
                self.copies += 1;
                return;
            }
            StoreResult::Copy(entry) => {
                // A ghost that is held again.
                self.share_of(blocks);
                self.memory.take(chains, last, self.span(hash));
                self.hashes.insert(hash, Entry { block: last, copies: 1, flags: entry.flags & QUEUED });
                self.ghosts -= 1;
            }
            StoreResult::Other(_) => {
                // The same hash for other content: what it stood for is gone.
                self.share_of(blocks);
                self.forget(chains, hash);
                self.hashes.store(hash, last);
            }
        }
        self.copies += 1;
        self.counted += 1;
        self.counted_most = self.counted_most.max(self.counted);
    }

    /// Notes that blocks which were credited before are so for another hash as well. One that was credited by its chain
    /// alone is this hash's from now on.
    fn share_of(&mut self, blocks: &[(BlockRef, bool)]) {
        for (block, _) in blocks.iter().filter(|(_, held)| *held) {
            if !self.proofs.remove(block) {
                *self.credit.others.entry(*block).or_default() += 1;
            }
        }
    }

    /// Counts a copy of a hash that another plane (or this one) knows: its block, held by `from`.
    pub(super) fn adopt(&mut self, chains: &Chains, hash: EngineHash, block: BlockRef, from: Holder) {
        let mut blocks = Vec::with_capacity(self.ratio as usize);
        let mut at = Some(block);
        for _ in 0..self.span(hash) {
            let Some(block) = at else { break };
            at = chains.parent(block);
            blocks.push((block, chains.share(from, self.credit.holder, block, 1) == 0));
        }
        blocks.reverse();
        self.count(chains, hash, &blocks);
    }

    /// Credits a whole chain up to `block` as far as `from` remembers it; returns how many blocks that added.
    ///
    /// Cost: two short reads for each block of the chain. A stream pays it once for each chain after a loss.
    pub(super) fn prove(&mut self, chains: &Chains, from: Holder, block: BlockRef) -> u32 {
        let (mut proven, mut at) = (0, Some(block));
        while let Some(block) = at {
            at = chains.parent(block);
            if !chains.holds(self.credit.holder, block)
                && chains.share(from, self.credit.holder, block, 1) > 0
            {
                self.proofs.insert(block);
                proven += 1;
            }
        }
        proven
    }

    /// Who remembers ghosts.
    pub(super) fn memory(&self) -> Holder {
        self.memory.holder
    }

    /// One copy of `hash` is gone.
    pub(super) fn evict(&mut self, chains: &Chains, hash: EngineHash) -> Evicted {
        let Some(entry) = self.hashes.get(hash) else { return Evicted::Nothing };
        match entry.copies {
            // A credit that is no proof is that of another hash for the same block.
            0 => return self.disprove(chains, entry.block, self.span(hash)),
            1 => self.bury(chains, hash, entry),
            copies => {
                // One copy fewer is one suspect fewer, but the hash is one itself now.
                self.suspects -= u64::from(entry.flags & SHRUNK != 0);
                self.hashes.insert(hash, Entry { copies: copies - 1, flags: entry.flags | SHRUNK, ..entry });
            }
        }
        self.copies -= 1;
        Evicted::Copy
    }

    /// Ends the credit of a block that was credited by its chain alone, with a hash that only an older plane knows.
    pub(super) fn unprove(&mut self, chains: &Chains, block: BlockRef) -> Evicted {
        self.disprove(chains, block, self.ratio)
    }

    /// Ends the credit of those of `span` blocks up to `block` that were credited by their chain alone.
    fn disprove(&mut self, chains: &Chains, block: BlockRef, span: u32) -> Evicted {
        let (mut evicted, mut at) = (Evicted::Nothing, Some(block));
        for _ in 0..span {
            let Some(block) = at else { break };
            // Before it is taken: nobody else may hold it.
            at = chains.parent(block);
            if self.proofs.remove(&block) {
                chains.uncredit(self.credit.holder, block, 1);
                evicted = Evicted::Proof;
            }
        }
        evicted
    }
}

mod surplus;
mod upkeep;
