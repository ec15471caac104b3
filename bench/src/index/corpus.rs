//! What pods store and clients ask: families of prompts with a common trunk, from which branches part at random.
//!
//! Every worker holds every family to a random depth, on the trunk or on a branch; a fifth of the chains come as one
//! store per block, as while decoding, the others in stores of random size; a tenth get a hole in the middle. Before
//! anything is measured, chains go and come back, and others come and go (churn). Queries leave what is stored at a
//! random depth, for another branch or for nothing known, except for a quarter that stay on the trunk.

use fastrand::Rng;
use warmpath_core::block::{BlockKey, child};

/// One block as each system names it.
#[derive(Clone, Copy)]
pub struct Block {
    /// Content of this block alone.
    pub content: u64,
    /// Our key: over the whole prefix.
    pub key: BlockKey,
    /// The engine's hash: also over the whole prefix. The same for all workers, which the peers profit from.
    pub engine: u64,
}

/// One event of one worker.
#[derive(Clone)]
pub enum Op {
    /// Blocks become held.
    Store {
        /// By whom.
        worker: usize,
        /// Block before the first of them; none: they begin a prompt.
        parent: Option<Block>,
        /// One after the other.
        blocks: Vec<Block>,
    },
    /// Blocks are gone.
    Remove {
        /// From whom.
        worker: usize,
        /// Any.
        blocks: Vec<Block>,
    },
}

/// Size of a corpus.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Workers.
    pub workers: usize,
    /// Blocks of a prompt.
    pub depth: usize,
}

/// Events and queries.
pub struct Corpus {
    /// Size.
    pub shape: Shape,
    /// In order.
    pub ops: Vec<Op>,
    /// Prompts.
    pub queries: Vec<Vec<Block>>,
}

/// Blocks behind `parent`, one after the other.
pub fn chain(parent: Option<Block>, contents: impl IntoIterator<Item = u64>) -> Vec<Block> {
    let mut key = parent.map_or(BlockKey(0x5eed), |block| block.key);
    let next = |content: u64| {
        key = child(key, &[content as u32, (content >> 32) as u32]);
        Block { content, key, engine: child(key, &[1]).0 }
    };
    contents.into_iter().map(next).collect()
}

/// `count` contents that nobody else has.
pub fn fresh(rng: &mut Rng, count: usize) -> Vec<u64> {
    (0..count).map(|_| rng.u64(..)).collect()
}

/// Branches of a family, the trunk among them.
const BRANCHES: usize = 5;
/// Memberships of a corpus, about.
const MEMBERSHIPS: usize = 3_000_000;
/// Queries of a corpus.
const QUERIES: usize = 64;

impl Corpus {
    /// The corpus of a shape; the same seed gives the same one.
    pub fn new(shape: Shape, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let Shape { workers, depth } = shape;
        let families = (MEMBERSHIPS / (workers * depth / 2)).clamp(8, 128);
        let families: Vec<Vec<Vec<Block>>> = (0..families).map(|_| family(&mut rng, depth)).collect();
        let mut ops = Vec::new();
        let mut held = Vec::new();
        for branches in &families {
            let mut order: Vec<usize> = (0..workers).collect();
            rng.shuffle(&mut order);
            for worker in order {
                let path = &branches[rng.usize(..BRANCHES)][..rng.usize(1..=depth)];
                store(&mut rng, &mut ops, worker, None, path);
                held.push((worker, path));
            }
        }
        for (worker, path) in &held {
            if rng.usize(..10) == 0 && path.len() > 4 {
                let at = rng.usize(1..path.len() - 2);
                ops.push(Op::Remove { worker: *worker, blocks: path[at..at + 1 + rng.usize(..2)].to_vec() });
            }
        }
        churn(&mut rng, &mut ops, &held, &families);
        let queries = (0..QUERIES).map(|at| query(&mut rng, &families[at % families.len()])).collect();
        Self { shape, ops, queries }
    }
}

/// A trunk and what parts from it.
fn family(rng: &mut Rng, depth: usize) -> Vec<Vec<Block>> {
    let trunk = chain(None, fresh(rng, depth));
    let branch = |rng: &mut Rng| {
        let at = rng.usize(1..depth);
        let mut path = trunk[..at].to_vec();
        path.extend(chain(Some(trunk[at - 1]), fresh(rng, depth - at)));
        path
    };
    let mut branches: Vec<_> = (1..BRANCHES).map(|_| branch(rng)).collect();
    branches.push(trunk);
    branches
}

fn store(rng: &mut Rng, ops: &mut Vec<Op>, worker: usize, parent: Option<Block>, path: &[Block]) {
    let single = rng.usize(..5) == 0;
    let (mut parent, mut rest) = (parent, path);
    while !rest.is_empty() {
        let count = if single { 1 } else { rng.usize(1..=rest.len()) };
        ops.push(Op::Store { worker, parent, blocks: rest[..count].to_vec() });
        parent = Some(rest[count - 1]);
        rest = &rest[count..];
    }
}

/// A third of the chains lose their end, leaf first, and half of those get it back; as many others come and go.
fn churn(rng: &mut Rng, ops: &mut Vec<Op>, held: &[(usize, &[Block])], families: &[Vec<Vec<Block>>]) {
    for (worker, path) in held {
        let at = rng.usize(..path.len());
        match rng.usize(..6) {
            0 | 1 if at > 0 => {
                // One event per block, as engines evict.
                let single = |block: &Block| Op::Remove { worker: *worker, blocks: vec![*block] };
                ops.extend(path[at..].iter().rev().map(single));
                if rng.bool() {
                    store(rng, ops, *worker, Some(path[at - 1]), &path[at..]);
                }
            }
            2 => {
                let trunk = &families[rng.usize(..families.len())][BRANCHES - 1];
                let passing = chain(None, fresh(rng, trunk.len() / 4 + 1));
                store(rng, ops, *worker, None, &passing);
                ops.push(Op::Remove { worker: *worker, blocks: passing.into_iter().rev().collect() });
            }
            _ => {}
        }
    }
}

fn query(rng: &mut Rng, branches: &[Vec<Block>]) -> Vec<Block> {
    let trunk = &branches[BRANCHES - 1];
    let at = rng.usize(1..trunk.len());
    match rng.usize(..4) {
        0 => trunk.clone(),
        1 => branches[rng.usize(..BRANCHES - 1)].clone(),
        _ => {
            let mut path = trunk[..at].to_vec();
            path.extend(chain(Some(trunk[at - 1]), fresh(rng, trunk.len() - at)));
            path
        }
    }
}
