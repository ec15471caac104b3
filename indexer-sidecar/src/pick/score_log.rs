//! One log line per pick and listed endpoint: operators look for them when they ask why a request went where it went.
//!
//! Written by a thread of its own, which gathers: writing the lines takes longer than the pick, and waking a thread for
//! each pick would take the core that the gateway needs.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use warmpath_proto::v1::ScoredEndpoint;

/// Picks that wait to be written: with [`GATHER`], 20,000 picks a second.
const QUEUE_PICKS: usize = 1024;

/// How long picks are gathered: few wake-ups, each of which wakes the writer of the log too, and soon enough for a reader.
const GATHER: Duration = Duration::from_millis(50);

/// What is written of a pick.
#[derive(Debug)]
pub struct PickScores {
    /// The request's `x-request-id`.
    pub request_id: String,
    /// The model's name.
    pub model: String,
    /// The pick was only observed.
    pub observe: bool,
    /// Best endpoint first.
    pub endpoints: Vec<ScoredEndpoint>,
}

/// The end of the queue that picks are put into.
#[derive(Clone, Debug)]
pub struct ScoreLog {
    queue: SyncSender<PickScores>,
    dropped: Counter,
}

impl ScoreLog {
    /// Starts the thread, which ends with the last handle. Picks beyond the queue count their lines in `dropped`.
    pub fn start(dropped: Counter) -> Self {
        let (queue, picks) = sync_channel(QUEUE_PICKS);
        std::thread::spawn(move || write(&picks));
        Self { queue, dropped }
    }

    /// Has the scores written soon. Never waits.
    pub fn write(&self, scores: PickScores) {
        let lines = scores.endpoints.len() as u64;
        if self.queue.try_send(scores).is_err() {
            self.dropped.inc_by(lines);
        }
    }
}

fn write(picks: &Receiver<PickScores>) {
    while let Ok(first) = picks.recv() {
        std::thread::sleep(GATHER);
        for pick in std::iter::once(first).chain(picks.try_iter()) {
            for endpoint in &pick.endpoints {
                log::info!(
                    "x-request-id" = pick.request_id.as_str(),
                    model = pick.model.as_str(),
                    endpoint = endpoint.address.as_str(),
                    score = endpoint.score,
                    match_blocks = endpoint.match_blocks,
                    medium_blocks:serde = endpoint.medium_blocks,
                    data_parallel_rank = endpoint.data_parallel_rank,
                    observe = pick.observe;
                    "Calculated score"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_beyond_the_queue_are_counted_by_their_lines() {
        let (queue, _picks) = sync_channel(1);
        let log = ScoreLog { queue, dropped: Counter::default() };
        let endpoint = ScoredEndpoint { address: "127.0.0.1:1".into(), ..ScoredEndpoint::default() };
        for _ in 0..3 {
            log.write(PickScores {
                request_id: String::new(),
                model: String::new(),
                observe: false,
                endpoints: vec![endpoint.clone(); 2],
            });
        }
        assert_eq!(log.dropped.get(), 4);
    }
}
