//! A whole pod over its sockets: HTTP as a client sees it, events and replay as the sidecar does.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rmpv::Value as Msgpack;
use serde_json::{Value, json};
use tokio::time::timeout;
use warmpath_simulator::driver::Pace;
use warmpath_simulator::model::{ModelConfig, PodModel};
use warmpath_simulator::pod::End;
use warmpath_simulator::publisher::EventsAt;
use warmpath_simulator::wire::Layout;
use warmpath_simulator::{Pod, PodConfig, PodHandle};
use zeromq::{DealerSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

const LIMIT: Duration = Duration::from_secs(20);
const BLOCK: usize = 16;

fn model() -> Arc<PodModel> {
    static MODEL: OnceLock<Arc<PodModel>> = OnceLock::new();
    let load = || {
        let asset = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../demo/assets").join(name);
        Arc::new(
            PodModel::load(ModelConfig {
                name: "demo".to_owned(),
                tokenizer: asset("tokenizer.json"),
                tokenizer_config: Some(asset("tokenizer_config.json")),
                chat_template: Some(asset("chat_template.jinja")),
                lora_adapters: vec!["adapter".to_owned()],
                max_model_len: 4096,
            })
            .expect("the demo's assets load"),
        )
    };
    MODEL.get_or_init(load).clone()
}

fn config() -> PodConfig {
    PodConfig { pace: Pace::Instant, block_size: BLOCK, gpu_blocks: 512, ..PodConfig::new(model()) }
}

fn start() -> PodHandle {
    Pod::start(config()).expect("a pod starts on free ports")
}

/// Status, head and body of an answer; an error when the connection is cut.
fn http(
    pod: &str,
    method: &str,
    path: &str,
    head: &str,
    body: &str,
) -> std::io::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect(pod)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n{head}content-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    Ok((status, head.to_owned(), body.to_owned()))
}

fn post(pod: &PodHandle, path: &str, body: &Value) -> (u16, Value) {
    let (status, _, body) = http(&pod.listen, "POST", path, "", &body.to_string()).expect("an answer");
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

fn complete(pod: &PodHandle, tokens: std::ops::Range<u32>) -> Value {
    let prompt: Vec<u32> = tokens.collect();
    let (status, answer) = post(pod, "/v1/completions", &json!({"prompt": prompt, "max_tokens": 1}));
    assert_eq!(status, 200, "{answer}");
    answer
}

fn switch(pod: &PodHandle, path: &str) {
    let (status, _, body) = http(&pod.listen, "POST", path, "", "").expect("an answer");
    assert_eq!(status, 200, "{body}");
}

fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("cached_tokens")
}

/// Subscribes and waits until events arrive, by making some.
async fn subscribe(pod: &PodHandle) -> (SubSocket, u64) {
    let mut socket = SubSocket::new();
    socket.connect(&format!("tcp://{}", pod.events[0])).await.expect("connects");
    socket.subscribe("").await.expect("subscribes");
    for try_ in 0..100 {
        complete(pod, 1000 + 20 * try_..1020 + 20 * try_);
        let mut last = None;
        // On a slow machine the events of earlier tries are still on their way.
        while let Ok(message) = timeout(Duration::from_millis(100), socket.recv()).await {
            last = Some(sequence(&message.expect("a message")));
        }
        if let Some(last) = last {
            return (socket, last);
        }
    }
    panic!("no event arrives");
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

#[test]
fn answers_have_vllms_shape_and_say_what_was_cached() {
    let pod = start();
    assert_eq!(cached(&complete(&pod, 0..40)), 0);
    let again = complete(&pod, 0..40);
    assert_eq!(cached(&again), 32);
    assert_eq!(again["object"], "text_completion");
    assert_eq!(again["choices"][0]["finish_reason"], "length");
    let messages = json!([{"role": "user", "content": "Where do the birds go in winter?"}]);
    let chat = json!({"model": "demo", "messages": messages, "max_completion_tokens": 5});
    let (status, answer) = post(&pod, "/v1/chat/completions", &chat);
    assert_eq!((status, &answer["usage"]["completion_tokens"]), (200, &json!(5)));
    assert!(!answer["choices"][0]["message"]["content"].as_str().expect("text").is_empty());
    let several = json!({"prompt": ["one", "two", [1, 2, 3]], "max_tokens": 2});
    let (_, answer) = post(&pod, "/v1/completions", &several);
    assert_eq!(answer["choices"].as_array().map(Vec::len), Some(3));
    let (_, head, _) = http(&pod.listen, "GET", "/health", "", "").expect("an answer");
    assert!(head.contains(&format!("x-pod: {}", pod.listen)), "{head}");
}

#[test]
fn an_answer_sent_back_is_found_in_the_cache() {
    let pod = start();
    let prompt = "Tell me about the sea, the wind and the people who live by it, as long as you can.";
    let (_, answer) = post(&pod, "/v1/completions", &json!({"prompt": prompt, "max_tokens": 80}));
    let text = answer["choices"][0]["text"].as_str().expect("text");
    let before = answer["usage"]["prompt_tokens"].as_u64().expect("prompt_tokens");
    let (_, answer) =
        post(&pod, "/v1/completions", &json!({"prompt": format!("{prompt}{text}"), "max_tokens": 1}));
    assert_eq!(answer["usage"]["prompt_tokens"], before + 80);
    // All but the token generated last was computed; only full blocks count.
    assert_eq!(cached(&answer), (before + 79) / BLOCK as u64 * BLOCK as u64);
}

#[test]
fn streams_end_with_usage_and_done() {
    let pod = start();
    let body = json!({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 3, "stream": true,
        "stream_options": {"include_usage": true}});
    let (status, head, text) =
        http(&pod.listen, "POST", "/v1/chat/completions", "", &body.to_string()).expect("an answer");
    assert_eq!(status, 200);
    assert!(head.contains("text/event-stream"), "{head}");
    let data: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    // The role, three tokens, usage, the end.
    assert_eq!(data.len(), 6, "{text}");
    let usage: Value = serde_json::from_str(data[4]).expect("JSON");
    assert_eq!(usage["usage"]["completion_tokens"], 3);
    assert_eq!(data[5], "[DONE]");
}

#[test]
fn bad_bodies_get_vllms_errors_and_unknown_features_an_answer() {
    let pod = start();
    let raw = |body: &str| http(&pod.listen, "POST", "/v1/completions", "", body).expect("an answer").0;
    assert_eq!(raw("{\"prompt\""), 400);
    assert_eq!(raw("[]"), 400);
    assert_eq!(raw("{\"prompt\": 5}"), 400);
    assert_eq!(raw("{\"prompt\": \"\"}"), 400);
    assert_eq!(raw("{\"prompt\": \"x\", \"max_tokens\": 0}"), 400);
    assert_eq!(raw("{\"prompt\": \"x\", \"max_tokens\": 4096}"), 400);
    assert_eq!(raw("{\"prompt\": \"x\", \"model\": \"other\"}"), 404);
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let body = json!({"messages": image, "tools": tools, "max_tokens": 2});
    assert_eq!(post(&pod, "/v1/chat/completions", &body).0, 200);
    let large = json!({"prompt": "word ".repeat(1_000_000)});
    assert_eq!(post(&pod, "/v1/completions", &large).0, 400);
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

#[test]
fn a_hanging_pod_answers_when_it_is_released() {
    let pod = start();
    switch(&pod, "/sim/hang");
    let mut stream = TcpStream::connect(&pod.listen).expect("connects");
    stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    write!(stream, "GET /health HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n").expect("writes");
    assert!(stream.read(&mut [0; 16]).is_err(), "it answers while it hangs");
    switch(&pod, "/sim/release");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pod_cuts_its_streams_and_frees_its_ports() {
    let slow = PodConfig { pace: Pace::Scale(1.0), ..config() };
    let pod = Pod::start(slow.clone()).expect("a pod starts");
    let listen = pod.listen.clone();
    let streaming = std::thread::spawn({
        let listen = listen.clone();
        move || {
            let body = json!({"prompt": "x", "max_tokens": 4000, "stream": true}).to_string();
            http(&listen, "POST", "/v1/completions", "", &body).map(|(_, _, text)| text.contains("[DONE]"))
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _ = http(&listen, "POST", "/sim/kill", "", "");
    assert_eq!(timeout(LIMIT, pod.ended()).await.expect("in time"), End::Killed);
    let cut = streaming.join().expect("no panic");
    assert!(!matches!(cut, Ok(true)), "the stream came to its end");
    let events = pod.events[0].clone();
    pod.kill();
    assert!(TcpStream::connect(&listen).is_err());
    let again = PodConfig { listen, events: Some(EventsAt::Bind(events)), ..slow };
    Pod::start(again).expect("the ports are free").shutdown();
}

#[test]
fn metrics_have_vllms_names_and_count_tokens() {
    let pod = start();
    complete(&pod, 0..40);
    complete(&pod, 0..40);
    let (_, _, text) = http(&pod.listen, "GET", "/metrics", "", "").expect("an answer");
    for line in [
        "vllm:num_requests_running{engine=\"0\",model_name=\"demo\"} 0.0",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"demo\"} 0.0",
        "vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"demo\"} 80.0",
        "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"demo\"} 32.0",
        "vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"demo\"} 2.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing from\n{text}");
    }
    assert!(text.contains("vllm:cache_config_info{block_size=\"16\""), "{text}");
}
