//! How long the slowest lookups take while a writer edits the very chains that they ask for.
//!
//! The writer takes the last blocks of a random holder's chain away and stores them again, as one event each, at a
//! stated rate. Eight lookups are one sample. Three kinds of turns of a tenth of a second alternate, so that all see
//! the same machine: the writer sleeps (idle), edits a copy of the index (elsewhere), or the index that is asked
//! (edited). What a second busy thread costs by itself, such as a shared cache or a turn of the scheduler, is in the
//! difference of the first two; only that of the last two is a matter of the index. Reader and writer keep to a core
//! each where there are two.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use fastrand::Rng;
use indexer_sidecar::index::chains::{BlockRef, Chains, Holder, Matches};
use warmpath_core::block::BlockKey;

use super::corpus::{Corpus, Op, Shape};
use super::nanos;
use super::systems::{Ours, Query};
use crate::figures::Figures;

/// The index that is asked.
const SHAPE: Shape = Shape { workers: 64, depth: 192 };
/// Lookups of one sample.
const LOOKUPS: usize = 8;
/// Blocks of one edit.
const BLOCKS: u32 = 8;
/// Edits per second, each one removal and one store of [`BLOCKS`] blocks.
const RATE: u64 = 10_000;
/// Time of one turn, and turns of each kind.
const TURN: Duration = Duration::from_millis(100);
const TURNS: usize = 30;

/// What the writer does in a turn.
const KINDS: [&str; 3] = ["idle", "elsewhere", "edited"];
const IDLE: usize = 0;
const ENDED: usize = KINDS.len();

/// A holder's chain: its blocks from the first on.
struct Chain {
    holder: Holder,
    keys: Vec<BlockKey>,
}

/// Runs it.
pub fn run(seed: u64, figures: &mut Figures) -> Result<()> {
    let corpus = Corpus::new(SHAPE, seed);
    let [mut elsewhere, mut ours] = [Ours::new(SHAPE.workers), Ours::new(SHAPE.workers)];
    for op in &corpus.ops {
        elsewhere.apply(op);
        ours.apply(op);
    }
    let queries: Vec<Query> = corpus.queries.iter().map(|query| Query::new(query)).collect();
    // Chains of holders of the first blocks of each query. Holders are the same in both.
    let edited: Vec<Chain> = corpus
        .ops
        .iter()
        .filter_map(|op| match op {
            Op::Store { worker, parent: None, blocks } if blocks.len() > 2 * BLOCKS as usize => Some(Chain {
                holder: ours.workers[*worker].0,
                keys: blocks.iter().map(|block| block.key).collect(),
            }),
            _ => None,
        })
        .collect();
    let kind = AtomicUsize::new(IDLE);
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let keep_to = |at: usize| {
        cores.get(at).filter(|_| cores.len() > 1).is_some_and(|core| core_affinity::set_for_current(*core))
    };
    let mut samples: [Vec<f64>; KINDS.len()] = Default::default();
    let edits = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            keep_to(1);
            edit([&elsewhere.chains, &ours.chains], &edited, &kind, seed)
        });
        let reader = scope.spawn(|| {
            keep_to(0);
            for turn in 0..KINDS.len() * TURNS {
                kind.store(turn % KINDS.len(), Ordering::Relaxed);
                sample(&ours.chains, &queries, &mut samples[turn % KINDS.len()]);
            }
            kind.store(ENDED, Ordering::Relaxed);
        });
        reader.join().and_then(|()| writer.join())
    });
    let edits = edits.map_err(|_| anyhow!("a thread panicked"))?;
    let sorted = samples.map(|mut samples| {
        samples.sort_unstable_by(f64::total_cmp);
        [50, 99].map(|percent| samples[samples.len() * percent / 100])
    });
    let name = |what: &str| format!("lookup {}x{} in eights, {what}", SHAPE.workers, SHAPE.depth);
    for (kind, [half, most]) in KINDS.iter().zip(sorted) {
        figures.add(name(&format!("{kind}, p50")), half, "ns");
        figures.add(name(&format!("{kind}, p99")), most, "ns");
    }
    let [[_, idle], [_, elsewhere], [_, edited]] = sorted;
    figures.add(name("p99 of edited over idle (aim: 3)"), edited / idle, "ratio");
    figures.add(name("p99 of elsewhere over idle"), elsewhere / idle, "ratio");
    let seconds = TURN.as_secs_f64() * TURNS as f64;
    let rate = edits as f64 * f64::from(BLOCKS) / seconds;
    figures.add(name("blocks removed and stored while edited"), rate, "per second");
    Ok(())
}

/// One turn of the reader.
fn sample(chains: &Chains, queries: &[Query], samples: &mut Vec<f64>) {
    let mut matches = Matches::default();
    let start = Instant::now();
    let mut at = 0;
    while start.elapsed() < TURN {
        let sample = Instant::now();
        for _ in 0..LOOKUPS {
            at = (at + 1) % queries.len();
            chains.lookup(&queries[at].keys, &mut matches);
            black_box(matches.as_slice());
        }
        samples.push(nanos(sample.elapsed()) / LOOKUPS as f64);
    }
}

/// The writer: edits what `kind` says until the end; returns how many edits the index that is asked has seen.
fn edit(chains: [&Chains; 2], edited: &[Chain], kind: &AtomicUsize, seed: u64) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let mut placed: Vec<(BlockRef, bool)> = Vec::new();
    let mut edits = 0;
    let mut begun = None;
    loop {
        let now = kind.load(Ordering::Relaxed);
        if now == ENDED {
            return edits;
        }
        if now == IDLE {
            begun = None;
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let (start, done) = match begun {
            Some((start, done, kind)) if kind == now => (start, done),
            _ => (Instant::now(), 0_u64),
        };
        begun = Some((start, done, now));
        if done as f64 >= start.elapsed().as_secs_f64() * RATE as f64 {
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        begun = Some((start, done + 1, now));
        let asked = now == KINDS.len() - 1;
        edits += u64::from(asked);
        let chains = chains[usize::from(asked)];
        let chain = &edited[rng.usize(..edited.len())];
        placed.clear();
        chains.credit(chain.holder, None, &chain.keys, &mut placed);
        if let Some((last, _)) = placed.last() {
            chains.uncredit(chain.holder, *last, BLOCKS);
        }
    }
}
