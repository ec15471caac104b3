//! The table of engine hashes against a plain map.

use std::collections::HashMap;
use std::sync::Arc;

use indexer_sidecar::events::event::EngineHash;
use indexer_sidecar::index::budget::Budget;
use indexer_sidecar::index::chains::{BlockRef, Chains};
use indexer_sidecar::index::hashes::{Entry, Hashes, StoreResult};
use proptest::prelude::*;
use warmpath_core::block::BlockKey;

#[derive(Clone, Debug)]
enum Op {
    Store {
        hash: u64,
        block: usize,
    },
    Insert {
        hash: u64,
        block: usize,
        copies: u32,
        flags: u8,
    },
    Remove(u64),
    /// Forgets what has so many copies or more, and flags the rest.
    Retain(u32),
}

/// Few hashes, so that they meet; some differ only in their high bits.
fn hashes() -> impl Strategy<Value = u64> {
    prop_oneof![0..40_u64, (0..40_u64).prop_map(|hash| hash << 40), any::<u64>()]
}

fn ops() -> impl Strategy<Value = Op> {
    let copies = prop_oneof![0..3_u32, 29..34_u32, Just(u32::MAX)];
    prop_oneof![
        40 => (hashes(), 0..3_usize).prop_map(|(hash, block)| Op::Store { hash, block }),
        10 => (hashes(), 0..3_usize, copies, 0..8_u8).prop_map(|(hash, block, copies, flags)| Op::Insert { hash, block, copies, flags }),
        30 => hashes().prop_map(Op::Remove),
        1 => (1..40_u32).prop_map(Op::Retain),
    ]
}

fn blocks() -> Vec<BlockRef> {
    let chains = Chains::new(Arc::new(Budget::new(usize::MAX)));
    let holder = chains.add_holder().unwrap();
    let mut blocks = Vec::new();
    chains.credit(holder, None, &[1, 2, 3].map(BlockKey), &mut blocks);
    blocks.into_iter().map(|(block, _)| block).collect()
}

/// What the plain map does; what the table must answer.
fn apply(twin: &mut HashMap<u64, Entry>, hashes: &mut Hashes, blocks: &[BlockRef], op: &Op) {
    let full = |hash: u64| EngineHash(u128::from(hash) | 1 << 100);
    match *op {
        Op::Store { hash, block } => {
            let block = blocks[block];
            let expected = match twin.get_mut(&hash) {
                None => {
                    twin.insert(hash, Entry { block, copies: 1, flags: 0 });
                    StoreResult::Added
                }
                Some(entry) if entry.block == block => {
                    let before = *entry;
                    entry.copies = entry.copies.saturating_add(1);
                    StoreResult::Copy(before)
                }
                Some(entry) => StoreResult::Other(*entry),
            };
            assert_eq!(hashes.store(full(hash), block), expected);
        }
        Op::Insert { hash, block, copies, flags } => {
            let entry = Entry { block: blocks[block], copies, flags };
            assert_eq!(hashes.insert(full(hash), entry), twin.insert(hash, entry));
        }
        Op::Remove(hash) => assert_eq!(hashes.remove(full(hash)), twin.remove(&hash)),
        Op::Retain(most) => {
            twin.retain(|_, entry| entry.copies < most);
            twin.values_mut().for_each(|entry| entry.flags = 7);
            hashes.retain(|_, entry| {
                entry.flags = 7;
                entry.copies < most
            });
        }
    }
}

proptest! {
    #[test]
    fn equals_a_plain_map(ops in prop::collection::vec(ops(), 0..600)) {
        let blocks = blocks();
        let (mut twin, mut hashes) = (HashMap::new(), Hashes::new());
        for op in ops {
            apply(&mut twin, &mut hashes, &blocks, &op);
            prop_assert_eq!(hashes.len(), twin.len());
        }
        let all: HashMap<u64, Entry> = hashes.iter().collect();
        prop_assert_eq!(&all, &twin);
        for (hash, entry) in twin {
            prop_assert_eq!(hashes.get(EngineHash(u128::from(hash))), Some(entry));
            hashes.remove(EngineHash(u128::from(hash)));
        }
        prop_assert!(hashes.is_empty());
        prop_assert!(hashes.bytes() < 100, "an empty table keeps {} bytes", hashes.bytes());
    }
}

/// Through many sizes and back, with the bytes in bounds all the way.
#[test]
fn a_large_table_grows_and_shrinks() {
    let blocks = blocks();
    let mut rng = fastrand::Rng::with_seed(1);
    let hashes_of: Vec<u64> = (0..40_000).map(|_| rng.u64(..)).collect();
    let (mut twin, mut hashes) = (HashMap::new(), Hashes::new());
    for (at, hash) in hashes_of.iter().enumerate() {
        apply(&mut twin, &mut hashes, &blocks, &Op::Store { hash: *hash, block: at % 3 });
        // The index may just have grown, and a chunk of the log is to spare.
        let per_entry = hashes.bytes().saturating_sub(3_072) as f64 / hashes.len() as f64;
        assert!(at < 1_000 || per_entry < 22.4, "{per_entry} bytes per entry at {at}");
    }
    assert_eq!(&hashes.iter().collect::<HashMap<_, _>>(), &twin);
    for (at, hash) in hashes_of.iter().enumerate() {
        apply(&mut twin, &mut hashes, &blocks, &Op::Remove(*hash));
        if at % 5_000 == 0 {
            assert_eq!(&hashes.iter().collect::<HashMap<_, _>>(), &twin);
        }
    }
    assert_eq!((hashes.len(), hashes.bytes()), (0, 0));
}

/// Entries come and go at random while the table is as full as it gets, so that many lie beyond the bucket that is theirs.
#[test]
fn a_full_table_keeps_what_others_leave_behind() {
    let blocks = blocks();
    for seed in 0..8 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut twin, mut hashes) = (HashMap::new(), Hashes::new());
        let mut held: Vec<u64> = Vec::new();
        for at in 0..30_000 {
            // Grows first, then stays, then shrinks.
            let store = held.is_empty()
                || rng.usize(..30_000) > at.max(10_000) / 2 + if at > 20_000 { 8_000 } else { 0 };
            let op = match store {
                true => {
                    held.push(rng.u64(..));
                    Op::Store { hash: held[held.len() - 1], block: at % 3 }
                }
                false => Op::Remove(held.swap_remove(rng.usize(..held.len()))),
            };
            apply(&mut twin, &mut hashes, &blocks, &op);
            if at % 3_000 == 0 {
                for hash in &held {
                    assert_eq!(hashes.get(EngineHash(u128::from(*hash))), twin.get(hash).copied());
                }
            }
        }
        assert_eq!(&hashes.iter().collect::<HashMap<_, _>>(), &twin);
    }
}
