//! Engine hashes of one stream, group and medium: what each stands for, and how many copies there are.
//!
//! Not here: what the blocks are (`chains`), and what an event does to the counts (`stream`).

use std::collections::BTreeMap;

use super::chains::BlockRef;
use crate::events::event::EngineHash;

/// What one engine hash stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The block; of several key blocks in one engine block, the last.
    pub block: BlockRef,
    /// Physical copies; 0 for a hash that is only remembered for its key.
    pub copies: u32,
    /// Three bits that the stream gives a meaning.
    pub flags: u8,
}

/// Engine hash -> [`Entry`]. Hashes are told apart by their low 64 bits, which is all that vLLM publishes by default.
#[derive(Default)]
pub struct Hashes {
    entries: BTreeMap<u64, Entry>,
}

impl Hashes {
    /// No hashes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What `hash` stands for.
    pub fn get(&self, hash: EngineHash) -> Option<Entry> {
        self.entries.get(&(hash.0 as u64)).copied()
    }

    /// Sets what `hash` stands for; returns what it stood for before.
    pub fn insert(&mut self, hash: EngineHash, entry: Entry) -> Option<Entry> {
        self.entries.insert(hash.0 as u64, entry)
    }

    /// Forgets `hash`; returns what it stood for.
    pub fn remove(&mut self, hash: EngineHash) -> Option<Entry> {
        self.entries.remove(&(hash.0 as u64))
    }

    /// Visits every entry, in no order; the ones for which `keep` says false are forgotten. `keep` may change them.
    pub fn retain(&mut self, mut keep: impl FnMut(u64, &mut Entry) -> bool) {
        self.entries.retain(|hash, entry| keep(*hash, entry));
    }
}
