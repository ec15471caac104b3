//! Drives one engine in real time: one task per data-parallel rank.
//!
//! The task takes requests, steps the engine, sleeps for as long as the step takes, publishes the step's events and
//! hands out its tokens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::engine::{Engine, EngineConfig, EngineRequest, RequestId, StepOutcome, SubmitError};
use crate::publisher::{Publisher, PublisherConfig};
use crate::stats::RankStats;

/// Orders between HTTP handlers and a rank; handlers wait while it is full.
const QUEUE: usize = 1024;
/// How far a busy machine may fall behind before lost time is given up instead of made up for.
const LAG_MAX: Duration = Duration::from_millis(50);

/// How engine time passes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// Real time times this factor: 0.1 is ten times faster.
    Scale(f64),
    /// Steps take no time.
    Instant,
}

impl Pace {
    /// What an engine duration takes on the clock.
    pub fn real(self, duration: Duration) -> Duration {
        match self {
            Self::Scale(scale) => duration.mul_f64(scale),
            Self::Instant => Duration::ZERO,
        }
    }
}

/// One token for a waiting client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The token id.
    pub token: u32,
    /// Prompt tokens that came from the cache.
    pub cached_tokens: usize,
}

/// Why a rank did not take a request.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RankError {
    /// The engine refuses it.
    #[error(transparent)]
    Refused(#[from] SubmitError),
    /// The engine is gone.
    #[error("the engine has stopped")]
    Stopped,
}

enum Order {
    Submit {
        request: EngineRequest,
        progress: mpsc::Sender<Progress>,
        accepted: oneshot::Sender<Result<(), SubmitError>>,
    },
    ResetCache(oneshot::Sender<bool>),
}

/// A running rank.
pub struct Rank {
    orders: mpsc::Sender<Order>,
    /// Its publisher; none when events are off.
    pub publisher: Option<Publisher>,
    stats: Arc<Mutex<RankStats>>,
    task: JoinHandle<()>,
}

impl Rank {
    /// Starts engine and publisher.
    pub async fn start(
        engine: EngineConfig,
        publisher: Option<PublisherConfig>,
        pace: Pace,
        hung: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let publisher = match publisher {
            Some(config) => Some(Publisher::start(config).await?),
            None => None,
        };
        let (orders, receiver) = mpsc::channel(QUEUE);
        let stats = Arc::new(Mutex::new(RankStats::default()));
        let driver = Driver {
            engine: Engine::new(engine),
            clients: HashMap::new(),
            publisher: publisher.clone(),
            stats: stats.clone(),
            pace,
            hung,
        };
        let task = tokio::spawn(driver.run(receiver));
        Ok(Self { orders, publisher, stats, task })
    }

    /// Queues a request; its tokens arrive at the receiver, which ends early when the engine stops. Dropping the
    /// receiver aborts the request.
    pub async fn submit(&self, request: EngineRequest) -> Result<mpsc::Receiver<Progress>, RankError> {
        // Room for every token: the engine never waits for a slow client.
        let (progress, receiver) = mpsc::channel(request.output_tokens.max(1));
        let (accepted, answer) = oneshot::channel();
        self.order(Order::Submit { request, progress, accepted }).await?;
        answer.await.map_err(|_| RankError::Stopped)??;
        Ok(receiver)
    }

    /// Empties the prefix cache; `false` while requests hold blocks.
    pub async fn reset_cache(&self) -> Result<bool, RankError> {
        let (done, answer) = oneshot::channel();
        self.order(Order::ResetCache(done)).await?;
        answer.await.map_err(|_| RankError::Stopped)
    }

    /// A look at the counters.
    pub fn stats(&self) -> RankStats {
        lock(&self.stats).clone()
    }

    /// Counts a time to first token.
    pub fn observe_first_token(&self, duration: Duration) {
        lock(&self.stats).first_token.observe(duration);
    }

    /// Stops the engine in the middle of whatever it does, and frees the publisher's ports.
    pub async fn stop(&self) {
        self.task.abort();
        if let Some(publisher) = &self.publisher {
            publisher.close().await;
        }
    }

    async fn order(&self, order: Order) -> Result<(), RankError> {
        self.orders.send(order).await.map_err(|_| RankError::Stopped)
    }
}

fn lock(stats: &Mutex<RankStats>) -> std::sync::MutexGuard<'_, RankStats> {
    stats.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Client {
    progress: mpsc::Sender<Progress>,
    prompt_tokens: usize,
    cached_tokens: usize,
}

struct Driver {
    engine: Engine,
    clients: HashMap<RequestId, Client>,
    publisher: Option<Publisher>,
    stats: Arc<Mutex<RankStats>>,
    pace: Pace,
    hung: watch::Receiver<bool>,
}

impl Driver {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut clock = Instant::now();
        loop {
            if self.clients.is_empty() {
                let Some(order) = orders.recv().await else { return };
                self.follow(order);
                clock = Instant::now();
            }
            while let Ok(order) = orders.try_recv() {
                self.follow(order);
            }
            self.abort_abandoned();
            let Some(outcome) = self.engine.step() else { continue };
            self.show_gauges();
            match self.pace {
                Pace::Instant => tokio::task::yield_now().await,
                Pace::Scale(_) => {
                    clock = clock.max(Instant::now() - LAG_MAX) + self.pace.real(outcome.duration);
                    sleep_until(clock).await;
                }
            }
            if self.hung.wait_for(|hung| !hung).await.is_err() {
                return;
            }
            self.hand_out(outcome).await;
        }
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Submit { request, progress, accepted } => {
                let prompt_tokens = request.prompt.len();
                let submitted = self.engine.submit(request).map(|id| {
                    self.clients.insert(id, Client { progress, prompt_tokens, cached_tokens: 0 });
                });
                let _ = accepted.send(submitted);
            }
            Order::ResetCache(done) => {
                let _ = done.send(self.engine.reset_prefix_cache());
            }
        }
        self.show_gauges();
    }

    /// Drops requests whose receiver is gone.
    fn abort_abandoned(&mut self) {
        let (engine, stats) = (&mut self.engine, &self.stats);
        self.clients.retain(|id, client| {
            let gone = client.progress.is_closed();
            if gone && engine.abort(*id) {
                lock(stats).aborted += 1;
            }
            !gone
        });
    }

    async fn hand_out(&mut self, outcome: StepOutcome) {
        self.count(&outcome);
        if let Some(publisher) = self.publisher.as_ref().filter(|_| !outcome.events.is_empty()) {
            publisher.publish(outcome.events).await;
        }
        for (id, token) in outcome.tokens {
            let Some(client) = self.clients.get(&id) else { continue };
            // There is room for every token; a client that has left is found by the next step.
            let _ = client.progress.try_send(Progress { token, cached_tokens: client.cached_tokens });
        }
        for id in outcome.finished {
            self.clients.remove(&id);
        }
        self.show_gauges();
    }

    fn count(&mut self, outcome: &StepOutcome) {
        let mut stats = lock(&self.stats);
        for (id, cached) in &outcome.admitted {
            let Some(client) = self.clients.get_mut(id) else { continue };
            client.cached_tokens = *cached;
            stats.prefix_queries += client.prompt_tokens as u64;
            stats.prefix_hits += *cached as u64;
            stats.prompt_tokens += client.prompt_tokens as u64;
        }
        stats.generation_tokens += outcome.tokens.len() as u64;
        stats.finished += outcome.finished.len() as u64;
        stats.preemptions += outcome.preempted as u64;
        stats.batches += u64::from(!outcome.events.is_empty());
    }

    fn show_gauges(&self) {
        let mut stats = lock(&self.stats);
        stats.running = self.engine.running();
        stats.waiting = self.engine.waiting();
        stats.usage = self.engine.usage();
        stats.cached_blocks = self.engine.pool().cached_contents();
    }
}
