//! Peers that mean harm, or are no engines: frames of impossible lengths, and `/metrics` of every kind.

use std::sync::Arc;

use indexer_sidecar::endpoints::{Endpoint, RankSource};
use indexer_sidecar::events::metrics::Reason as Label;
use indexer_sidecar::events::zmtp::{Connection, Kind, ZmtpError};
use indexer_sidecar::events::{self, EventMetrics};
use indexer_sidecar::index::{KeyRules, SharedIndex};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warmpath_core::definition::SaltRule;

/// Greets as a PUB socket of ZMTP 3.0 does.
async fn greet(peer: &mut DuplexStream) {
    let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0];
    greeting.extend(b"NULL");
    greeting.resize(64, 0);
    peer.write_all(&greeting).await.unwrap();
    let ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB";
    peer.write_all(&[&[4, ready.len() as u8], &ready[..]].concat()).await.unwrap();
}

/// What a subscriber makes of a peer that sends this after its greeting and then nothing.
async fn receive(bytes: &[u8]) -> Result<usize, ZmtpError> {
    let (ours, mut theirs) = duplex(1 << 20);
    greet(&mut theirs).await;
    theirs.write_all(bytes).await.unwrap();
    let mut connection = Connection::handshake(ours, Kind::Sub).await?;
    // Without the body, the peer still there: only the length can have ended it.
    let message = connection.receive().await?;
    drop(theirs);
    Ok(message.len())
}

#[tokio::test]
async fn a_frame_of_a_hostile_length_ends_the_connection_before_its_body() {
    for length in [17 << 20, u64::from(u32::MAX), 1 << 62, u64::MAX] {
        let header = [&[2_u8][..], &length.to_be_bytes()].concat();
        let result = receive(&header).await;
        assert!(matches!(result, Err(ZmtpError::TooLarge(told)) if told == length), "{length}: {result:?}");
    }
}

#[tokio::test]
async fn a_message_of_endless_frames_ends_the_connection() {
    let more = [1_u8, 1, b'x'].repeat(100);
    assert!(matches!(receive(&more).await, Err(ZmtpError::TooLong)));
    assert_eq!(receive(&[1, 1, b't', 0, 1, b'p']).await.unwrap(), 2);
}

/// Serves one answer after the other, one per connection; returns its address.
async fn serve(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /metrics HTTP/1.1\r\n"));
            let _ = stream.write_all(&answer).await;
        }
    });
    address
}

fn answer(status: &str, text: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{text}", text.len()).into_bytes()
}

/// What the engine's memory is taken for, and how often each answer was counted: known, absent, failed.
async fn learnt(answers: Vec<Vec<u8>>, set: Option<u64>) -> (Option<u64>, [u64; 3]) {
    // A publisher that says nothing: the connection is all that is needed.
    let publisher = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let events = publisher.local_addr().unwrap().to_string();
    let silent = tokio::spawn(async move {
        let (mut stream, _) = publisher.accept().await.unwrap();
        let (mut ours, theirs) = duplex(1024);
        greet(&mut ours).await;
        drop(ours);
        let mut greeting = Vec::new();
        let mut theirs = theirs;
        theirs.read_to_end(&mut greeting).await.unwrap();
        stream.write_all(&greeting).await.unwrap();
        std::future::pending::<()>().await;
    });
    let metrics_address = serve(answers).await;
    let source =
        RankSource { events, num_gpu_blocks: set, metrics: Some(metrics_address), ..RankSource::default() };
    let endpoint = Endpoint { address: "10.0.0.1:8000".into(), model: "m".into(), ranks: vec![source] };
    let endpoints = watch::Sender::new(Arc::new(vec![endpoint]));
    let rules = KeyRules { seed: 1, salt: SaltRule::Keyed, block_tokens: 16 };
    let rules = watch::Sender::new(Arc::new([(Arc::from("m"), rules)].into()));
    let (index, metrics) = (Arc::new(SharedIndex::new(100)), Arc::new(EventMetrics::default()));
    let shutdown = CancellationToken::new();
    let run = events::run(
        endpoints.subscribe(),
        rules.subscribe(),
        None,
        Arc::clone(&index),
        Arc::clone(&metrics),
        shutdown.clone(),
    );
    let task = tokio::spawn(run);
    let asked = |answer| metrics.capacity_asks.get_or_create(&Label::of(answer)).get();
    let told = || index.streams().first().and_then(|report| report.num_gpu_blocks);
    for _ in 0..3000 {
        if told().is_some() || asked("absent") > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    shutdown.cancel();
    let result = (told(), ["known", "absent", "failed"].map(asked));
    task.await.unwrap();
    silent.abort();
    result
}

const TEXT: &str =
    "# HELP x y\nvllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"48\"} 1.0\n";

#[tokio::test]
async fn the_engine_is_asked_for_its_memory_until_it_answers() {
    assert_eq!(learnt(vec![answer("200 OK", TEXT)], None).await, (Some(48), [1, 0, 0]));
    let late = vec![b"".to_vec(), answer("503 Loading", ""), answer("200 OK", TEXT)];
    assert_eq!(learnt(late, None).await, (Some(48), [1, 0, 2]));
    assert_eq!(learnt(vec![answer("200 OK", "up 1\n")], None).await, (None, [0, 1, 0]));
}

#[tokio::test]
async fn what_the_operator_says_is_not_asked_for() {
    assert_eq!(learnt(vec![answer("200 OK", TEXT)], Some(7)).await, (Some(7), [0, 0, 0]));
}
