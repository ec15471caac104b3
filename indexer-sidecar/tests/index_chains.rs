//! The chains against a naive twin: sets of keys per holder, matched key by key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexer_sidecar::index::budget::Budget;
use indexer_sidecar::index::chains::{BlockRef, Chains, Holder, Matches};
use proptest::prelude::*;
use warmpath_core::block::{BlockKey, child};

/// What a holder holds: the place of each block by its key.
type Held = BTreeMap<BlockKey, BlockRef>;

/// A prompt's blocks, by the choice made at each; equal beginnings are equal prefixes.
type Path = Vec<u8>;

#[derive(Clone, Debug)]
enum Op {
    /// Blocks `from..to` of a prompt become held.
    Credit {
        holder: usize,
        path: Path,
        from: usize,
        to: usize,
    },
    /// Every holder from `first` on holds the prompt up to a depth of its own.
    CreditAll {
        first: usize,
        path: Path,
    },
    /// The block at `depth` and `blocks - 1` before it are gone.
    Uncredit {
        holder: usize,
        path: Path,
        depth: usize,
        blocks: u32,
    },
    /// The end of the prompt is gone, last block first.
    Evict {
        holder: usize,
        path: Path,
        depth: usize,
    },
    /// The chain up to `depth` goes from one holder to another, or is shared with it.
    Shift {
        from: usize,
        to: usize,
        path: Path,
        depth: usize,
        blocks: u32,
        keep: bool,
    },
    Clear {
        holder: usize,
    },
    Replace {
        holder: usize,
    },
}

fn keys(path: &[u8]) -> Vec<BlockKey> {
    let mut parent = BlockKey(7);
    let next = |choice: &u8| {
        parent = child(parent, &[u32::from(*choice)]);
        parent
    };
    path.iter().map(next).collect()
}

struct Both {
    chains: Chains,
    holders: Vec<Holder>,
    held: Vec<Held>,
}

impl Both {
    fn new(count: usize, bytes: usize) -> (Self, Arc<Budget>) {
        let budget = Arc::new(Budget::new(bytes));
        let chains = Chains::new(Arc::clone(&budget));
        let holders = (0..count).map(|_| chains.add_holder().unwrap()).collect();
        (Self { chains, holders, held: vec![Held::new(); count] }, budget)
    }

    /// Any valid place of a key.
    fn place(&self, key: BlockKey) -> Option<BlockRef> {
        self.held.iter().find_map(|held| held.get(&key)).copied()
    }

    fn credit(&mut self, holder: usize, path: &[u8], from: usize, to: usize) {
        let keys = keys(path);
        let parent = from.checked_sub(1).map(|above| self.place(keys[above]));
        if parent == Some(None) {
            return;
        }
        let mut places = Vec::new();
        let placed = self.chains.credit(self.holders[holder], parent.flatten(), &keys[from..to], &mut places);
        assert_eq!(placed, places.len());
        for (key, (place, before)) in keys[from..to].iter().zip(places) {
            assert_eq!(before, self.held[holder].insert(*key, place).is_some(), "{holder} held {key:?}");
        }
    }

    fn uncredit(&mut self, holder: usize, path: &[u8], depth: usize, blocks: u32) {
        let keys = keys(path);
        let Some(place) = self.place(keys[depth]) else { return };
        let first = (depth + 1).saturating_sub(blocks as usize);
        let taken = keys[first..=depth].iter().filter(|key| self.held[holder].remove(key).is_some()).count();
        assert_eq!(self.chains.uncredit(self.holders[holder], place, blocks), taken as u32);
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Credit { holder, path, from, to } => self.credit(*holder, path, *from, *to),
            Op::CreditAll { first, path } => {
                for holder in *first..self.holders.len() {
                    self.credit(holder, path, 0, 1 + holder * 7 % path.len());
                }
            }
            Op::Uncredit { holder, path, depth, blocks } => self.uncredit(*holder, path, *depth, *blocks),
            Op::Evict { holder, path, depth } => {
                (*depth..path.len()).rev().for_each(|depth| self.uncredit(*holder, path, depth, 1));
            }
            Op::Shift { from, to, path, depth, blocks, keep } => {
                let keys = keys(path);
                let Some(place) = self.place(keys[*depth]).filter(|_| from != to) else { return };
                let first = (depth + 1).saturating_sub(*blocks as usize);
                let (mut moved, mut new) = (0, 0);
                for key in &keys[first..=*depth] {
                    let Some(place) = self.held[*from].get(key).copied() else { continue };
                    moved += 1;
                    new += u32::from(self.held[*to].insert(*key, place).is_none());
                    if !keep {
                        self.held[*from].remove(key);
                    }
                }
                let (from, to) = (self.holders[*from], self.holders[*to]);
                if *keep {
                    assert_eq!(self.chains.share(from, to, place, *blocks), new);
                } else {
                    assert_eq!(self.chains.shift(from, to, place, *blocks), moved);
                }
            }
            Op::Clear { holder } => {
                assert_eq!(self.chains.clear_holder(self.holders[*holder]), self.held[*holder].len() as u64);
                self.held[*holder].clear();
            }
            Op::Replace { holder } => {
                self.chains.drop_holder(self.holders[*holder]);
                self.holders[*holder] = self.chains.add_holder().unwrap();
                self.held[*holder].clear();
            }
        }
    }

    fn check(&self, paths: &BTreeSet<Path>) -> Result<(), TestCaseError> {
        let mut matches = Matches::default();
        for path in paths {
            let keys = keys(path);
            self.chains.lookup(&keys, &mut matches);
            for (holder, held) in self.holders.iter().zip(&self.held) {
                let leading = keys.iter().take_while(|key| held.contains_key(key)).count();
                prop_assert_eq!(matches.of(*holder), leading as u32, "{:?} of {:?}", holder, path);
            }
        }
        for (holder, held) in self.holders.iter().zip(&self.held) {
            for (key, place) in held {
                prop_assert!(self.chains.holds(*holder, *place));
                prop_assert_eq!(self.chains.key(*place), Some(*key));
                let above = self.chains.parent(*place).and_then(|above| self.chains.key(above));
                prop_assert!(above.is_none_or(|above| (0..3).any(|choice| child(above, &[choice]) == *key)));
            }
        }
        Ok(())
    }
}

/// Mostly the same prompt, with a few that part from it somewhere.
fn paths() -> impl Strategy<Value = Path> + Clone {
    let ends = prop::collection::vec(prop_oneof![9 => Just(0_u8), 1 => 1..3_u8], 1..14);
    (prop_oneof![3 => Just(0_usize), 1 => 0..20_usize], ends).prop_map(|(same, end)| {
        let mut path = vec![0; same];
        path.extend(end);
        path
    })
}

fn ops(count: usize) -> impl Strategy<Value = Op> {
    let part = (0..count, paths(), any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let part = part.prop_map(|(holder, path, from, to)| {
        let from = from.index(path.len());
        let to = from + 1 + to.index(path.len() - from);
        (holder, path, from, to)
    });
    let (start, part) = (part.clone(), part);
    let blocks = prop_oneof![3 => Just(1_u32), 1 => 2..6_u32, 1 => Just(u32::MAX)];
    let shifted = (part.clone(), 0..count, blocks.clone(), any::<bool>());
    prop_oneof![
        6 => start.prop_map(|(holder, path, _, to)| Op::Credit { holder, path, from: 0, to }),
        8 => part.clone().prop_map(|(holder, path, from, to)| Op::Credit { holder, path, from, to }),
        1 => (0..count, paths()).prop_map(|(first, path)| Op::CreditAll { first, path }),
        8 => (part.clone(), blocks).prop_map(|((holder, path, depth, _), blocks)| Op::Uncredit { holder, path, depth, blocks }),
        4 => part.prop_map(|(holder, path, depth, _)| Op::Evict { holder, path, depth }),
        3 => shifted.prop_map(|((from, path, depth, _), to, blocks, keep)| Op::Shift { from, to, path, depth, blocks, keep }),
        1 => (0..count).prop_map(|holder| Op::Clear { holder }),
        1 => (0..count).prop_map(|holder| Op::Replace { holder }),
    ]
}

fn run(count: usize, bytes: usize, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let (mut both, budget) = Both::new(count, bytes);
    let mut asked = BTreeSet::new();
    for op in ops {
        both.apply(&op);
        if let Op::Credit { path, .. } | Op::CreditAll { path, .. } | Op::Uncredit { path, .. } = op {
            asked.insert(path);
        }
        both.check(&asked)?;
        prop_assert!(
            both.chains.bytes() <= budget.used() && budget.used() <= bytes,
            "{} of {}",
            budget.used(),
            bytes
        );
    }
    for holder in 0..count {
        both.apply(&Op::Clear { holder });
    }
    both.check(&asked)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_few_holders_equal_the_twin(ops in prop::collection::vec(ops(3), 0..80)) {
        run(3, usize::MAX, ops)?;
    }

    #[test]
    fn many_holders_equal_the_twin(ops in prop::collection::vec(ops(90), 0..30)) {
        run(90, usize::MAX, ops)?;
    }

    #[test]
    fn under_a_budget_what_is_placed_equals_the_twin(ops in prop::collection::vec(ops(3), 0..80), bytes in 10_000..60_000_usize) {
        run(3, bytes, ops)?;
    }
}

#[test]
fn a_chain_longer_than_a_segment_is_one_chain() {
    let (mut both, _) = Both::new(2, usize::MAX);
    let path = vec![0; 20_000];
    both.credit(0, &path, 0, 20_000);
    both.credit(1, &path, 0, 9_000);
    let fork = [&path[..5_000], &[1, 1]].concat();
    both.credit(1, &fork, 0, 5_002);
    both.check(&BTreeSet::from([path.clone(), fork])).unwrap();
    both.uncredit(0, &path, 19_999, 12_000);
    both.check(&BTreeSet::from([path])).unwrap();
}

/// A holder's oldest prompt goes, leaf first, for each new one: what is held stays the same, the bytes too.
#[test]
fn churn_leaves_no_bytes_behind() {
    let (mut both, budget) = Both::new(4, usize::MAX);
    let path = |turn: usize| -> Path {
        let own = (0..4).map(|byte| (turn >> (8 * byte)) as u8);
        [0; 30].into_iter().chain(own).chain([0; 20]).collect()
    };
    let mut used = Vec::new();
    for turn in 0..3_000 {
        both.credit(turn % 4, &path(turn), 0, 54);
        if let Some(old) = turn.checked_sub(400) {
            both.apply(&Op::Evict { holder: old % 4, path: path(old), depth: 30 });
        }
        used.push(both.chains.bytes());
    }
    let (early, late) = (used[1_000], used[2_999]);
    assert!(late <= early + early / 20, "{late} bytes grew from {early}");
    (0..4).for_each(|holder| both.apply(&Op::Clear { holder }));
    assert!(both.chains.segments() == 0, "{} segments are left", both.chains.segments());
    drop(both);
    assert_eq!(budget.used(), 0);
}
