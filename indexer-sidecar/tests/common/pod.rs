//! A publisher on real ZMQ sockets: PUB, and a replay ROUTER in either framing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::task::JoinHandle;
use zeromq::{PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

/// Frames of replay replies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// `["", seq, payload]`: vLLM up to 0.25.
    Bare,
    /// `["", topic, seq, payload]`: since 0.26.
    Topic,
}

/// What the replay socket gives.
#[derive(Default)]
pub(crate) struct Buffer {
    pub(crate) batches: Vec<(u64, Bytes)>,
    /// Left out of the next replay only, as by a full send queue.
    pub(crate) left_out: BTreeSet<u64>,
    /// First sequence number of each request.
    pub(crate) asked: Vec<u64>,
}

pub(crate) struct Pod {
    publisher: PubSocket,
    replay: JoinHandle<()>,
    pub(crate) events: String,
    pub(crate) replays: String,
    pub(crate) buffer: Arc<Mutex<Buffer>>,
}

impl Pod {
    pub(crate) async fn start(framing: Framing) -> Self {
        Self::start_at("127.0.0.1:0", "127.0.0.1:0", framing, Arc::default()).await
    }

    /// In place of an earlier pod, at its addresses.
    pub(crate) async fn start_at(
        events: &str,
        replays: &str,
        framing: Framing,
        buffer: Arc<Mutex<Buffer>>,
    ) -> Self {
        let mut publisher = PubSocket::new();
        let events = address(publisher.bind(&format!("tcp://{events}")).await.unwrap());
        let mut router = RouterSocket::new();
        let replays = address(router.bind(&format!("tcp://{replays}")).await.unwrap());
        let replay = tokio::spawn(serve(router, framing, Arc::clone(&buffer)));
        Self { publisher, replay, events, replays, buffer }
    }

    /// Keeps a batch for replays, without sending it.
    pub(crate) fn keep(&self, seq: u64, payload: &[u8]) {
        self.buffer.lock().unwrap().batches.push((seq, Bytes::copy_from_slice(payload)));
    }

    /// Sends a batch to subscribers, without keeping it.
    pub(crate) async fn send(&mut self, seq: u64, payload: &[u8]) {
        self.publisher.send(message(&[b"topic", &seq.to_be_bytes(), payload])).await.unwrap();
    }

    pub(crate) async fn publish(&mut self, seq: u64, payload: &[u8]) {
        self.send(seq, payload).await;
        self.keep(seq, payload);
    }

    /// Closes both sockets.
    pub(crate) async fn stop(self) -> Arc<Mutex<Buffer>> {
        self.replay.abort();
        let _ = self.replay.await;
        self.publisher.close().await;
        self.buffer
    }
}

fn address(endpoint: zeromq::Endpoint) -> String {
    endpoint.to_string().trim_start_matches("tcp://").to_owned()
}

pub(crate) fn message(frames: &[&[u8]]) -> ZmqMessage {
    let frames: Vec<Bytes> = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
    ZmqMessage::try_from(frames).unwrap()
}

async fn serve(mut router: RouterSocket, framing: Framing, buffer: Arc<Mutex<Buffer>>) {
    while let Ok(request) = router.recv().await {
        let frames = request.into_vec();
        assert!(frames.len() == 3 && frames[1].is_empty(), "not [identity, \"\", seq]: {frames:?}");
        let from = u64::from_be_bytes(frames[2].as_ref().try_into().unwrap());
        let mut replies: Vec<(u64, Bytes)> = {
            let mut buffer = buffer.lock().unwrap();
            buffer.asked.push(from);
            let left_out = std::mem::take(&mut buffer.left_out);
            let batches = buffer.batches.iter();
            batches.filter(|(seq, _)| *seq >= from && !left_out.contains(seq)).cloned().collect()
        };
        replies.push((u64::MAX, Bytes::new()));
        for (seq, payload) in replies {
            let seq = seq.to_be_bytes();
            let end = payload.is_empty();
            let topic: &[u8] = if end { b"" } else { b"topic" };
            let reply = match framing {
                Framing::Bare => message(&[&frames[0], b"", &seq, &payload]),
                Framing::Topic => message(&[&frames[0], b"", topic, &seq, &payload]),
            };
            if router.send(reply).await.is_err() {
                break;
            }
        }
    }
}
