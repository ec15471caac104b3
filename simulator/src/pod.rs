//! One simulated pod: HTTP, engines and publishers, on a runtime of its own.
//!
//! A pod has its own threads so that ending it ends everything of it at once, sockets included, as the end of a
//! process would: several pods live in one process, and tests kill one of them.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc as sync_mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{RwLock, oneshot, watch};

use crate::config::{NoneHash, PodConfig};
use crate::driver::Rank;
use crate::publisher::EventsAt;
use crate::server;

/// Threads of a pod: one engine and one that tokenizes meanwhile.
const THREADS: usize = 2;
/// How long requests in flight get when a pod is shut down.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a pod's threads may take to put down what they are computing.
const THREADS_END: Duration = Duration::from_secs(5);
/// Tries to find neighbouring free ports for several ranks when port 0 is asked for.
const PORT_TRIES: usize = 20;

/// What HTTP handlers share.
pub(crate) struct PodState {
    pub(crate) config: PodConfig,
    pub(crate) listen: String,
    pub(crate) ranks: RwLock<Vec<Arc<Rank>>>,
    pub(crate) hung: watch::Sender<bool>,
    pub(crate) end: watch::Sender<Option<End>>,
    pub(crate) requests: AtomicU64,
}

/// How a pod ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It was asked to, and requests in flight got a moment.
    Shutdown,
    /// At once: connections are cut.
    Killed,
}

impl PodState {
    /// Replaces all engines and publishers by new ones on the same ports: sequence numbers start again, caches are
    /// empty, requests in flight fail.
    pub(crate) async fn restart(&self, none_hash: &NoneHash) -> anyhow::Result<()> {
        let mut ranks = self.ranks.write().await;
        let mut config = self.config.clone();
        if let Some(publisher) = ranks.first().and_then(|rank| rank.publisher.as_ref()) {
            // Port 0 was resolved by the first start.
            if matches!(config.events, Some(EventsAt::Bind(_))) {
                config.events = Some(EventsAt::Bind(publisher.events.clone()));
            }
            config.replay = publisher.replay.clone();
        }
        for rank in ranks.drain(..) {
            rank.stop().await;
        }
        *ranks = start_ranks(&config, none_hash, &self.hung).await?;
        Ok(())
    }
}

/// A running pod.
pub struct PodHandle {
    /// `host:port` of the HTTP server.
    pub listen: String,
    /// Where each rank's PUB socket stands.
    pub events: Vec<String>,
    /// Where each rank's ROUTER socket stands.
    pub replay: Vec<String>,
    end: watch::Sender<Option<End>>,
    thread: Option<JoinHandle<End>>,
}

/// A simulated pod.
pub struct Pod;

impl Pod {
    /// Starts a pod and returns when all its sockets are bound. Blocks for some milliseconds; needs no runtime.
    pub fn start(config: PodConfig) -> anyhow::Result<PodHandle> {
        let (end, _) = watch::channel(None);
        let (ready, started) = sync_mpsc::sync_channel(1);
        let signal = end.clone();
        let thread =
            std::thread::Builder::new().name("pod".to_owned()).spawn(move || run(config, signal, ready))?;
        let (listen, events, replay) = started.recv().context("the pod's thread ended early")??;
        Ok(PodHandle { listen, events, replay, end, thread: Some(thread) })
    }
}

impl PodHandle {
    /// Ends the pod; requests in flight get a moment. Returns when its ports are free.
    pub fn shutdown(self) {
        self.finish(End::Shutdown);
    }

    /// Ends the pod at once, as a crash would.
    pub fn kill(self) {
        self.finish(End::Killed);
    }

    /// Waits until the pod ends by itself (`/sim/kill`).
    pub async fn ended(&self) -> End {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await {
            Ok(end) => end.unwrap_or(End::Killed),
            Err(_) => End::Killed,
        }
    }

    fn finish(mut self, how: End) {
        self.end.send_if_modified(|end| end.is_none() && end.replace(how).is_none());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A handle that is dropped ends its pod: no test leaves sockets behind.
impl Drop for PodHandle {
    fn drop(&mut self) {
        self.end.send_if_modified(|end| end.is_none() && end.replace(End::Killed).is_none());
    }
}

type Bound = (String, Vec<String>, Vec<String>);

fn run(
    config: PodConfig,
    end: watch::Sender<Option<End>>,
    ready: sync_mpsc::SyncSender<anyhow::Result<Bound>>,
) -> End {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error.into()));
            return End::Killed;
        }
    };
    let how = runtime.block_on(serve(config, end, ready));
    // Waits for the threads, not for the tasks: what they hold, sockets above all, is gone afterwards.
    runtime.shutdown_timeout(THREADS_END);
    how
}

async fn serve(
    config: PodConfig,
    end: watch::Sender<Option<End>>,
    ready: sync_mpsc::SyncSender<anyhow::Result<Bound>>,
) -> End {
    let mut ending = end.subscribe();
    let (state, listener) = match open(config, end).await {
        Ok(opened) => opened,
        Err(error) => {
            let _ = ready.send(Err(error));
            return End::Killed;
        }
    };
    let bound = bound(&state).await;
    let (drain, drained) = oneshot::channel();
    let server = tokio::spawn(server::serve(listener, state.clone(), drained));
    let _ = ready.send(Ok(bound));
    let how = match ending.wait_for(Option::is_some).await {
        Ok(end) => end.unwrap_or(End::Killed),
        Err(_) => End::Killed,
    };
    if how == End::Shutdown {
        let _ = drain.send(());
        let _ = tokio::time::timeout(DRAIN, server).await;
        for rank in state.ranks.write().await.drain(..) {
            rank.stop().await;
        }
    }
    how
}

async fn open(
    config: PodConfig,
    end: watch::Sender<Option<End>>,
) -> anyhow::Result<(Arc<PodState>, TcpListener)> {
    let listener =
        TcpListener::bind(&config.listen).await.with_context(|| format!("cannot bind {}", config.listen))?;
    let listen: SocketAddr = listener.local_addr()?;
    let (hung, _) = watch::channel(false);
    let ranks = start_ranks(&config, &config.none_hash, &hung).await?;
    let state = PodState {
        config,
        listen: listen.to_string(),
        ranks: RwLock::new(ranks),
        hung,
        end,
        requests: AtomicU64::new(0),
    };
    Ok((Arc::new(state), listener))
}

async fn bound(state: &PodState) -> Bound {
    let ranks = state.ranks.read().await;
    let publishers = || ranks.iter().filter_map(|rank| rank.publisher.as_ref());
    let events = publishers().map(|publisher| publisher.events.clone()).collect();
    let replay = publishers().filter_map(|publisher| publisher.replay.clone()).collect();
    (state.listen.clone(), events, replay)
}

/// Starts all ranks. With port 0 the free ports of rank 0 decide those of the others, which may be taken: then all of
/// it is tried again.
async fn start_ranks(
    config: &PodConfig,
    none_hash: &NoneHash,
    hung: &watch::Sender<bool>,
) -> anyhow::Result<Vec<Arc<Rank>>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_start_ranks(config.clone(), none_hash, hung).await {
            Err(_) if tries < PORT_TRIES && config.data_parallel > 1 => {}
            result => return result,
        }
    }
}

async fn try_start_ranks(
    mut config: PodConfig,
    none_hash: &NoneHash,
    hung: &watch::Sender<bool>,
) -> anyhow::Result<Vec<Arc<Rank>>> {
    let mut ranks = Vec::new();
    for number in 0..config.data_parallel {
        let engine = config.engine(none_hash)?;
        let rank = Rank::start(engine, config.publisher(number)?, config.pace, hung.subscribe()).await?;
        if let Some(publisher) = rank.publisher.as_ref().filter(|_| number == 0) {
            if matches!(config.events, Some(EventsAt::Bind(_))) {
                config.events = Some(EventsAt::Bind(publisher.events.clone()));
            }
            config.replay = publisher.replay.clone();
        }
        ranks.push(Arc::new(rank));
    }
    Ok(ranks)
}
