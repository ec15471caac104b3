//! One captured publisher on real sockets, and a sidecar's event streams that follow it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use indexer_sidecar::endpoints::{Endpoint, RankSource};
use indexer_sidecar::events::{self, EventMetrics};
use indexer_sidecar::index::report::StreamReport;
use indexer_sidecar::index::{KeyRules, SharedIndex};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use warmpath_core::definition::SaltRule;
use zeromq::{PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use crate::Publisher;
use crate::capture::Batches;

/// Batches sent before the subscriber must have caught up: fewer than any queue between us holds.
const AHEAD_MAX: u64 = 64;
/// How long the subscriber may take for the next batch, or for a repair with all its replays.
const DEADLINE: Duration = Duration::from_secs(150);
const POLL: Duration = Duration::from_millis(2);
const MODEL: &str = "captured";

/// What one publisher came to.
#[derive(Serialize)]
pub(crate) struct Played {
    pub(crate) file: String,
    /// Its name in the capture.
    pub(crate) publisher: String,
    /// Batches applied, and those of them that the replay brought.
    pub(crate) batches: u64,
    pub(crate) replayed_batches: u64,
    /// Live batches, and those of them that were applied before.
    pub(crate) live_batches: u64,
    pub(crate) duplicate_batches: u64,
    pub(crate) sequence_gaps: u64,
    pub(crate) unreadable_messages: u64,
    /// Events that could not be decoded, by reason.
    pub(crate) skipped_events: BTreeMap<String, u64>,
    /// Replays by how they ended.
    pub(crate) replays: BTreeMap<String, u64>,
    #[serde(flatten)]
    pub(crate) stream: StreamReport,
}

/// Plays a publisher from its first batch to its last.
pub(crate) async fn play(
    publisher: Publisher,
    block_tokens: u32,
    num_gpu_blocks: Option<u64>,
) -> anyhow::Result<Played> {
    let Publisher { stream, replay } = publisher;
    let mut publish = PubSocket::new();
    let events = publish.bind("tcp://127.0.0.1:0").await.context("binding the PUB socket")?;
    let mut replays = None;
    let mut served = None;
    if let Some(batches) = replay {
        let mut router = RouterSocket::new();
        replays =
            Some(address(&router.bind("tcp://127.0.0.1:0").await.context("binding the ROUTER socket")?));
        served = Some(tokio::spawn(serve(router, batches)));
    }
    let source =
        RankSource { events: address(&events), replay: replays, num_gpu_blocks, ..RankSource::default() };
    let sidecar = Sidecar::start(source, block_tokens);
    let name = format!("{} {}", stream.file.display(), stream.endpoint);
    let outcome = async {
        sidecar.settled().await?;
        send(&mut publish, &stream.batches, &sidecar, &name).await?;
        sidecar.settled().await
    };
    outcome.await.with_context(|| name.clone())?;
    let report = sidecar.index.streams().pop().context("the stream has left the index")?;
    let skipped_events = sidecar.by_reason("warmpath_events_skipped_total");
    let replays = sidecar.by_reason("warmpath_events_replays_total");
    let metrics = Arc::clone(&sidecar.metrics);
    sidecar.stop().await?;
    if let Some(served) = served {
        served.abort();
    }
    Ok(Played {
        file: stream.file.display().to_string(),
        publisher: stream.endpoint,
        batches: metrics.batches.get(),
        replayed_batches: metrics.replayed.get(),
        live_batches: metrics.live.get(),
        duplicate_batches: metrics.duplicates.get(),
        sequence_gaps: metrics.gaps.get(),
        unreadable_messages: metrics.unreadable.get(),
        skipped_events,
        replays,
        stream: report,
    })
}

/// The event streams of a sidecar.
struct Sidecar {
    index: Arc<SharedIndex>,
    metrics: Arc<EventMetrics>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _endpoints: watch::Sender<Arc<Vec<Endpoint>>>,
    _rules: watch::Sender<Arc<HashMap<Arc<str>, KeyRules>>>,
}

impl Sidecar {
    fn start(source: RankSource, block_tokens: u32) -> Self {
        let endpoint =
            Endpoint { address: "127.0.0.1:8000".into(), model: MODEL.into(), ranks: vec![source] };
        let endpoints = watch::Sender::new(Arc::new(vec![endpoint]));
        let rules = KeyRules { seed: 0, salt: SaltRule::Keyed, block_tokens };
        let rules = watch::Sender::new(Arc::new(HashMap::from([(Arc::from(MODEL), rules)])));
        let index = Arc::new(SharedIndex::new(usize::MAX));
        let metrics = Arc::new(EventMetrics::default());
        let shutdown = CancellationToken::new();
        let run = events::run(
            endpoints.subscribe(),
            rules.subscribe(),
            None,
            Arc::clone(&index),
            Arc::clone(&metrics),
            shutdown.clone(),
        );
        Self { index, metrics, shutdown, task: tokio::spawn(run), _endpoints: endpoints, _rules: rules }
    }

    /// Waits until the stream is up and nothing is being repaired.
    async fn settled(&self) -> anyhow::Result<()> {
        let settled = || self.metrics.streams_live.get() == 1;
        self.until("the stream is in order", settled).await
    }

    async fn until(&self, what: &str, done: impl Fn() -> bool) -> anyhow::Result<()> {
        let start = Instant::now();
        while !done() {
            if start.elapsed() > DEADLINE {
                bail!("not within {} s: {what}", DEADLINE.as_secs());
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Values of a counter by its label `reason`, out of the metrics' own text.
    fn by_reason(&self, name: &str) -> BTreeMap<String, u64> {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        let value = |line: &str| {
            let (reason, count) = line.strip_prefix(name)?.strip_prefix("{reason=\"")?.split_once("\"} ")?;
            Some((reason.to_owned(), count.parse().ok()?))
        };
        text.lines().filter_map(value).collect()
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.task.await.context("the event streams ended early")
    }
}

/// Sends the live messages, no faster than they are taken.
async fn send(
    publish: &mut PubSocket,
    batches: &Batches,
    sidecar: &Sidecar,
    name: &str,
) -> anyhow::Result<()> {
    let progress = Progress::new(name, batches.frames.len());
    let taken = || sidecar.metrics.live.get() + sidecar.metrics.unreadable.get();
    let mut odd = batches.odd.iter().peekable();
    let mut sent = 0;
    for (at, frame) in batches.frames.iter().enumerate() {
        while let Some((_, frames)) = odd.next_if(|(before, _)| *before <= at) {
            publish.send(message(frames.clone())?).await?;
        }
        let seq = Bytes::copy_from_slice(&frame.seq.to_be_bytes());
        publish.send(message(vec![frame.topic.clone(), seq, frame.payload.clone()])?).await?;
        sent += 1;
        if sidecar.metrics.live.get() + AHEAD_MAX < sent {
            sidecar.until("the next batch is taken", || taken() + AHEAD_MAX >= sent).await?;
        }
        progress.show(at + 1);
    }
    for (_, frames) in odd {
        publish.send(message(frames.clone())?).await?;
    }
    sidecar.until("every batch is taken", || sidecar.metrics.live.get() >= sent).await
}

/// Serves the captured replies: every batch from the number that is asked for on, and the end.
async fn serve(mut router: RouterSocket, batches: Batches) {
    while let Ok(request) = router.recv().await {
        let frames = request.into_vec();
        let Some(Ok(from)) = frames.last().map(|last| <[u8; 8]>::try_from(&last[..])) else { continue };
        let from = u64::from_be_bytes(from);
        let replies = batches.frames.iter().filter(|frame| frame.seq >= from);
        let replies = replies.map(|frame| (frame.seq, frame.topic.clone(), frame.payload.clone()));
        for (seq, topic, payload) in replies.chain([(u64::MAX, Bytes::new(), Bytes::new())]) {
            let mut reply = vec![frames[0].clone(), Bytes::new()];
            if batches.topics {
                reply.push(topic);
            }
            reply.extend([Bytes::copy_from_slice(&seq.to_be_bytes()), payload]);
            let Ok(reply) = message(reply) else { continue };
            if router.send(reply).await.is_err() {
                break;
            }
        }
    }
}

fn message(frames: Vec<Bytes>) -> anyhow::Result<ZmqMessage> {
    ZmqMessage::try_from(frames).map_err(|_| anyhow::anyhow!("a message without frames"))
}

fn address(endpoint: &zeromq::Endpoint) -> String {
    endpoint.to_string().trim_start_matches("tcp://").to_owned()
}

/// Says how far a long capture is, once a second, on standard error.
struct Progress {
    name: String,
    of: usize,
    shown: std::cell::Cell<Instant>,
}

impl Progress {
    fn new(name: &str, of: usize) -> Self {
        Self { name: name.to_owned(), of, shown: std::cell::Cell::new(Instant::now()) }
    }

    fn show(&self, done: usize) {
        if self.shown.get().elapsed() >= Duration::from_secs(1) {
            self.shown.set(Instant::now());
            eprintln!("{}: {done} of {} batches", self.name, self.of);
        }
    }
}
