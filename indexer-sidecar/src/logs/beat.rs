//! The line "metrics beat": the index in five numbers, for those who have logs but no metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::index::SharedIndex;
use crate::metrics::Metrics;

/// Writes the line every `every` until `shutdown`. All numbers count from the start of the process.
pub async fn run(
    every: Duration,
    metrics: Arc<Metrics>,
    index: Arc<SharedIndex>,
    shutdown: CancellationToken,
) {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => beat(&metrics, &index),
        }
    }
}

fn beat(metrics: &Metrics, index: &SharedIndex) {
    let (lookups, hits) = metrics.lookups_and_hits();
    log::info!(
        admissions = index.metrics().admissions.get(),
        evictions = index.metrics().evictions.get(),
        lookups = lookups,
        hits = hits,
        latency_mean_us = metrics.pick_mean().as_secs_f64() * 1e6;
        "metrics beat"
    );
}
