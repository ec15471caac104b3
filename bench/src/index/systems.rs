//! Ours, the peers and the twin behind the same calls: apply an event, answer a query.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use dynamo_kv_router::indexer::concurrent_radix_tree_compressed::ConcurrentRadixTreeCompressed;
use dynamo_kv_router::indexer::{SyncIndexer, ThreadPoolIndexer};
use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, LocalBlockHash, RouterEvent, WorkerWithDpRank,
};
use indexer_sidecar::events::event::EngineHash;
use indexer_sidecar::index::budget::Budget;
use indexer_sidecar::index::chains::{BlockRef, Chains, Holder, Matches};
use indexer_sidecar::index::hashes::{AHEAD, Hashes};
use kv_index::{ChainBlockMap, ChainIndex, ContentHash, SequenceHash, StoredBlock};
use warmpath_core::block::BlockKey;

use super::corpus::{Block, Op};

/// The index of the sidecar: chains, and engine hashes per worker.
pub struct Ours {
    /// The chains.
    pub chains: Chains,
    /// By worker.
    pub workers: Vec<(Holder, Hashes)>,
    keys: Vec<BlockKey>,
    hashes: Vec<EngineHash>,
    placed: Vec<(BlockRef, bool)>,
}

impl Ours {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        let chains = Chains::new(Arc::new(Budget::new(usize::MAX)));
        let workers = (0..workers).filter_map(|_| Some((chains.add_holder()?, Hashes::new()))).collect();
        Self { chains, workers, keys: Vec::new(), hashes: Vec::new(), placed: Vec::new() }
    }

    /// Applies one event.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Store { worker, parent, blocks } => {
                let (holder, hashes) = &mut self.workers[*worker];
                if let (Some(parent), Some(first)) = (parent, blocks.first()) {
                    hashes.touch(engine(parent));
                    hashes.touch(engine(first));
                }
                let parent = match parent {
                    None => None,
                    Some(parent) => match hashes.get(engine(parent)) {
                        Some(entry) => Some(entry.block),
                        None => return,
                    },
                };
                self.hashes.clear();
                self.hashes.extend(blocks.iter().map(engine));
                self.hashes.iter().take(AHEAD).for_each(|hash| hashes.touch(*hash));
                self.keys.clear();
                self.keys.extend(blocks.iter().map(|block| block.key));
                self.placed.clear();
                self.chains.credit(*holder, parent, &self.keys, &mut self.placed);
                for (at, (hash, (place, _))) in self.hashes.iter().zip(&self.placed).enumerate() {
                    if let Some(ahead) = self.hashes.get(at + AHEAD) {
                        hashes.touch(*ahead);
                    }
                    // Nobody stores a block twice here.
                    hashes.store(*hash, *place);
                }
            }
            Op::Remove { worker, blocks } => {
                let (holder, hashes) = &mut self.workers[*worker];
                for block in blocks {
                    if let Some(entry) = hashes.remove(engine(block)) {
                        self.chains.uncredit(*holder, entry.block, 1);
                    }
                }
            }
        }
    }

    /// Bytes of the engine-hash maps.
    pub fn map_bytes(&self) -> usize {
        self.workers.iter().map(|(_, hashes)| hashes.bytes()).sum()
    }
}

fn engine(block: &Block) -> EngineHash {
    EngineHash(u128::from(block.engine))
}

/// Crate `kv-index` with the map per worker that its user keeps.
pub struct KvIndex {
    /// The index.
    pub index: ChainIndex,
    /// By worker.
    pub workers: Vec<(u32, ChainBlockMap)>,
    stored: Vec<StoredBlock>,
    removed: Vec<SequenceHash>,
}

impl KvIndex {
    /// For so many workers.
    pub fn new(workers: usize) -> Result<Self> {
        let index = ChainIndex::with_max_workers(workers);
        let id =
            |worker: usize| index.intern_worker(&worker.to_string()).map_err(|_| anyhow!("no more workers"));
        let workers =
            (0..workers).map(|worker| Ok((id(worker)?, ChainBlockMap::new()))).collect::<Result<_>>()?;
        Ok(Self { index, workers, stored: Vec::new(), removed: Vec::new() })
    }

    /// Applies one event.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Store { worker, parent, blocks } => {
                let (id, map) = &mut self.workers[*worker];
                self.stored.clear();
                self.stored.extend(blocks.iter().map(|block| StoredBlock {
                    seq_hash: SequenceHash(block.engine),
                    content_hash: ContentHash(block.content),
                }));
                // An unknown parent is an error here, and nothing in the others.
                let parent = parent.map(|parent| SequenceHash(parent.engine));
                let _ = self.index.apply_stored(*id, &self.stored, parent, map);
            }
            Op::Remove { worker, blocks } => {
                let (id, map) = &mut self.workers[*worker];
                self.removed.clear();
                self.removed.extend(blocks.iter().map(|block| SequenceHash(block.engine)));
                self.index.apply_removed(*id, &self.removed, map);
            }
        }
    }
}

/// Crate `dynamo-kv-router`: its default index behind its pool of one thread.
pub struct Dynamo {
    /// The index.
    pub index: ThreadPoolIndexer<ConcurrentRadixTreeCompressed>,
    event_id: u64,
}

impl Dynamo {
    /// Empty.
    pub fn new() -> Self {
        Self { index: ThreadPoolIndexer::new(ConcurrentRadixTreeCompressed::new(), 1, 16), event_id: 0 }
    }

    /// Sends one event to its thread.
    pub fn apply(&mut self, op: &Op) -> Result<()> {
        let (worker, data) = match op {
            Op::Store { worker, parent, blocks } => {
                (worker, KvCacheEventData::Stored(stored(*parent, blocks)))
            }
            Op::Remove { worker, blocks } => {
                let block_hashes =
                    blocks.iter().map(|block| ExternalSequenceBlockHash(block.engine)).collect();
                (worker, KvCacheEventData::Removed(KvCacheRemoveData { block_hashes }))
            }
        };
        self.event_id += 1;
        let event = KvCacheEvent { event_id: self.event_id, data, dp_rank: 0 };
        self.index.enqueue_event(RouterEvent::new(*worker as u64, event)).map_err(|error| anyhow!("{error}"))
    }

    /// Waits until all events are applied.
    pub async fn settle(&self) -> Result<()> {
        self.index.flush_and_wait().await.map(drop).map_err(|error| anyhow!("{error}"))
    }
}

fn stored(parent: Option<Block>, blocks: &[Block]) -> KvCacheStoreData {
    let block = |block: &Block| KvCacheStoredBlockData {
        block_hash: ExternalSequenceBlockHash(block.engine),
        tokens_hash: LocalBlockHash(block.content),
        mm_extra_info: None,
    };
    KvCacheStoreData {
        parent_hash: parent.map(|parent| ExternalSequenceBlockHash(parent.engine)),
        start_position: None,
        blocks: blocks.iter().map(block).collect(),
    }
}

/// A set of keys per worker.
pub struct Twin {
    held: Vec<HashSet<u64>>,
}

impl Twin {
    /// For so many workers.
    pub fn new(workers: usize) -> Self {
        Self { held: vec![HashSet::new(); workers] }
    }

    /// Applies one event.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Store { worker, parent, blocks } => {
                if parent.is_none_or(|parent| self.held[*worker].contains(&parent.key.0)) {
                    self.held[*worker].extend(blocks.iter().map(|block| block.key.0));
                }
            }
            Op::Remove { worker, blocks } => {
                for block in blocks {
                    self.held[*worker].remove(&block.key.0);
                }
            }
        }
    }
}

/// One query, as each system wants it.
pub struct Query {
    /// Ours.
    pub keys: Vec<BlockKey>,
    /// `kv-index`.
    pub contents: Vec<ContentHash>,
    /// Dynamo.
    pub locals: Vec<LocalBlockHash>,
}

impl Query {
    /// Of a prompt's blocks.
    pub fn new(blocks: &[Block]) -> Self {
        Self {
            keys: blocks.iter().map(|block| block.key).collect(),
            contents: blocks.iter().map(|block| ContentHash(block.content)).collect(),
            locals: blocks.iter().map(|block| LocalBlockHash(block.content)).collect(),
        }
    }
}

/// All systems with the same events applied.
pub struct All {
    /// Ours.
    pub ours: Ours,
    /// `kv-index`.
    pub kv_index: KvIndex,
    /// Dynamo.
    pub dynamo: Dynamo,
    twin: Twin,
}

impl All {
    /// Applies `ops` to all of them.
    pub async fn with(workers: usize, ops: &[Op]) -> Result<Self> {
        let mut all = Self {
            ours: Ours::new(workers),
            kv_index: KvIndex::new(workers)?,
            dynamo: Dynamo::new(),
            twin: Twin::new(workers),
        };
        for op in ops {
            all.ours.apply(op);
            all.kv_index.apply(op);
            all.twin.apply(op);
            all.dynamo.apply(op)?;
        }
        all.dynamo.settle().await?;
        Ok(all)
    }

    /// In how many of (query, worker) each differs from the twin: ours, `kv-index`, Dynamo; and how many there are.
    pub fn differences(&self, queries: &[Query]) -> [usize; 4] {
        let mut counts = [0; 4];
        let mut matches = Matches::default();
        for query in queries {
            self.ours.chains.lookup(&query.keys, &mut matches);
            let kv_index = self.kv_index.index.find_matches(&query.contents, false).scores;
            let dynamo = self.dynamo.index.backend().find_matches(&query.locals, false).scores;
            for (worker, held) in self.twin.held.iter().enumerate() {
                let expected = query.keys.iter().take_while(|key| held.contains(&key.0)).count() as u32;
                let theirs = WorkerWithDpRank { worker_id: worker as u64, dp_rank: 0 };
                let got = [
                    matches.of(self.ours.workers[worker].0),
                    kv_index.get(&self.kv_index.workers[worker].0).copied().unwrap_or(0),
                    dynamo.get(&theirs).copied().unwrap_or(0),
                ];
                for (count, got) in counts.iter_mut().zip(got) {
                    *count += usize::from(got != expected);
                }
                counts[3] += 1;
            }
        }
        counts
    }
}
