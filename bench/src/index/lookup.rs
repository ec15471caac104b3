//! How long a lookup takes, beside the peers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dynamo_kv_router::indexer::SyncIndexer;
use indexer_sidecar::index::chains::Matches;

use super::corpus::{Corpus, Shape};
use super::systems::{All, Query};
use super::{median, nanos};
use crate::figures::Figures;

/// Workers and blocks of a query, with the largest share of the better peer's time that is aimed at.
pub const SHAPES: [(Shape, f64); 5] = [
    (Shape { workers: 8, depth: 192 }, 0.6),
    (Shape { workers: 64, depth: 192 }, 0.45),
    (Shape { workers: 64, depth: 2048 }, 0.3),
    (Shape { workers: 512, depth: 192 }, 0.3),
    (Shape { workers: 1000, depth: 512 }, 0.3),
];

/// Batches of all queries that are timed, per system.
const BATCHES: usize = 300;

/// Times one batch: every query once, divided by their number.
fn batch(queries: &[Query], mut ask: impl FnMut(&Query)) -> Duration {
    let start = Instant::now();
    queries.iter().for_each(&mut ask);
    start.elapsed() / queries.len() as u32
}

/// One shape: all systems take turns, batch by batch, so that each finds in the cache what the others have left there.
pub async fn run(shape: Shape, bar: f64, seed: u64, figures: &mut Figures) -> Result<()> {
    let corpus = Corpus::new(shape, seed);
    let all = All::with(shape.workers, &corpus.ops).await?;
    let queries: Vec<Query> = corpus.queries.iter().map(|query| Query::new(query)).collect();
    let [ours, kv_index, dynamo, of] = all.differences(&queries);
    ensure!(ours == 0, "{ours} of {of} matches differ from the twin's");
    let mut matches = Matches::default();
    let mut dense = vec![0_u32; shape.workers];
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..BATCHES {
        times[0].push(batch(&queries, |query| {
            all.ours.chains.lookup(&query.keys, &mut matches);
            black_box(matches.as_slice());
        }));
        times[1].push(batch(&queries, |query| {
            black_box(all.kv_index.index.find_matches(&query.contents, false));
        }));
        // Right behind the same index, which would otherwise be asked again while its memory is still in the cache.
        times[2].push(batch(&queries, |query| {
            dense.fill(0);
            let report = |worker: u32, blocks: u32| dense[worker as usize] = blocks;
            all.kv_index.index.score_into(&query.contents, |content| content.0, false, report);
            black_box(dense.as_slice());
        }));
        times[3].push(batch(&queries, |query| {
            black_box(all.dynamo.index.backend().find_matches(&query.locals, false));
        }));
    }
    let [ours, kv, raw, crtc] = times.map(|times| nanos(median(times)));
    let name = |what: &str| format!("lookup {}x{} {what}", shape.workers, shape.depth);
    figures.add(name("warmpath"), ours, "ns");
    figures.add(name("kv-index"), kv, "ns");
    figures.add(name("kv-index, dense result of our making"), raw, "ns");
    figures.add(name("dynamo"), crtc, "ns");
    figures.add(name(&format!("of the better peer (aim: {bar})")), ours / kv.min(crtc), "ratio");
    figures.add(name("kv-index differs from the twin in"), kv_index as f64, "matches");
    figures.add(name("dynamo differs from the twin in"), dynamo as f64, "matches");
    figures.add(name("matches compared"), of as f64, "matches");
    Ok(())
}
