//! Real ZMQ sockets: what the index holds after gaps, holes, restarts and disconnects.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use common::pod::{Buffer, Framing, Pod, message};
use indexer_sidecar::endpoints::{Endpoint, EndpointSet, RankSource};
use indexer_sidecar::events::metrics::Reason as Label;
use indexer_sidecar::events::{self, CentralConfig, EventMetrics, Rules};
use indexer_sidecar::index::{EndpointMatch, KeyRules, Reason, SharedIndex, StreamId, TrustState};
use rmpv::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use warmpath_core::block::{KeySpace, chain};
use warmpath_core::definition::SaltRule;
use zeromq::{PubSocket, Socket, SocketSend};

const BLOCK: usize = 2;
/// Looks at something that must happen, 10 ms apart: they only end a test that failed.
const TRIES: usize = 6_000;
const ADDRESS: &str = "127.0.0.1:8001";
const RULES: KeyRules = KeyRules { seed: 1, salt: SaltRule::Keyed, block_tokens: BLOCK as u32 };

/// The event streams of a sidecar, and the switches to drive them.
struct Sidecar {
    endpoints: watch::Sender<Arc<EndpointSet>>,
    rules: watch::Sender<Arc<Rules>>,
    index: Arc<SharedIndex>,
    metrics: Arc<EventMetrics>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Sidecar {
    fn start(events: &str, replay: Option<&str>, central: Option<CentralConfig>) -> Self {
        let endpoints = watch::Sender::new(Arc::new(vec![endpoint(events, replay)]));
        let rules = watch::Sender::new(Arc::new(HashMap::from([(Arc::from("m"), RULES)])));
        let index = Arc::new(SharedIndex::new(1000));
        let metrics = Arc::new(EventMetrics::default());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(events::run(
            endpoints.subscribe(),
            rules.subscribe(),
            central,
            Arc::clone(&index),
            Arc::clone(&metrics),
            shutdown.clone(),
        ));
        Self { endpoints, rules, index, metrics, shutdown, task }
    }

    fn entry(&self) -> Option<EndpointMatch> {
        let seed = self.rules.borrow()["m"].seed;
        let root = KeySpace { seed, model: "m", lora: None, salt: None }.root();
        self.index.lookup("m", &chain(root, &tokens(0..20), BLOCK)).pop()
    }

    /// Waits until the endpoint holds `blocks` leading blocks of the one chain that these tests have.
    async fn until(&self, blocks: u32, live: bool) {
        let wanted = Some((blocks, live));
        let mut got = None;
        for _ in 0..TRIES {
            got = self.entry().map(|entry| (entry.blocks, entry.live));
            if got == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("after a minute: {got:?}, not {wanted:?}; {}", self.text());
    }

    /// Waits until the stream can be trusted so far.
    async fn trusted(&self, state: TrustState, reason: Reason) {
        let id = StreamId { model: "m".into(), address: ADDRESS.into(), rank: 0 };
        for _ in 0..TRIES {
            if self.index.trust(&id).is_some_and(|trust| (trust.state, trust.reason) == (state, reason)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("after a minute: {:?}, not {state:?} {reason:?}; {}", self.index.trust(&id), self.text());
    }

    fn replays(&self, reason: &'static str) -> u64 {
        self.metrics.replays.get_or_create(&Label::of(reason)).get()
    }

    fn losses(&self, reason: &'static str) -> u64 {
        self.metrics.losses.get_or_create(&Label::of(reason)).get()
    }

    /// Waits until a loss of that kind is counted.
    async fn loses(&self, reason: &'static str) {
        for _ in 0..TRIES {
            if self.losses(reason) > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no loss by {reason}; {}", self.text());
    }

    fn text(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(60), self.task).await.unwrap().unwrap();
        assert_eq!(
            (self.index.len(), self.metrics.streams.get(), self.metrics.streams_live.get()),
            (0, 0, 0)
        );
    }
}

fn endpoint(events: &str, replay: Option<&str>) -> Endpoint {
    let rank =
        RankSource { events: events.to_owned(), replay: replay.map(str::to_owned), ..RankSource::default() };
    Endpoint { address: ADDRESS.into(), model: "m".into(), ranks: vec![rank] }
}

fn tokens(blocks: std::ops::Range<u64>) -> Vec<u32> {
    blocks.flat_map(|block| [block as u32, 1000 + block as u32]).collect()
}

/// Batch `seq` of process `process`: stores block `seq` of the chain, in the map layout.
fn store(process: u64, seq: u64) -> Vec<u8> {
    let hash = |block: u64| Value::from(process * 1000 + block);
    let parent = if seq == 0 { Value::Nil } else { hash(seq - 1) };
    let tokens = tokens(seq..seq + 1).into_iter().map(Value::from).collect();
    let event = Value::Map(vec![
        ("type".into(), "BlockStored".into()),
        ("block_hashes".into(), Value::Array(vec![hash(seq)])),
        ("parent_block_hash".into(), parent),
        ("token_ids".into(), Value::Array(tokens)),
        ("block_size".into(), BLOCK.into()),
        ("medium".into(), "GPU".into()),
    ]);
    batch(process, vec![event])
}

fn batch(process: u64, events: Vec<Value>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let batch = Value::Array(vec![Value::F64(process as f64), Value::Array(events), 0.into()]);
    rmpv::encode::write_value(&mut bytes, &batch).unwrap();
    bytes
}

/// A pod that has published batches 0 to 2, and a sidecar that came later and knows them from the replay.
async fn followed(framing: Framing) -> (Pod, Sidecar) {
    let pod = Pod::start(framing).await;
    for seq in 0..3 {
        pod.keep(seq, &store(1, seq));
    }
    let sidecar = Sidecar::start(&pod.events, Some(&pod.replays), None);
    sidecar.until(3, true).await;
    (pod, sidecar)
}

#[tokio::test]
async fn a_late_start_is_replayed_and_live_batches_follow() {
    for framing in [Framing::Bare, Framing::Topic] {
        let (mut pod, sidecar) = followed(framing).await;
        pod.publish(3, &store(1, 3)).await;
        sidecar.until(4, true).await;
        assert_eq!((sidecar.replays("complete"), sidecar.metrics.replayed.get()), (1, 3));
        assert_eq!(pod.buffer.lock().unwrap().asked, [0]);
        sidecar.stop().await;
        pod.stop().await;
    }
}

#[tokio::test]
async fn a_gap_is_replayed_and_what_came_twice_is_applied_once() {
    for framing in [Framing::Bare, Framing::Topic] {
        let (mut pod, sidecar) = followed(framing).await;
        pod.keep(3, &store(1, 3));
        pod.keep(4, &store(1, 4));
        pod.send(4, &store(1, 4)).await;
        sidecar.until(5, true).await;
        pod.publish(5, &store(1, 5)).await;
        sidecar.until(6, true).await;
        assert_eq!(pod.buffer.lock().unwrap().asked, [0, 3]);
        assert_eq!((sidecar.metrics.gaps.get(), sidecar.metrics.batches.get()), (1, 6));
        assert_eq!(sidecar.index.metrics().admissions.get(), 6);
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_hole_in_a_replay_is_asked_for_again() {
    let pod = Pod::start(Framing::Topic).await;
    for seq in 0..9 {
        pod.keep(seq, &store(1, seq));
    }
    pod.buffer.lock().unwrap().left_out.extend([4, 5]);
    let sidecar = Sidecar::start(&pod.events, Some(&pod.replays), None);
    sidecar.until(9, true).await;
    assert_eq!(pod.buffer.lock().unwrap().asked, [0, 4]);
    assert_eq!((sidecar.replays("hole"), sidecar.replays("complete")), (1, 1));
    sidecar.stop().await;
}

#[tokio::test]
async fn a_gap_that_the_buffer_no_longer_covers_drops_what_was_before() {
    let (mut pod, sidecar) = followed(Framing::Topic).await;
    // A new chain from 5 on, so that something can be credited after the loss.
    let restart = store(1, 0);
    pod.buffer.lock().unwrap().batches.clear();
    pod.publish(5, &restart).await;
    sidecar.until(1, true).await;
    // The batch counts at once; that nothing else will come is known when the replay has ended.
    sidecar.loses("late_start").await;
    assert_eq!((sidecar.losses("late_start"), sidecar.losses("gap")), (1, 0));
    sidecar.stop().await;
}

#[tokio::test]
async fn without_a_replay_socket_a_gap_drops_what_was_before() {
    let mut pod = Pod::start(Framing::Topic).await;
    let sidecar = Sidecar::start(&pod.events, None, None);
    sidecar.until(0, true).await;
    pod.send(7, &store(1, 0)).await;
    sidecar.until(1, true).await;
    pod.send(8, &store(1, 1)).await;
    sidecar.until(2, true).await;
    pod.send(10, &store(1, 0)).await;
    sidecar.until(1, true).await;
    // A number that was there already: another process.
    pod.send(10, &store(2, 0)).await;
    pod.send(11, &store(2, 1)).await;
    sidecar.until(2, true).await;
    assert_eq!((sidecar.losses("gap"), sidecar.losses("restart")), (1, 1));
    pod.stop().await;
    sidecar.until(0, false).await;
    assert_eq!(sidecar.losses("disconnect"), 1);
    sidecar.stop().await;
}

#[tokio::test]
async fn an_unreachable_replay_socket_costs_the_past_and_not_the_future() {
    let mut pod = Pod::start(Framing::Topic).await;
    // Bound and never answering.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sidecar = Sidecar::start(&pod.events, Some(&silent.local_addr().unwrap().to_string()), None);
    sidecar.until(0, true).await;
    pod.send(4, &store(1, 0)).await;
    sidecar.until(1, true).await;
    sidecar.trusted(TrustState::Partial, Reason::LateStart).await;
    sidecar.until(1, true).await;
    assert_eq!(sidecar.replays("failed"), 4);
    sidecar.stop().await;
}

#[tokio::test]
async fn after_a_cut_connection_the_same_process_keeps_its_blocks() {
    let (mut pod, sidecar) = followed(Framing::Topic).await;
    pod.publish(3, &store(1, 3)).await;
    sidecar.until(4, true).await;
    let (events, replays) = (pod.events.clone(), pod.replays.clone());
    let buffer = pod.stop().await;
    sidecar.until(0, false).await;
    // Published while nobody listened.
    buffer.lock().unwrap().batches.push((4, store(1, 4).into()));
    let pod = Pod::start_at(&events, &replays, Framing::Topic, Arc::clone(&buffer)).await;
    sidecar.until(5, true).await;
    assert_eq!(buffer.lock().unwrap().asked, [0, 3]);
    assert_eq!(sidecar.index.metrics().admissions.get(), 5);
    assert_eq!((sidecar.losses("restart"), sidecar.losses("disconnect")), (0, 0));
    pod.stop().await;
    sidecar.stop().await;
}

#[tokio::test]
async fn another_process_behind_the_same_address_is_noticed_even_if_its_numbers_fit() {
    let (pod, sidecar) = followed(Framing::Topic).await;
    let (events, replays) = (pod.events.clone(), pod.replays.clone());
    pod.stop().await;
    sidecar.until(0, false).await;
    let next: Arc<std::sync::Mutex<Buffer>> = Arc::default();
    let chain = [store(2, 0), store(2, 1), batch(2, vec![]), batch(2, vec![])];
    let numbered = chain.into_iter().enumerate().map(|(seq, payload)| (seq as u64, payload.into()));
    next.lock().unwrap().batches.extend(numbered);
    let mut pod = Pod::start_at(&events, &replays, Framing::Topic, Arc::clone(&next)).await;
    sidecar.until(2, true).await;
    assert_eq!(next.lock().unwrap().asked, [2, 0]);
    assert_eq!((sidecar.replays("other_process"), sidecar.losses("restart")), (1, 1));
    pod.publish(4, &store(2, 2)).await;
    sidecar.until(3, true).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_drops_and_a_bad_event_does_not() {
    let (mut pod, sidecar) = followed(Framing::Topic).await;
    let odd = Value::Map(vec![("type".into(), "KVCacheCreated".into())]);
    pod.publish(3, &batch(1, vec![odd])).await;
    pod.publish(4, &store(1, 3)).await;
    sidecar.until(4, true).await;
    pod.publish(5, b"\x93no batch").await;
    sidecar.until(0, true).await;
    let text = sidecar.text();
    for line in [
        "warmpath_events_skipped_total{reason=\"unknown_type\"} 1",
        "warmpath_events_unreadable_messages_total 1",
        "warmpath_events_losses_total{reason=\"unreadable\"} 1",
        "warmpath_events_streams_live 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} not in\n{text}");
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn the_endpoint_set_and_the_rules_decide_what_is_followed() {
    let (pod, sidecar) = followed(Framing::Topic).await;
    sidecar.rules.send_replace(Arc::new(HashMap::from([(Arc::from("m"), KeyRules { seed: 2, ..RULES })])));
    sidecar.until(3, true).await;
    assert_eq!(pod.buffer.lock().unwrap().asked, [0, 0]);
    sidecar.endpoints.send_replace(Arc::new(vec![]));
    while sidecar.entry().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(sidecar.index.is_empty());
    sidecar.endpoints.send_replace(Arc::new(vec![endpoint(&pod.events, Some(&pod.replays))]));
    sidecar.until(3, true).await;
    sidecar.stop().await;
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn on_the_central_socket_the_map_of_topics_decides() {
    let bind = format!("tcp://127.0.0.1:{}", free_port());
    let topics = BTreeMap::from([
        ("mine".to_owned(), ADDRESS.to_owned()),
        ("gone".to_owned(), "1.2.3.4:8000".to_owned()),
    ]);
    let sidecar = Sidecar::start("127.0.0.1:1", None, Some(CentralConfig { bind: bind.clone(), topics }));
    let mut publisher = PubSocket::new();
    publisher.connect(&bind).await.unwrap();
    let mut seq = 0;
    // What is sent before the subscription has arrived is lost.
    while sidecar.metrics.unmapped.get() == 0 {
        publisher.send(message(&[b"other", &0u64.to_be_bytes(), &store(9, 0)])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let unmapped = |sidecar: &Sidecar| sidecar.metrics.unmapped.get();
    publisher.send(message(&[b"gone", &0u64.to_be_bytes(), &store(9, 0)])).await.unwrap();
    for block in 0..3 {
        publisher.send(message(&[b"mine", &u64::to_be_bytes(seq), &store(1, block)])).await.unwrap();
        seq += 1;
    }
    sidecar.until(3, true).await;
    assert!(unmapped(&sidecar) >= 2);
    publisher.send(message(&[b"mine", &u64::to_be_bytes(seq + 1), &store(1, 0)])).await.unwrap();
    sidecar.until(1, true).await;
    assert_eq!(sidecar.losses("gap"), 1);
    publisher.close().await;
    sidecar.until(0, false).await;
    assert_eq!(sidecar.losses("disconnect"), 1);
    sidecar.stop().await;
}
