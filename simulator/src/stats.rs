//! What one data-parallel rank counts, as vLLM's `/metrics` shows it.

use std::time::Duration;

/// Counters and gauges of a rank since its (re)start.
#[derive(Clone, Debug, Default)]
pub struct RankStats {
    /// Requests that compute.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Share of KV blocks held, 0 to 1.
    pub usage: f64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Prompt tokens found there.
    pub prefix_hits: u64,
    /// Prompt tokens of admitted requests.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generation_tokens: u64,
    /// Requests that got all their tokens.
    pub finished: u64,
    /// Requests whose client left.
    pub aborted: u64,
    /// Requests thrown back.
    pub preemptions: u64,
    /// Contents that the prefix cache can find.
    pub cached_blocks: usize,
    /// Event batches published: the next sequence number.
    pub batches: u64,
    /// Times to the first token.
    pub first_token: Histogram,
}

/// A Prometheus histogram with vLLM's bounds for `vllm:time_to_first_token_seconds`.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: [u64; BOUNDS.len()],
    /// Observations.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum: f64,
}

/// Upper bounds in seconds.
pub const BOUNDS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];

impl Histogram {
    /// Counts a duration.
    pub fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        for (count, bound) in self.counts.iter_mut().zip(BOUNDS) {
            *count += u64::from(seconds <= bound);
        }
    }

    /// Bounds with the number of observations at or below each.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        BOUNDS.into_iter().zip(self.counts)
    }
}
