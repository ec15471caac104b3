//! An engine with a prefix cache and nothing else: what it holds, and the batches that it publishes about it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use serde_json::{Value, json};

pub(crate) const BLOCK: usize = 2;
/// Blocks that it has memory for: some two thirds of what all prompts need.
const CAPACITY: usize = 40;

/// A block with everything before it.
pub(crate) type Path = Vec<u32>;

/// All prompts: four prefixes of four blocks, four endings each of three blocks.
pub(crate) fn prompts() -> Vec<Path> {
    let ends = |prefix: u32| {
        (0..4).map(move |end| {
            let prefix = (0..4).map(move |block| 100 * prefix + block);
            prefix.chain((0..3).map(move |block| 1000 + 10 * end + block)).collect()
        })
    };
    (0..4).flat_map(ends).collect()
}

pub(crate) fn tokens(path: &[u32]) -> Vec<u32> {
    path.iter().flat_map(|block| [*block, block + 50_000]).collect()
}

/// What one batch told: blocks removed, then stored.
#[derive(Clone, Default)]
pub(crate) struct Told {
    removed: Vec<Path>,
    stored: Vec<Path>,
}

pub(crate) struct Engine {
    pub(crate) process: u64,
    /// When each block was used last.
    cache: BTreeMap<Path, u64>,
    clock: u64,
    sent: Vec<Told>,
    /// Blocks that are gone, and the batch that said so.
    pub(crate) removed: HashMap<Path, u64>,
    /// Blocks in the chain of a store since this was emptied.
    pub(crate) proven: HashSet<Path>,
}

impl Engine {
    pub(crate) fn new(process: u64) -> Self {
        Self {
            process,
            cache: BTreeMap::new(),
            clock: 0,
            sent: Vec::new(),
            removed: HashMap::new(),
            proven: HashSet::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(crate) fn holds(&self, path: &[u32]) -> bool {
        self.cache.contains_key(path)
    }

    pub(crate) fn leading(&self, path: &Path) -> usize {
        (1..=path.len()).take_while(|blocks| self.holds(&path[..*blocks])).count()
    }

    pub(crate) fn told(&self, seq: u64) -> &Told {
        &self.sent[seq as usize]
    }

    /// Computes a prompt; `None`: all of it was cached, and nothing is published.
    pub(crate) fn request(&mut self, prompt: &Path) -> Option<(u64, Bytes)> {
        let hits = self.leading(prompt);
        self.clock += 1;
        for blocks in 1..=prompt.len() {
            self.cache.insert(prompt[..blocks].to_vec(), self.clock);
        }
        if hits == prompt.len() {
            return None;
        }
        let mut told = Told::default();
        while self.cache.len() > CAPACITY {
            // Least recently used; of a chain its end.
            let oldest = self.cache.iter().min_by_key(|(path, used)| (**used, std::cmp::Reverse(path.len())));
            let Some(oldest) = oldest.map(|(path, _)| path.clone()) else { break };
            self.cache.remove(&oldest);
            told.removed.push(oldest);
        }
        told.stored = (hits + 1..=prompt.len()).map(|blocks| prompt[..blocks].to_vec()).collect();
        let seq = self.sent.len() as u64;
        for path in &told.removed {
            self.removed.insert(path.clone(), seq);
        }
        for path in &told.stored {
            self.removed.remove(path);
        }
        self.proven.extend((1..=prompt.len()).map(|blocks| prompt[..blocks].to_vec()));
        let payload = self.payload(seq, &told, prompt, hits);
        self.sent.push(told);
        Some((seq, payload))
    }

    fn payload(&self, seq: u64, told: &Told, prompt: &Path, hits: usize) -> Bytes {
        let removed = told.removed.iter().map(|path| {
            json!({"type": "BlockRemoved", "block_hashes": [self.hash(path)], "medium": "GPU", "group_idx": 0})
        });
        let stored = json!({
            "type": "BlockStored",
            "block_hashes": told.stored.iter().map(|path| self.hash(path)).collect::<Vec<_>>(),
            "parent_block_hash": if hits == 0 { Value::Null } else { self.hash(&prompt[..hits]).into() },
            "token_ids": tokens(&prompt[hits..]),
            "block_size": BLOCK,
            "medium": "GPU",
            "group_idx": 0,
            "kv_cache_spec_kind": "full_attention",
        });
        let events: Vec<Value> = removed.chain([stored]).collect();
        let time = (self.process * 1_000_000 + seq) as f64;
        rmp_serde::to_vec(&json!([time, events, 0])).unwrap().into()
    }

    /// Another process has other hashes for the same content.
    fn hash(&self, path: &[u32]) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.process, path).hash(&mut hasher);
        hasher.finish()
    }
}

/// What is credited if everything is dropped at each fault, and nothing is replayed.
#[derive(Default)]
pub(crate) struct Purged {
    next: Option<u64>,
    held: HashSet<Path>,
}

impl Purged {
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn take(&mut self, seq: u64, told: &Told) {
        if self.next.is_some_and(|next| next != seq) {
            self.forget();
        }
        self.next = Some(seq + 1);
        for path in &told.removed {
            self.held.remove(path);
        }
        for path in &told.stored {
            // A store whose parent is unknown has no key.
            if path.len() == 1 || self.held.contains(&path[..path.len() - 1]) {
                self.held.insert(path.clone());
            }
        }
    }

    pub(crate) fn held(&self, engine: &Engine) -> usize {
        self.held.iter().filter(|path| engine.holds(path)).count()
    }
}
