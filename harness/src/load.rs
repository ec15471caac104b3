//! Load: many requests, closed loop or at a rate, and what became of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};

use crate::client::Client;

/// One request of a load.
#[derive(Debug, Clone)]
pub struct Job {
    /// Path, for example `/v1/chat/completions`.
    pub path: &'static str,
    /// JSON body.
    pub body: Value,
}

/// What became of one request.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its place in the list of jobs.
    pub index: usize,
    /// HTTP status; none when no complete answer came.
    pub status: Option<u16>,
    /// Who served it (`x-pod`).
    pub pod: Option<String>,
    /// Time to the first piece of the body.
    pub ttft: Option<Duration>,
    /// Time to the last byte, or to the failure.
    pub total: Duration,
    /// What went wrong, or the body of an answer that is not 2xx.
    pub error: Option<String>,
}

impl Sample {
    /// Whether the client got a complete 2xx answer.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.error.is_none()
    }
}

/// `clients` clients, each sending its next request when the last one is answered. Jobs are started in their order.
///
/// `on_done` is called once per sample, in the order in which they end.
pub async fn closed_loop(
    client: &Client,
    jobs: Vec<Job>,
    clients: usize,
    on_done: impl Fn(&Sample) + Send + Sync + 'static,
) -> Vec<Sample> {
    let queue = Arc::new(Mutex::new(jobs.into_iter().enumerate()));
    let on_done = Arc::new(on_done);
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (client, queue, on_done) = (client.clone(), queue.clone(), on_done.clone());
        tasks.spawn(async move {
            let mut samples = Vec::new();
            loop {
                let Some((index, job)) = queue.lock().await.next() else { return samples };
                let sample = exchange(&client, index, &job).await;
                on_done(&sample);
                samples.push(sample);
            }
        });
    }
    in_order(tasks.join_all().await.into_iter().flatten().collect())
}

/// One request every `1 / rate` seconds, whether or not earlier ones are answered.
pub async fn open_loop(
    client: &Client,
    jobs: Vec<Job>,
    rate_per_second: f64,
    on_done: impl Fn(&Sample) + Send + Sync + 'static,
) -> Vec<Sample> {
    let on_done = Arc::new(on_done);
    let mut tasks = JoinSet::new();
    let mut ticks = interval_at(Instant::now(), Duration::from_secs_f64(1.0 / rate_per_second));
    for (index, job) in jobs.into_iter().enumerate() {
        ticks.tick().await;
        let (client, on_done) = (client.clone(), on_done.clone());
        tasks.spawn(async move {
            let sample = exchange(&client, index, &job).await;
            on_done(&sample);
            sample
        });
    }
    in_order(tasks.join_all().await)
}

fn in_order(mut samples: Vec<Sample>) -> Vec<Sample> {
    samples.sort_by_key(|sample| sample.index);
    samples
}

async fn exchange(client: &Client, index: usize, job: &Job) -> Sample {
    let start = Instant::now();
    match client.post_json(job.path, &job.body).await {
        Ok(response) => Sample {
            index,
            status: Some(response.status.as_u16()),
            pod: response.pod().map(str::to_owned),
            ttft: response.ttft(),
            total: response.total,
            error: (!response.status.is_success()).then(|| response.text()),
        },
        Err(error) => Sample {
            index,
            status: None,
            pod: None,
            ttft: None,
            total: start.elapsed(),
            error: Some(format!("{error:#}")),
        },
    }
}

/// Figures over all samples of a load.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Requests sent.
    pub requests: usize,
    /// Requests without a complete 2xx answer.
    pub failed: usize,
    /// Times to first byte of the good answers, ascending.
    pub ttft: Vec<Duration>,
    /// Good answers per pod.
    pub per_pod: BTreeMap<String, usize>,
}

impl Summary {
    /// Sum up.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Self {
        let mut summary = Summary { requests: samples.len(), ..Summary::default() };
        for sample in samples {
            if !sample.ok() {
                summary.failed += 1;
                continue;
            }
            summary.ttft.extend(sample.ttft);
            *summary.per_pod.entry(sample.pod.clone().unwrap_or_default()).or_default() += 1;
        }
        summary.ttft.sort_unstable();
        summary
    }

    /// Quantile of the time to first byte (nearest rank), `q` in 0..=1; zero without samples.
    #[must_use]
    pub fn ttft(&self, q: f64) -> Duration {
        let rank = (q * self.ttft.len() as f64).ceil() as usize;
        self.ttft.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Largest share of the requests that one pod got, 0..=1.
    #[must_use]
    pub fn max_pod_share(&self) -> f64 {
        self.per_pod.values().max().map_or(0.0, |most| *most as f64 / self.requests as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Sample, Summary};

    #[test]
    fn sums_up() {
        let samples: Vec<Sample> = (0..10)
            .map(|index| Sample {
                index,
                status: Some(200),
                pod: Some(if index < 6 { "a" } else { "b" }.to_owned()),
                ttft: Some(Duration::from_millis(index as u64 + 1)),
                total: Duration::from_millis(20),
                error: (index == 9).then(|| "reset".to_owned()),
            })
            .collect();
        let summary = Summary::of(&samples);
        assert_eq!((summary.requests, summary.failed), (10, 1));
        assert_eq!(summary.ttft(0.5), Duration::from_millis(5));
        assert_eq!(summary.ttft(0.9), Duration::from_millis(9));
        assert_eq!(summary.ttft(1.0), Duration::from_millis(9));
        assert_eq!(summary.max_pod_share(), 0.6);
        assert_eq!(Summary::of(&[]).ttft(0.9), Duration::ZERO);
    }
}
