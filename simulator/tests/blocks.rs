//! The block pool against a naive one that scans lists.

mod common;

use proptest::prelude::*;
use warmpath_simulator::engine::blocks::{BlockId, BlockPool};
use warmpath_simulator::engine::{Digest, HashAlgorithm};

/// What is done to a pool.
#[derive(Clone, Debug)]
enum Action {
    /// A request arrives: reuses the cached prefix of a content chain and allocates the rest of it.
    Request {
        chain: u8,
        blocks: usize,
    },
    /// The n-th request ends.
    Finish(usize),
    Reset,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..4u8, 1..6usize).prop_map(|(chain, blocks)| Action::Request { chain, blocks }),
        5 => (0..8usize).prop_map(Action::Finish),
        1 => Just(Action::Reset),
    ]
}

/// Content of a block: (chain, position), with the first two positions the same in all chains.
fn content(chain: u8, position: usize) -> Digest {
    let chain = if position < 2 { 0 } else { chain };
    HashAlgorithm::Sha256.none_hash(&format!("{chain}/{position}"))
}

/// The naive twin: the free list is a `Vec`, copies are found by scanning in the order in which they were stored.
struct Naive {
    free: Vec<BlockId>,
    references: Vec<u32>,
    stored: Vec<(Digest, BlockId)>,
}

impl Naive {
    fn prefix(&self, digests: &[Digest]) -> Vec<BlockId> {
        let find =
            |digest: &Digest| self.stored.iter().find(|(stored, _)| stored == digest).map(|(_, id)| *id);
        digests.iter().map_while(find).collect()
    }

    fn take(&mut self, ids: &[BlockId]) {
        for id in ids {
            self.references[*id as usize] += 1;
            self.free.retain(|free| free != id);
        }
    }

    fn allocate(&mut self, count: usize) -> (Vec<BlockId>, Vec<Digest>) {
        let ids: Vec<_> = self.free.drain(..count).collect();
        let mut removed = vec![];
        for id in &ids {
            self.references[*id as usize] = 1;
            removed.extend(self.stored.iter().filter(|(_, stored)| stored == id).map(|(digest, _)| *digest));
            self.stored.retain(|(_, stored)| stored != id);
        }
        (ids, removed)
    }

    fn release(&mut self, ids: &[BlockId]) {
        for id in ids.iter().rev() {
            self.references[*id as usize] -= 1;
            if self.references[*id as usize] == 0 {
                self.free.push(*id);
            }
        }
    }
}

const BLOCKS: usize = 9;

proptest! {
    #[test]
    fn the_pool_does_what_the_naive_one_does(actions in prop::collection::vec(action(), 1..80)) {
        let mut pool = BlockPool::new(BLOCKS);
        let mut naive =
            Naive { free: (0..BLOCKS as BlockId).collect(), references: vec![0; BLOCKS], stored: vec![] };
        let mut requests: Vec<Vec<BlockId>> = vec![];
        for action in actions {
            match action {
                Action::Request { chain, blocks } => {
                    let digests: Vec<_> = (0..blocks).map(|position| content(chain, position)).collect();
                    // The last block is never reused, as if it held the last token.
                    let hits = pool.longest_prefix(&digests[..blocks - 1]);
                    prop_assert_eq!(&hits, &naive.prefix(&digests[..blocks - 1]));
                    let new = blocks - hits.len();
                    if new + pool.free_among(&hits) > pool.free() {
                        continue;
                    }
                    pool.take(&hits);
                    naive.take(&hits);
                    let (mut ids, mut removed) = (hits, vec![]);
                    let first = ids.len();
                    pool.allocate(new, &mut ids, |digest| removed.push(digest));
                    let (naive_ids, naive_removed) = naive.allocate(new);
                    prop_assert_eq!(&ids[first..], &naive_ids[..]);
                    prop_assert_eq!(removed, naive_removed);
                    for (id, digest) in ids[first..].iter().zip(&digests[first..]) {
                        pool.store(*id, *digest);
                        naive.stored.push((*digest, *id));
                    }
                    requests.push(ids);
                }
                Action::Finish(which) if which < requests.len() => {
                    let ids = requests.remove(which);
                    pool.release(&ids);
                    naive.release(&ids);
                }
                Action::Finish(_) => {}
                Action::Reset => {
                    prop_assert_eq!(pool.reset(), requests.is_empty());
                    if requests.is_empty() {
                        naive.stored.clear();
                    }
                }
            }
            prop_assert_eq!(pool.free(), naive.free.len());
            prop_assert_eq!(pool.used() + pool.free(), BLOCKS);
            let copies: usize = pool.cached().map(|(_, copies)| copies).sum();
            prop_assert_eq!(copies, naive.stored.len());
        }
    }
}
