//! A whole pod as the sidecar sees it: events and replay over ZMQ.

mod common;

use std::str::FromStr;
use std::time::Duration;

use common::pod::{LIMIT, cached, complete, config, http, start, switch};
use rmpv::Value as Msgpack;
use serde_json::json;
use tokio::time::timeout;
use warmpath_simulator::publisher::EventsAt;
use warmpath_simulator::wire::Layout;
use warmpath_simulator::{Pod, PodConfig, PodHandle};
use zeromq::{DealerSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

/// Subscribes and waits until events arrive, by making some.
async fn subscribe(pod: &PodHandle) -> (SubSocket, u64) {
    let mut socket = SubSocket::new();
    socket.connect(&format!("tcp://{}", pod.events[0])).await.expect("connects");
    socket.subscribe("").await.expect("subscribes");
    for try_ in 0..100 {
        complete(pod, 1000 + 20 * try_..1020 + 20 * try_);
        let Ok(message) = timeout(Duration::from_millis(100), socket.recv()).await else { continue };
        let mut last = sequence(&message.expect("a message"));
        // Of earlier tries, some are still on their way.
        let published = published(pod);
        while last + 1 < published {
            last = next(&mut socket).await.0;
        }
        return (socket, last);
    }
    panic!("no event arrives");
}

/// Batches that the pod has published.
fn published(pod: &PodHandle) -> u64 {
    let (_, _, state) = http(&pod.listen, "GET", "/sim/state", "", "").expect("an answer");
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    state["ranks"][0]["batches"].as_u64().expect("a count")
}

fn sequence(message: &ZmqMessage) -> u64 {
    u64::from_be_bytes(message.get(1).expect("three frames")[..].try_into().expect("eight bytes"))
}

async fn next(socket: &mut SubSocket) -> (u64, Vec<Msgpack>) {
    let message = timeout(LIMIT, socket.recv()).await.expect("in time").expect("a message");
    assert_eq!(message.len(), 3);
    let payload = rmpv::decode::read_value(&mut &message.get(2).expect("three frames")[..]).expect("msgpack");
    (sequence(&message), payload[1].as_array().expect("events").clone())
}

/// All batches from `start` on: their frames without the delimiter.
async fn replay(pod: &PodHandle, start: u64) -> Vec<Vec<Vec<u8>>> {
    let mut socket = DealerSocket::new();
    socket.connect(&format!("tcp://{}", pod.replay[0])).await.expect("connects");
    let mut request = ZmqMessage::from(vec![]);
    request.push_back(start.to_be_bytes().to_vec().into());
    socket.send(request).await.expect("sends");
    let mut batches = vec![];
    loop {
        let reply = timeout(LIMIT, socket.recv()).await.expect("in time").expect("a reply");
        let frames: Vec<Vec<u8>> = reply.into_vec().into_iter().map(|frame| frame.to_vec()).collect();
        assert_eq!(frames[0], b"");
        let end = frames[frames.len() - 2] == [0xff; 8];
        batches.push(frames[1..].to_vec());
        if end {
            return batches;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_and_replayed() {
    let pod = start();
    let (mut socket, first) = subscribe(&pod).await;
    complete(&pod, 0..40);
    let (sequence, events) = next(&mut socket).await;
    assert_eq!(sequence, first + 1);
    let field = |name: &str| {
        let fields = events[0].as_map().expect("a map");
        fields.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value.clone())
    };
    assert_eq!(field("type"), Some("BlockStored".into()));
    assert_eq!(field("token_ids").and_then(|ids| ids.as_array().map(Vec::len)), Some(32));
    let all = replay(&pod, 0).await;
    let numbers: Vec<u64> =
        all.iter().map(|frames| u64::from_be_bytes(frames[1][..].try_into().expect("eight bytes"))).collect();
    let expected: Vec<u64> = (0..=sequence).chain([u64::MAX]).collect();
    assert_eq!(numbers, expected);
    assert!(all.iter().all(|frames| frames.len() == 3), "topic, sequence, payload");
    assert_eq!(replay(&pod, 999).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_events_leave_a_gap_that_replay_fills_or_not() {
    let pod = Pod::start(PodConfig { wire: Layout::from_str("vllm-0.25").expect("known"), ..config() });
    let pod = pod.expect("a pod starts");
    let (mut socket, mut last) = subscribe(&pod).await;
    for (replayable, kept) in [(true, 2), (false, 1)] {
        let start = replay(&pod, 0).await.len() as u64;
        switch(&pod, &format!("/sim/drop-events?n=1&replayable={replayable}"));
        let base = 100 * (1 + kept as u32);
        complete(&pod, base..base + 20);
        complete(&pod, base + 20..base + 40);
        let (sequence, _) = next(&mut socket).await;
        assert_eq!(sequence, last + 2, "one batch is missing");
        last = sequence;
        let batches = replay(&pod, start - 1).await;
        assert_eq!(batches.len(), kept + 1);
        assert!(batches.iter().all(|frames| frames.len() == 2), "no topic before 0.26");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_events_come_later() {
    let pod = start();
    let (mut socket, first) = subscribe(&pod).await;
    switch(&pod, "/sim/pause-events");
    complete(&pod, 0..20);
    assert!(timeout(Duration::from_millis(300), socket.recv()).await.is_err());
    switch(&pod, "/sim/resume-events");
    assert_eq!(next(&mut socket).await.0, first + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_and_counts_from_zero() {
    let pod = start();
    complete(&pod, 0..40);
    let before = replay(&pod, 0).await;
    switch(&pod, "/sim/restart");
    assert_eq!(cached(&complete(&pod, 0..40)), 0);
    let after = replay(&pod, 0).await;
    assert_eq!(before[0][1], after[0][1], "sequence number 0");
    let hashes = |payload: &[u8]| {
        let batch = rmpv::decode::read_value(&mut &payload[..]).expect("msgpack");
        batch[1][0]["block_hashes"].clone()
    };
    assert_ne!(hashes(&before[0][2]), hashes(&after[0][2]), "another first parent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_central_socket_gets_the_events_again_after_it_was_gone() {
    let topic = "kv@10.0.0.1@demo";
    let mut central = SubSocket::new();
    let endpoint = central.bind("tcp://127.0.0.1:0").await.expect("binds").to_string();
    central.subscribe("").await.expect("subscribes");
    let events = Some(EventsAt::Connect(endpoint.clone()));
    let pod = Pod::start(PodConfig { events, topic: topic.to_owned(), ..config() }).expect("a pod starts");
    for round in 0..2 {
        let mut message = None;
        for try_ in 0..100 {
            complete(&pod, 1000 * round + 20 * try_..1000 * round + 20 * try_ + 20);
            if let Ok(received) = timeout(Duration::from_millis(100), central.recv()).await {
                message = Some(received.expect("a message"));
                break;
            }
        }
        let message = message.expect("an event in this round");
        assert_eq!(message.get(0).map(|frame| &frame[..]), Some(topic.as_bytes()));
        central.close().await;
        central = SubSocket::new();
        central.bind(&endpoint).await.expect("binds again");
        central.subscribe("").await.expect("subscribes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rank_has_its_own_ports_and_cache() {
    let pod = Pod::start(PodConfig { data_parallel: 2, ..config() }).expect("a pod starts");
    let port = |address: &String| address.rsplit_once(':').expect("a port").1.parse::<u16>().expect("a port");
    assert_eq!(port(&pod.events[1]), port(&pod.events[0]) + 1);
    assert_eq!(port(&pod.replay[1]), port(&pod.replay[0]) + 1);
    let body = json!({"prompt": (0..40).collect::<Vec<u32>>(), "max_tokens": 1}).to_string();
    let ask = |rank: &str| {
        let head = format!("x-data-parallel-rank: {rank}\r\n");
        let (_, _, answer) = http(&pod.listen, "POST", "/v1/completions", &head, &body).expect("an answer");
        cached(&serde_json::from_str(&answer).expect("JSON"))
    };
    assert_eq!((ask("1"), ask("0"), ask("1")), (0, 0, 32));
}
