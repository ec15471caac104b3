//! One gateway under test: its processes, its requests, what they took.

use std::time::Duration;

use anyhow::Result;
use warmpath_harness::load::{Job, Sample, closed_loop, open_loop};
use warmpath_harness::stack::Stack;

/// What a gateway still does after the last answer of a turn is over after this: the filter sends its reports every
/// 100 ms, logs are written every 20 ms.
const AFTERMATH: Duration = Duration::from_millis(150);

/// How requests are sent.
#[derive(Clone, Copy)]
pub enum Way {
    /// One client that sends its next request when the last one is answered.
    OneClient,
    /// So many a second.
    OpenLoop {
        /// Requests per second.
        rate: usize,
    },
}

/// One gateway.
pub struct Arm {
    /// As figures name it.
    pub name: &'static str,
    /// Its processes.
    pub stack: Stack,
    /// What came of its requests since [`Arm::clear`].
    pub samples: Vec<Sample>,
    /// CPU of Envoy over its turns since then.
    pub envoy: Duration,
    /// CPU of the sidecar.
    pub sidecar: Duration,
}

impl Arm {
    /// A gateway that has done nothing yet.
    pub fn new(name: &'static str, stack: Stack) -> Self {
        Self { name, stack, samples: Vec::new(), envoy: Duration::ZERO, sidecar: Duration::ZERO }
    }

    /// Forgets what was measured.
    pub fn clear(&mut self) {
        self.samples.clear();
        (self.envoy, self.sidecar) = (Duration::ZERO, Duration::ZERO);
    }

    /// One turn of requests.
    pub async fn turn(&mut self, way: Way, jobs: Vec<Job>) -> Result<()> {
        let before = self.cpu()?;
        let client = self.stack.client();
        let samples = match way {
            Way::OneClient => closed_loop(&client, jobs, 1, |_| ()).await,
            Way::OpenLoop { rate } => open_loop(&client, jobs, rate as f64, |_| ()).await,
        };
        self.samples.extend(samples);
        tokio::time::sleep(AFTERMATH).await;
        let after = self.cpu()?;
        self.envoy += after.0 - before.0;
        self.sidecar += after.1 - before.1;
        Ok(())
    }

    /// CPU time of Envoy and of the sidecar so far.
    fn cpu(&mut self) -> Result<(Duration, Duration)> {
        let envoy = self.stack.envoy.process().cpu_time()?;
        let sidecar = match &mut self.stack.sidecar {
            Some(sidecar) => sidecar.process().cpu_time()?,
            None => Duration::ZERO,
        };
        Ok((envoy, sidecar))
    }

    /// Latency of the good answers, in milliseconds.
    pub fn quantile_ms(&self, q: f64) -> f64 {
        let mut times: Vec<Duration> =
            self.samples.iter().filter(|sample| sample.ok()).map(|sample| sample.total).collect();
        times.sort_unstable();
        let rank = (q * times.len() as f64).ceil() as usize;
        times.get(rank.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }

    /// Requests without a complete 2xx answer.
    pub fn failed(&self) -> usize {
        self.samples.iter().filter(|sample| !sample.ok()).count()
    }

    /// Milliseconds of one request.
    pub fn per_request_ms(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e3 / self.samples.len() as f64
    }
}
