//! Blocks whose parent is unknown when they come, and what becomes of them when it turns up.

use warmpath_core::block;

use super::{Place, Setting, StreamBlocks};
use crate::events::event::{EngineHash, Stored};
use crate::index::admission::Skip;
use crate::index::waiting::Orphan;

impl StreamBlocks {
    /// Lets blocks wait for their unknown parent.
    pub(super) fn wait(
        &mut self,
        stored: &Stored,
        parent: EngineHash,
        hashes: &[EngineHash],
        at: &Setting<'_>,
    ) {
        let (group, medium) = (stored.group, stored.medium);
        if at.older.is_some() {
            // The repair brings the parent, and these blocks again.
            return;
        }
        self.tally.of(group, medium).orphans += hashes.len() as u64;
        let tokens = stored.tokens.chunks_exact(stored.block_tokens as usize);
        let mut parent = parent;
        for (done, (hash, tokens)) in hashes.iter().zip(tokens).enumerate() {
            if !self.orphans.add((group, medium, *hash), parent, tokens, at.now) {
                return self.tally.skip(group, medium, Skip::ParentUnknown, (hashes.len() - done) as u64);
            }
            parent = *hash;
        }
    }

    /// Takes in what waited for `hash`, and what waited for that, as long as no more than `most` entries are counted.
    pub(super) fn link(&mut self, hash: EngineHash, most: usize) {
        let mut known = vec![hash];
        while let Some(parent) = known.pop() {
            for ((group, medium, hash), orphan) in self.orphans.take_children(parent) {
                if self.counted() >= most {
                    self.tally.skip(group, medium, Skip::IndexFull, 1);
                } else if self.link_one((group, medium), parent, hash, &orphan) {
                    known.push(hash);
                }
            }
        }
    }

    fn link_one(&mut self, place: Place, parent: EngineHash, hash: EngineHash, orphan: &Orphan) -> bool {
        let Some((block, _)) = self.known(place, parent) else { return false };
        let (Some(key), Some(plane)) = (self.chains.key(block), self.planes.get_mut(&place)) else {
            return false;
        };
        let keys = block::chain(key, &orphan.tokens, self.rules.block_tokens as usize);
        let taken =
            (0..orphan.copies).map(|_| plane.admit(&self.chains, &[hash], Some(block), &keys)).sum::<usize>();
        self.tally.admit(place.0, place.1, taken as u64);
        self.tally.of(place.0, place.1).linked += u64::from(taken > 0);
        taken > 0
    }
}
