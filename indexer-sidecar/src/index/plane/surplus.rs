//! Copies that may not exist, and which of them go when there are more than the engine has memory for.
//!
//! Requests with `kv_cache_report_mode=full` store blocks again that they only hit, so counts can grow beyond what the
//! engine holds; nothing in the stream tells which. What is certain: a hash that was not removed since it was last
//! stored has a copy. All other copies of a hash are **surplus**: of one that was removed since, each; of any other, all
//! but one.
//!
//! The rule: when copies and proofs are more than the engine's blocks, just as many surplus copies go as there are too
//! many, hash by hash, that one first which had surplus first (one that has none for a while keeps its place). A hash loses its
//! credit with its last copy. If that is not enough, removals were lost that no gap told of, and the whole stream is in doubt.
//!
//! Cost: amortised, one step for each store of a hash that has copies. 8 bytes for each hash with surplus.

use std::collections::HashSet;

use super::{Entry, Plane, QUEUED, SHRUNK};
use crate::events::event::EngineHash;
use crate::index::chains::Chains;

/// Hashes without surplus that may wait beside as many as are counted, before they are sorted out.
const STALE_SPARE: usize = 1024;

impl Plane {
    /// `hash` has surplus from now on.
    pub(super) fn queue(&mut self, hash: EngineHash) {
        if self.surplus.len() > 2 * self.counted + STALE_SPARE {
            let mut seen = HashSet::new();
            let hashes = &self.hashes;
            self.surplus.retain(|hash| {
                let entry = hashes.get(EngineHash((*hash).into()));
                entry.is_some_and(|entry| entry.flags & QUEUED != 0) && seen.insert(*hash)
            });
        }
        self.surplus.push_back(hash.0 as u64);
    }

    /// Takes away as many surplus copies as are `over` the engine's memory, or all; returns how many.
    pub(in crate::index) fn trim(&mut self, chains: &Chains, over: u64) -> u64 {
        let mut taken = 0;
        while taken < over {
            let Some(hash) = self.surplus.pop_front() else { break };
            let hash = EngineHash(hash.into());
            let Some(entry) = self.hashes.get(hash).filter(|entry| entry.flags & QUEUED != 0) else {
                continue;
            };
            let proven = u32::from(entry.flags & SHRUNK == 0);
            let surplus = u64::from(entry.copies.saturating_sub(proven));
            let take = surplus.min(over - taken);
            taken += take;
            self.copies -= take;
            let copies = entry.copies - take as u32;
            let more = take < surplus;
            let flags = if more { entry.flags } else { entry.flags & !QUEUED };
            if more {
                self.surplus.push_front(hash.0 as u64);
            }
            if copies == 0 && entry.copies > 0 {
                self.bury(chains, hash, Entry { flags, ..entry });
            } else {
                self.suspects -= take;
                self.hashes.insert(hash, Entry { copies, flags, ..entry });
            }
        }
        taken
    }
}
