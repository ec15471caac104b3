//! Engine hashes of one stream, group and medium: what each stands for, and how many copies there are.
//!
//! Cost of a call: one cache line is read that is rarely in a cache, and another one where the hash is known already;
//! [`Hashes::touch`] asks for the first ahead, so that many calls wait for memory together. Memory: 12 bytes per entry
//! (hash 6, place 5, copies and flags 1; 13 where there are 65,536 or more) in a log that only grows at its end, and 4.3 in an
//! index that is 42 to 91 % full and has the rest of the hash, 18.8 bytes on average and 22.3 right after the index grew
//! ([`table`]).
//!
//! Not here: what the blocks are (`chains`), and what an event does to the counts (`stream`).

mod bucket;
mod entry;
mod log;
mod mix;
mod table;

use std::collections::BTreeMap;

use fastrand::Rng;

pub use self::entry::Entry;
use self::entry::{COPIES_INLINE, pack, unpack};
use self::mix::Mix;
use self::table::Table;
use super::chains::BlockRef;
use crate::events::event::EngineHash;

/// How many calls ahead [`Hashes::touch`] is worth its while: memory answers some tens of requests at a time.
pub const AHEAD: usize = 24;

/// What [`Hashes::store`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreResult {
    /// The hash is new, with one copy.
    Added,
    /// The hash was known for this block; what it was before.
    Copy(Entry),
    /// The hash stood for something else, and still does: nothing was changed.
    Other(Entry),
}

/// Engine hash -> [`Entry`]. Hashes are told apart by their low 64 bits, which is all that vLLM publishes by default.
pub struct Hashes {
    table: Table,
    mix: Mix,
    /// Draws by how much the table grows.
    random: Rng,
    /// Copies of the entries that have [`COPIES_INLINE`] or more, by mixed hash.
    many: BTreeMap<u64, u32>,
}

impl Default for Hashes {
    fn default() -> Self {
        let seed = fastrand::u64(..);
        Self {
            table: Table::default(),
            mix: Mix::new(seed),
            random: Rng::with_seed(seed),
            many: BTreeMap::new(),
        }
    }
}

impl Hashes {
    /// No hashes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes in it.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        // A B-tree node holds 5 to 11 entries of 12 bytes, with a header: 32 bytes an entry is an upper bound.
        self.table.bytes() + self.many.len() * 32
    }

    /// Asks memory for what a call for `hash` will read, and does not wait for it.
    #[inline]
    pub fn touch(&self, hash: EngineHash) {
        self.table.touch(self.mix.mixed(hash.0 as u64));
    }

    /// What `hash` stands for.
    #[inline]
    pub fn get(&self, hash: EngineHash) -> Option<Entry> {
        let hash = self.mix.mixed(hash.0 as u64);
        Some(unpack(hash, self.table.at(self.table.find(hash)?), &self.many))
    }

    /// Sets what `hash` stands for; returns what it stood for before.
    pub fn insert(&mut self, hash: EngineHash, entry: Entry) -> Option<Entry> {
        self.change(hash, |_| Some(entry))
    }

    /// Counts one more copy of `block` under `hash`, in one search: what a store does for each of its blocks.
    #[inline]
    pub fn store(&mut self, hash: EngineHash, block: BlockRef) -> StoreResult {
        let before = self.change(hash, |old| match old {
            None => Some(Entry { block, copies: 1, flags: 0 }),
            Some(entry) if entry.block != block => Some(entry),
            Some(entry) => Some(Entry { copies: entry.copies.saturating_add(1), ..entry }),
        });
        match before {
            None => StoreResult::Added,
            Some(entry) if entry.block != block => StoreResult::Other(entry),
            Some(entry) => StoreResult::Copy(entry),
        }
    }

    /// Forgets `hash`; returns what it stood for.
    pub fn remove(&mut self, hash: EngineHash) -> Option<Entry> {
        self.change(hash, |_| None)
    }

    /// Every hash (its low 64 bits) and what it stands for, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Entry)> {
        self.table.iter().map(|(hash, packed)| (self.mix.unmixed(hash), unpack(hash, packed, &self.many)))
    }

    /// Visits every entry, in no order; the ones for which `keep` says false are forgotten. `keep` may change them.
    pub fn retain(&mut self, mut keep: impl FnMut(u64, &mut Entry) -> bool) {
        let Self { table, mix, random, many } = self;
        table.retain(random, |hash, packed| {
            let before = unpack(hash, packed, many);
            let mut entry = before;
            if keep(mix.unmixed(hash), &mut entry) {
                return Some(pack(hash, entry, before.copies, many));
            }
            if before.copies >= COPIES_INLINE {
                many.remove(&hash);
            }
            None
        });
    }

    /// Sets what `hash` stands for to what `how` makes of it; returns what it was before. One search.
    #[inline]
    pub fn change(
        &mut self,
        hash: EngineHash,
        how: impl FnOnce(Option<Entry>) -> Option<Entry>,
    ) -> Option<Entry> {
        let hash = self.mix.mixed(hash.0 as u64);
        let found = self.table.find(hash);
        let before = found.map(|at| unpack(hash, self.table.at(at), &self.many));
        let after = how(before);
        if before == after {
            return before;
        }
        let copies = before.map_or(0, |entry| entry.copies);
        match (found, after) {
            (Some(at), Some(entry)) => {
                let packed = pack(hash, entry, copies, &mut self.many);
                self.table.set(at, hash, packed);
            }
            (None, Some(entry)) => {
                let packed = pack(hash, entry, 0, &mut self.many);
                self.table.insert(hash, packed, &mut self.random);
            }
            (Some(at), None) => {
                if copies >= COPIES_INLINE {
                    self.many.remove(&hash);
                }
                self.table.remove(at, hash, &mut self.random);
            }
            (None, None) => {}
        }
        before
    }
}
