//! Event streams of the publishers: subscribe, order by sequence number, replay what is missing, decode, apply.
//! [`follower::Follower`] decides, without I/O; [`subscriber`] has the sockets.
//!
//! Not here: what blocks mean (`index`), and which endpoints there are (`endpoints`). [`run`] keeps one task per
//! endpoint and data-parallel rank; identity is the connection, never a topic, except on the [`central`] socket.

mod again;
pub mod capacity;
pub mod central;
pub mod decode;
pub mod event;
mod fields;
pub mod follower;
pub mod frames;
pub mod metrics;
pub mod msgpack;
pub mod order;
mod pending;
mod probe;
mod repair;
pub mod replay;
mod subscriber;
mod trust;
pub mod zmtp;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::central::CentralConfig;
use self::follower::Follower;
pub use self::metrics::EventMetrics;
use crate::endpoints::{EndpointSet, RankSource};
use crate::index::{KeyRules, SharedIndex, StreamId};

/// Rules by the name of the model.
pub type Rules = HashMap<Arc<str>, KeyRules>;

/// What decides which streams there are, and where their events go.
#[derive(Clone)]
struct Inputs {
    endpoints: watch::Receiver<Arc<EndpointSet>>,
    rules: watch::Receiver<Arc<Rules>>,
    index: Arc<SharedIndex>,
    metrics: Arc<EventMetrics>,
}

/// A stream that there should be.
#[derive(Clone, PartialEq, Eq)]
struct Wanted {
    source: RankSource,
    rules: KeyRules,
}

impl Inputs {
    /// Every (endpoint, rank) whose model has rules and whose address `select` takes.
    fn wanted(&self, select: impl Fn(&str) -> bool) -> BTreeMap<StreamId, Wanted> {
        let endpoints = Arc::clone(&self.endpoints.borrow());
        let rules = Arc::clone(&self.rules.borrow());
        let mut wanted = BTreeMap::new();
        for endpoint in endpoints.iter().filter(|endpoint| select(&endpoint.address)) {
            let Some(rules) = rules.get(&endpoint.model) else { continue };
            for source in &endpoint.ranks {
                let id = StreamId {
                    model: Arc::clone(&endpoint.model),
                    address: Arc::clone(&endpoint.address),
                    rank: source.rank,
                };
                wanted.insert(id, Wanted { source: source.clone(), rules: *rules });
            }
        }
        wanted
    }

    /// Says which endpoints name a model that is not configured: nobody follows them.
    fn tell_unknown_models(&self) {
        let endpoints = Arc::clone(&self.endpoints.borrow());
        let rules = Arc::clone(&self.rules.borrow());
        let unknown = endpoints.iter().filter(|endpoint| !rules.contains_key(&endpoint.model));
        let mut count = 0;
        for endpoint in unknown {
            count += 1;
            log::warn!(endpoint:% = endpoint.address, model:% = endpoint.model; "endpoint names a model that is not configured: not followed");
        }
        self.metrics.unknown_model.set(count);
    }

    /// Waits until endpoints or rules change.
    async fn changed(&mut self) {
        tokio::select! {
            () = changed(&mut self.endpoints) => (),
            () = changed(&mut self.rules) => (),
        }
    }

    fn open(&self, id: StreamId, rules: KeyRules, replayable: bool) -> Follower {
        Follower::open(id, rules, replayable, Arc::clone(&self.index), Arc::clone(&self.metrics))
    }
}

/// Waits for a new value; for ever, once nobody is left who could send one.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A stream that is followed.
struct Running {
    wanted: Wanted,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.task.abort();
        // The publisher leaves the index when the task's future is dropped, which is before this returns.
        let _ = self.task.await;
    }
}

/// Follows every publisher of the endpoint set until `shutdown`: one that leaves the set, or whose model's rules
/// change, loses its blocks.
pub async fn run(
    endpoints: watch::Receiver<Arc<EndpointSet>>,
    rules: watch::Receiver<Arc<Rules>>,
    central: Option<CentralConfig>,
    index: Arc<SharedIndex>,
    metrics: Arc<EventMetrics>,
    shutdown: CancellationToken,
) {
    let mut inputs = Inputs { endpoints, rules, index, metrics };
    let socket = central.clone().map(|config| tokio::spawn(central::serve(config, inputs.clone())));
    let mut running: BTreeMap<StreamId, Running> = BTreeMap::new();
    loop {
        inputs.tell_unknown_models();
        let direct = |address: &str| !central.as_ref().is_some_and(|central| central.covers(address));
        reconcile(&mut running, &inputs, inputs.wanted(direct)).await;
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inputs.changed() => (),
        }
    }
    for stream in running.into_values() {
        stream.stop().await;
    }
    if let Some(socket) = socket {
        socket.abort();
        let _ = socket.await;
    }
}

async fn reconcile(
    running: &mut BTreeMap<StreamId, Running>,
    inputs: &Inputs,
    wanted: BTreeMap<StreamId, Wanted>,
) {
    let gone: Vec<StreamId> = running
        .iter()
        .filter(|(id, stream)| wanted.get(*id) != Some(&stream.wanted))
        .map(|(id, _)| id.clone())
        .collect();
    for id in gone {
        if let Some(stream) = running.remove(&id) {
            stream.stop().await;
        }
    }
    for (id, wanted) in wanted {
        running.entry(id.clone()).or_insert_with(|| {
            let follower = inputs.open(id, wanted.rules, wanted.source.replay.is_some());
            let task = tokio::spawn(subscriber::follow(follower, wanted.source.clone()));
            Running { wanted, task }
        });
    }
}

/// A wait between half of `of` and all of it.
fn jitter(of: Duration) -> Duration {
    of.mul_f64(0.5 + fastrand::f64() / 2.0)
}
