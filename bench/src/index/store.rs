//! How fast blocks go in on one thread, beside `kv-index`. In CPU time of the thread, all growth of tables included;
//! the two take turns.

use std::time::Duration;

use anyhow::{Result, ensure};
use cpu_time::ThreadTime;
use fastrand::Rng;

use super::corpus::{Block, Op, chain, fresh};
use super::systems::{KvIndex, Ours};
use crate::figures::Figures;

/// Workers of the index that is filled.
pub const WORKERS: usize = 64;
/// Workers that hold a chain.
pub const HOLDERS: usize = 8;
/// Blocks of a chain.
pub const DEPTH: usize = 192;
/// Chains that one system takes in before it is the other's turn.
const TURN: usize = 40;
/// Sequences that each worker decodes at a time.
const DECODED: usize = 16;

/// A chain's stores: for each of its holders the first two thirds, and the rest behind them, as chunked prefill does.
pub fn prefill(rng: &mut Rng) -> Vec<Op> {
    let blocks = chain(None, fresh(rng, DEPTH));
    let (first, rest) = blocks.split_at(DEPTH * 2 / 3);
    let from = rng.usize(..WORKERS);
    let stores = (from..from + HOLDERS).flat_map(|worker| {
        let worker = worker % WORKERS;
        let begin = Op::Store { worker, parent: None, blocks: first.to_vec() };
        [begin, Op::Store { worker, parent: first.last().copied(), blocks: rest.to_vec() }]
    });
    stores.collect()
}

/// Fills both to so many memberships, and times it from the first on.
pub fn fill(memberships: usize, seed: u64, aim: f64, figures: &mut Figures) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    let (mut ours, mut theirs) = (Ours::new(WORKERS), KvIndex::new(WORKERS)?);
    let mut times = [Duration::ZERO; 2];
    let mut stored = 0;
    while stored < memberships {
        let ops: Vec<Op> = (0..TURN).flat_map(|_| prefill(&mut rng)).collect();
        turn(&mut ours, &mut theirs, &ops, &mut times);
        stored += TURN * HOLDERS * DEPTH;
    }
    ensure!(theirs.index.current_size() == stored, "kv-index holds {}", theirs.index.current_size());
    let held: usize = ours.workers.iter().map(|(_, hashes)| hashes.len()).sum();
    ensure!(held == stored, "{held} of {stored} are held");
    report(&format!("store to {:.1} M memberships", memberships as f64 / 1e6), stored, times, aim, figures);
    Ok(())
}

/// One block per event, as engines send while decoding, into an index that holds 1.3 M memberships already.
pub fn decode(events: usize, seed: u64, aim: f64, figures: &mut Figures) -> Result<()> {
    let mut rng = Rng::with_seed(seed);
    let (mut ours, mut theirs) = (Ours::new(WORKERS), KvIndex::new(WORKERS)?);
    let mut times = [Duration::ZERO; 2];
    let mut ends: Vec<(usize, Block)> = Vec::new();
    for _ in 0..1_300_000 / (HOLDERS * DEPTH) {
        let ops = prefill(&mut rng);
        turn(&mut ours, &mut theirs, &ops, &mut times);
        if let Some(Op::Store { worker, blocks, .. }) = ops.last() {
            ends.extend(blocks.last().map(|last| (*worker, *last)));
        }
    }
    rng.shuffle(&mut ends);
    ends.truncate(WORKERS * DECODED);
    times = [Duration::ZERO; 2];
    let mut stored = 0;
    while stored < events {
        // A few steps of the scheduler: every sequence gets a block in each.
        let mut ops = Vec::new();
        for _ in 0..8 {
            for (worker, last) in &mut ends {
                let blocks = chain(Some(*last), [rng.u64(..)]);
                ops.push(Op::Store { worker: *worker, parent: Some(*last), blocks: blocks.clone() });
                *last = blocks[0];
            }
        }
        stored += ops.len();
        turn(&mut ours, &mut theirs, &ops, &mut times);
    }
    report("store of one block per event", stored, times, aim, figures);
    Ok(())
}

fn turn(ours: &mut Ours, theirs: &mut KvIndex, ops: &[Op], times: &mut [Duration; 2]) {
    let start = ThreadTime::now();
    ops.iter().for_each(|op| ours.apply(op));
    times[0] += start.elapsed();
    let start = ThreadTime::now();
    ops.iter().for_each(|op| theirs.apply(op));
    times[1] += start.elapsed();
}

fn report(what: &str, stored: usize, times: [Duration; 2], aim: f64, figures: &mut Figures) {
    let [ours, theirs] = times.map(|time| stored as f64 / time.as_secs_f64() / 1e6);
    figures.add(format!("{what}: warmpath"), ours, "M blocks/s");
    figures.add(format!("{what}: kv-index"), theirs, "M blocks/s");
    figures.add(format!("{what}: of kv-index (aim: {aim})"), ours / theirs, "ratio");
}
