//! What happens to many entries of a plane at once: doubt, and the bound on ghosts.

use super::{Entry, GHOSTS_SPARE, OLD, Plane, QUEUED, SHRUNK};
use crate::events::event::EngineHash;
use crate::index::chains::Chains;

impl Plane {
    /// The last counted copy of a hash is gone: it is remembered from now on. The caller takes the copies away.
    pub(super) fn bury(&mut self, chains: &Chains, hash: EngineHash, entry: Entry) {
        let span = self.span(hash);
        self.memory.share(chains, self.credit.holder, entry.block, span);
        self.credit.take(chains, entry.block, span);
        self.suspects -= u64::from(entry.flags & SHRUNK != 0) + u64::from(entry.copies.saturating_sub(1));
        self.hashes.insert(hash, Entry { copies: 0, flags: entry.flags & QUEUED, ..entry });
        self.counted -= 1;
        self.ghosts += 1;
        self.young += 1;
        if self.young > (self.counted_most + GHOSTS_SPARE) / 2 {
            self.sweep(chains);
        }
    }

    /// Nothing that is counted can be relied on any more: every entry becomes a ghost. In one step if there was none.
    pub(in crate::index) fn doubt(&mut self, chains: &Chains) {
        if self.ghosts == 0 {
            std::mem::swap(&mut self.credit, &mut self.memory);
            self.hashes.retain(|_, entry| {
                *entry = Entry { copies: 0, flags: 0, ..*entry };
                true
            });
        } else {
            let mut counted = Vec::with_capacity(self.counted);
            self.hashes.retain(|hash, entry| {
                if entry.copies > 0 {
                    counted.push((EngineHash(hash.into()), entry.block));
                }
                *entry = Entry { copies: 0, flags: 0, ..*entry };
                true
            });
            for (hash, block) in counted {
                let span = self.span(hash);
                self.memory.share(chains, self.credit.holder, block, span);
            }
            chains.clear_holder(self.credit.holder);
            self.credit.others.clear();
        }
        self.ghosts += self.counted;
        self.young = 0;
        self.surplus = Default::default();
        self.proofs = Default::default();
        (self.copies, self.counted, self.suspects) = (0, 0, 0);
    }

    /// Forgets a hash, whatever its count.
    pub(super) fn forget(&mut self, chains: &Chains, hash: EngineHash) {
        let Some(entry) = self.hashes.remove(hash) else { return };
        let span = self.span(hash);
        self.spans.remove(&(hash.0 as u64));
        if entry.copies > 0 {
            self.credit.take(chains, entry.block, span);
            self.suspects -= u64::from(entry.flags & SHRUNK != 0) + u64::from(entry.copies - 1);
            self.copies -= u64::from(entry.copies);
            self.counted -= 1;
        } else {
            // Before the memory lets go of it: nobody else may hold it.
            self.disprove(chains, entry.block, span);
            self.memory.take(chains, entry.block, span);
            self.ghosts -= 1;
        }
    }

    /// Forgets every ghost that is not credited by its chain; returns how many.
    pub(in crate::index) fn forget_ghosts(&mut self, chains: &Chains) -> u64 {
        let of_no_proof = |(hash, entry): (u64, Entry)| {
            let proof = self.proofs.contains(&entry.block);
            (entry.copies == 0 && !proof).then_some(EngineHash(hash.into()))
        };
        let ghosts: Vec<EngineHash> = self.hashes.iter().filter_map(of_no_proof).collect();
        for hash in &ghosts {
            self.forget(chains, *hash);
        }
        self.young = 0;
        ghosts.len() as u64
    }

    /// Forgets the deepest eighth of its hashes; returns how many. Takes 16 bytes for each hash while it lasts.
    pub(in crate::index) fn forget_deepest(&mut self, chains: &Chains) -> u64 {
        let depth = |(hash, entry): (u64, Entry)| (chains.depth(entry.block), hash);
        let mut hashes: Vec<(usize, u64)> = self.hashes.iter().map(depth).collect();
        let kept = hashes.len() - hashes.len().div_ceil(8);
        if kept < hashes.len() {
            hashes.select_nth_unstable(kept);
        }
        for (_, hash) in &hashes[kept..] {
            self.forget(chains, EngineHash((*hash).into()));
        }
        (hashes.len() - kept) as u64
    }

    /// Bytes on the heap beside what it has in the chains.
    pub(in crate::index) fn bytes(&self) -> usize {
        // A table of the standard library is at most seven eighths and at least half of that full.
        let tables = self.spans.capacity() + self.credit.others.capacity() + self.memory.others.capacity();
        self.hashes.bytes() + tables * 16 + self.proofs.capacity() * 9 + self.surplus.capacity() * 8
    }

    /// Forgets the ghosts that the last sweep found already, except those that are credited by their chain.
    fn sweep(&mut self, chains: &Chains) {
        let mut old = Vec::new();
        let proofs = &self.proofs;
        self.hashes.retain(|hash, entry| {
            if entry.copies == 0 && !proofs.contains(&entry.block) {
                if entry.flags & OLD != 0 {
                    old.push(EngineHash(hash.into()));
                }
                entry.flags |= OLD;
            }
            true
        });
        for hash in old {
            self.forget(chains, hash);
        }
        self.young = 0;
    }
}
