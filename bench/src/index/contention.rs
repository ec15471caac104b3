//! How long the slowest lookups take while a writer edits the very chains that they ask for.
//!
//! The writer takes the last blocks of a random holder's chain away and stores them again, as one event each, at a
//! stated rate. Eight lookups are one sample. Idle and edited samples take turns of a tenth of a second, so that both
//! see the same machine; its own hiccups are in both.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use fastrand::Rng;
use indexer_sidecar::index::chains::{BlockRef, Chains, Holder, Matches};

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

/// A holder's chain: where it ends.
struct Chain {
    holder: Holder,
    /// Its blocks from the first on.
    keys: Vec<warmpath_core::block::BlockKey>,
}

/// Runs it.
pub fn run(seed: u64, figures: &mut Figures) -> Result<()> {
    let corpus = Corpus::new(SHAPE, seed);
    let mut ours = Ours::new(SHAPE.workers);
    corpus.ops.iter().for_each(|op| ours.apply(op));
    let queries: Vec<Query> = corpus.queries.iter().map(|query| Query::new(query)).collect();
    // Chains of holders of the first blocks of each query.
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
    let (writing, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let chains = &ours.chains;
    let mut samples: [Vec<f64>; 2] = Default::default();
    let edits = std::thread::scope(|scope| {
        let writer = scope.spawn(|| edit(chains, &edited, &writing, &ended, seed));
        let mut matches = Matches::default();
        for turn in 0..2 * TURNS {
            writing.store(turn % 2 == 1, Ordering::Relaxed);
            let start = Instant::now();
            let mut at = 0;
            while start.elapsed() < TURN {
                let sample = Instant::now();
                for _ in 0..LOOKUPS {
                    at = (at + 1) % queries.len();
                    chains.lookup(&queries[at].keys, &mut matches);
                    black_box(matches.as_slice());
                }
                samples[turn % 2].push(nanos(sample.elapsed()) / LOOKUPS as f64);
            }
        }
        ended.store(true, Ordering::Relaxed);
        writer.join()
    });
    let edits = edits.map_err(|_| anyhow!("the writer panicked"))?;
    let [idle, edited] = samples.map(|mut samples| {
        samples.sort_unstable_by(f64::total_cmp);
        [50, 99].map(|percent| samples[samples.len() * percent / 100])
    });
    let name = |what: &str| format!("lookup {}x{} in eights, {what}", SHAPE.workers, SHAPE.depth);
    figures.add(name("idle, p50"), idle[0], "ns");
    figures.add(name("idle, p99"), idle[1], "ns");
    figures.add(name("its chains edited, p50"), edited[0], "ns");
    figures.add(name("its chains edited, p99"), edited[1], "ns");
    figures.add(name("p99 of edited over idle (aim: 3)"), edited[1] / idle[1], "ratio");
    let seconds = TURN.as_secs_f64() * TURNS as f64;
    figures.add(name("blocks removed and stored meanwhile"), edits as f64 * f64::from(BLOCKS) / seconds, "per second");
    Ok(())
}

fn edit(chains: &Chains, edited: &[Chain], writing: &AtomicBool, ended: &AtomicBool, seed: u64) -> u64 {
    let mut rng = Rng::with_seed(seed);
    let mut placed: Vec<(BlockRef, bool)> = Vec::new();
    let mut edits = 0;
    let mut begun = None;
    while !ended.load(Ordering::Relaxed) {
        if !writing.load(Ordering::Relaxed) {
            begun = None;
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let (start, done) = begun.get_or_insert_with(|| (Instant::now(), 0_u64));
        if *done as f64 >= start.elapsed().as_secs_f64() * RATE as f64 {
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        *done += 1;
        edits += 1;
        let chain = &edited[rng.usize(..edited.len())];
        placed.clear();
        chains.credit(chain.holder, None, &chain.keys, &mut placed);
        if let Some((last, _)) = placed.last() {
            chains.uncredit(chain.holder, *last, BLOCKS);
        }
    }
    edits
}
