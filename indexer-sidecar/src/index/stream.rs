//! What one publisher has proven: a map from engine hash to block key, with a count of copies.
//!
//! A publisher is one (endpoint, data-parallel rank). Engines do not share physical blocks between requests that
//! compute the same text at the same time: the same hash is stored once per copy, and each copy's end is an event of
//! its own, so copies are counted. A key is held while any engine hash that stands for it has a copy in GPU memory.

use std::collections::HashMap;
use std::sync::Arc;

use warmpath_core::block::{self, BlockKey};

use super::KeyRules;
use super::admission::{self, Skip};
use crate::events::event::{EngineHash, Event, GroupKind, Medium, Removed, Stored};

/// Group of layers as events name it; publishers up to vLLM 0.19 do not.
type GroupId = Option<u32>;

/// What changed through one event.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Change {
    /// Copies that were added.
    pub admitted: u64,
    /// Copies that were taken away by `BlockRemoved`.
    pub evicted: u64,
    /// Blocks of the event that were not taken in, and why.
    pub skipped: Option<(Skip, u64)>,
}

struct Block {
    key: BlockKey,
    copies: u32,
}

/// One group of layers.
#[derive(Default)]
struct Group {
    kind: Option<GroupKind>,
    /// Not every store had exactly the tokens of its blocks.
    sparse: bool,
    /// It has stored in GPU memory: without its part there, a prefix is not cached.
    on_gpu: bool,
    /// How many engine hashes with a GPU copy stand for a key.
    held: HashMap<BlockKey, u32>,
}

impl Group {
    /// Whether its blocks prove that a prefix is cached.
    fn indexed(&self) -> bool {
        match self.kind {
            Some(kind) => kind == GroupKind::Full,
            None => !self.sparse,
        }
    }
}

/// The blocks of one publisher.
pub(super) struct StreamBlocks {
    model: Arc<str>,
    rules: KeyRules,
    blocks: HashMap<(GroupId, Medium, EngineHash), Block>,
    groups: HashMap<GroupId, Group>,
    block_tokens: Option<u32>,
    lookahead: bool,
}

impl StreamBlocks {
    pub(super) fn new(model: Arc<str>, rules: KeyRules) -> Self {
        Self {
            model,
            rules,
            blocks: HashMap::new(),
            groups: HashMap::new(),
            block_tokens: None,
            lookahead: false,
        }
    }

    /// Entries held: distinct (group, medium, engine hash).
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Block size that the publisher has told: the keys' own if any of its stores had that, else the last other one.
    pub(super) fn block_tokens(&self) -> Option<u32> {
        self.block_tokens
    }

    /// Leading keys that are held in GPU memory by every indexed group. Cost: one hash lookup per group and key, up
    /// to the first miss.
    pub(super) fn leading(&self, keys: &[BlockKey]) -> usize {
        let groups = self.groups.values().filter(|group| group.on_gpu && group.indexed());
        let leading = groups.map(|group| keys.iter().take_while(|key| group.held.contains_key(key)).count());
        // With lookahead the last block's hash also covers tokens after it, which a request need not share.
        leading.min().unwrap_or(0).saturating_sub(usize::from(self.lookahead))
    }

    /// Forgets everything: another process publishes, perhaps with other groups and another block size.
    pub(super) fn restart(&mut self) {
        *self = Self::new(Arc::clone(&self.model), self.rules);
    }

    /// Forgets every block, as after a loss that could not be repaired.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        for group in self.groups.values_mut() {
            group.held.clear();
        }
    }

    /// Applies one event. `room`: how many new entries the index still takes.
    pub(super) fn apply(&mut self, event: &Event, room: usize) -> Change {
        match event {
            Event::Stored(stored) => self.store(stored, room),
            Event::Removed(removed) => self.remove(removed),
            Event::Cleared => {
                let evicted = self.blocks.values().map(|block| u64::from(block.copies)).sum();
                self.clear();
                Change { evicted, ..Change::default() }
            }
        }
    }

    fn store(&mut self, stored: &Stored, room: usize) -> Change {
        let all = stored.hashes.len() as u64;
        let none = |skip| Change { skipped: Some((skip, all)), ..Change::default() };
        if let Err(skip) = self.note_group(stored) {
            return none(skip);
        }
        self.lookahead |= stored.lookahead;
        let (blocks, mut rest) = admission::keyable(stored, self.rules.block_tokens);
        if let (0, Some(skip)) = (blocks, rest) {
            return none(skip);
        }
        let parent = match stored.parent {
            Some(parent) => self.key_of(stored.group, parent).ok_or(Skip::ParentUnknown),
            None => admission::root(stored, &self.model, &self.rules),
        };
        let mut key = match parent {
            Ok(parent) => parent,
            Err(skip) => return none(skip),
        };
        let limit = self.blocks.len() + room;
        let mut admitted = 0;
        let tokens = stored.tokens.chunks_exact(stored.block_tokens as usize);
        for (hash, tokens) in stored.hashes.iter().zip(tokens).take(blocks) {
            key = block::child(key, tokens);
            if !self.admit((stored.group, stored.medium, *hash), key, limit) {
                rest = Some(Skip::IndexFull);
                break;
            }
            admitted += 1;
        }
        Change { admitted, evicted: 0, skipped: rest.map(|skip| (skip, all - admitted)) }
    }

    /// Learns what the event says about its group and block size; an error says why it is not indexed.
    fn note_group(&mut self, stored: &Stored) -> Result<(), Skip> {
        // A placeholder says nothing about its group.
        if stored.block_tokens == 0 || stored.tokens.is_empty() {
            return Err(Skip::Placeholder);
        }
        let dense = stored.tokens.len() as u64 == stored.hashes.len() as u64 * u64::from(stored.block_tokens);
        let group = self.groups.entry(stored.group).or_default();
        let before = group.indexed();
        group.kind = stored.kind.or(group.kind);
        group.sparse |= !dense;
        if !group.indexed() {
            if before {
                self.forget_group(stored.group);
            }
            return Err(Skip::GroupNotIndexed);
        }
        if !dense {
            return Err(Skip::TokenCount);
        }
        if stored.medium == Medium::Gpu {
            group.on_gpu = true;
            // Smaller entries for partly filled blocks may follow; they do not change the block size.
            if self.block_tokens != Some(self.rules.block_tokens) {
                self.block_tokens = Some(stored.block_tokens);
            }
        }
        Ok(())
    }

    /// Drops what was taken in while a group still looked like one that can be indexed.
    fn forget_group(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.held.clear();
        }
        self.blocks.retain(|(group, _, _), _| *group != id);
    }

    /// A hash stands for the same key on every medium.
    fn key_of(&self, group: GroupId, hash: EngineHash) -> Option<BlockKey> {
        Medium::ALL.iter().find_map(|medium| self.blocks.get(&(group, *medium, hash))).map(|block| block.key)
    }

    /// Counts one more copy. False: the block is new and there are `limit` already.
    fn admit(&mut self, id: (GroupId, Medium, EngineHash), key: BlockKey, limit: usize) -> bool {
        let full = self.blocks.len() >= limit;
        match self.blocks.get_mut(&id) {
            Some(block) if block.key == key => {
                block.copies = block.copies.saturating_add(1);
                return true;
            }
            // The same hash for other content: what it stood for is gone.
            Some(_) => self.release(id),
            None if full => return false,
            None => {}
        }
        self.blocks.insert(id, Block { key, copies: 1 });
        if let (Medium::Gpu, Some(group)) = (id.1, self.groups.get_mut(&id.0)) {
            *group.held.entry(key).or_insert(0) += 1;
        }
        true
    }

    fn remove(&mut self, removed: &Removed) -> Change {
        let mut change = Change::default();
        for hash in &removed.hashes {
            let id = (removed.group, removed.medium, *hash);
            // A block that we never took in is gone without a trace.
            let Some(block) = self.blocks.get_mut(&id) else { continue };
            change.evicted += 1;
            block.copies -= 1;
            if block.copies == 0 {
                self.release(id);
            }
        }
        change
    }

    /// Takes an entry out, whatever its count.
    fn release(&mut self, id: (GroupId, Medium, EngineHash)) {
        let Some(block) = self.blocks.remove(&id) else { return };
        if id.1 != Medium::Gpu {
            return;
        }
        let Some(group) = self.groups.get_mut(&id.0) else { return };
        if let Some(count) = group.held.get_mut(&block.key) {
            *count -= 1;
            if *count == 0 {
                group.held.remove(&block.key);
            }
        }
    }
}
