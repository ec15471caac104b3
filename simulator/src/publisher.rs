//! KV events over ZMQ, in vLLM's framing: a PUB socket with `[topic, sequence, payload]` and a ROUTER socket that
//! replays batches out of a buffer. One publisher per data-parallel rank.
//!
//! Source: `vllm/distributed/kv_events.py` (`ZmqEventPublisher`).

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc::Receiver as MonitorReceiver;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use zeromq::{
    PubSocket, RouterSocket, Socket, SocketEvent, SocketOptions, SocketRecv, SocketSend, ZmqMessage,
    ZmqResult,
};

use crate::engine::Event;
use crate::wire::Translator;

/// Batches between engine and publisher; when full, the engine waits, as vLLM's scheduler does.
const QUEUE: usize = 1024;
/// How long one attempt to connect may take, and the pause after a failed one.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const CONNECT_PAUSE: Duration = Duration::from_millis(200);
/// The sequence number of the message that ends a replay: -1 as vLLM writes it.
const END_OF_REPLAY: [u8; 8] = [0xff; 8];

/// Where a publisher's PUB socket stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EventsAt {
    /// It binds `host:port`; subscribers connect.
    Bind(String),
    /// It connects to a central `tcp://host:port`, again and again.
    Connect(String),
}

/// What a publisher needs to know.
#[derive(Clone, Debug)]
pub struct PublisherConfig {
    /// The PUB socket.
    pub events: EventsAt,
    /// `host:port` of the ROUTER socket, if there is one.
    pub replay: Option<String>,
    /// The topic frame.
    pub topic: String,
    /// Batches kept for replay (vLLM's `buffer_steps`).
    pub buffer: usize,
    /// Data-parallel rank.
    pub rank: u32,
    /// Layout and hash form.
    pub translator: Translator,
}

/// What the publisher is told.
#[derive(Debug)]
enum Order {
    Batch(Vec<Event>),
    Drop { batches: u64, keep_for_replay: bool },
    Pause(bool),
    Close(oneshot::Sender<()>),
}

/// A running publisher.
#[derive(Clone, Debug)]
pub struct Publisher {
    orders: mpsc::Sender<Order>,
    /// Where PUB was bound (or connects to).
    pub events: String,
    /// Where ROUTER was bound.
    pub replay: Option<String>,
}

impl Publisher {
    /// Opens the sockets and starts the task that serves them. Errors name the endpoint.
    pub async fn start(config: PublisherConfig) -> anyhow::Result<Self> {
        let (orders, receiver) = mpsc::channel(QUEUE);
        let mut options = SocketOptions::default();
        options.connect_timeout(CONNECT_TIMEOUT);
        let mut publish = PubSocket::with_options(options);
        let monitor = publish.monitor();
        let events = match &config.events {
            EventsAt::Bind(address) => bind(&mut publish, address).await?,
            EventsAt::Connect(endpoint) => endpoint.clone(),
        };
        let (router, replay) = match &config.replay {
            None => (None, None),
            Some(address) => {
                let mut router = RouterSocket::new();
                let bound = bind(&mut router, address).await?;
                (Some(router), Some(bound))
            }
        };
        let task = Task {
            reconnect_at: matches!(config.events, EventsAt::Connect(_)).then(Instant::now),
            config,
            publish,
            monitor,
            router,
            sequence: 0,
            buffer: VecDeque::new(),
            drop_next: 0,
            keep_dropped: true,
            paused: None,
        };
        tokio::spawn(task.run(receiver));
        Ok(Self { orders, events, replay })
    }

    /// Publishes a batch; waits while the queue is full.
    pub async fn publish(&self, events: Vec<Event>) {
        self.order(Order::Batch(events)).await;
    }

    /// Lets the next batches take their sequence numbers and go nowhere; with `keep_for_replay` false a replay misses
    /// them as well.
    pub async fn drop_next(&self, batches: u64, keep_for_replay: bool) {
        self.order(Order::Drop { batches, keep_for_replay }).await;
    }

    /// Holds batches back, or lets the held ones and all later ones go.
    pub async fn pause(&self, paused: bool) {
        self.order(Order::Pause(paused)).await;
    }

    /// Closes the sockets and waits until their ports are free again.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        self.order(Order::Close(done)).await;
        let _ = closed.await;
    }

    async fn order(&self, order: Order) {
        // Fails only when the publisher is closed already: then there is nobody to tell.
        let _ = self.orders.send(order).await;
    }
}

async fn bind(socket: &mut impl Socket, address: &str) -> anyhow::Result<String> {
    let endpoint = socket
        .bind(&format!("tcp://{address}"))
        .await
        .map_err(|error| anyhow::anyhow!("cannot bind tcp://{address}: {error}"))?;
    Ok(endpoint.to_string().trim_start_matches("tcp://").to_owned())
}

struct Task {
    config: PublisherConfig,
    publish: PubSocket,
    monitor: MonitorReceiver<SocketEvent>,
    router: Option<RouterSocket>,
    sequence: u64,
    buffer: VecDeque<(u64, Bytes)>,
    drop_next: u64,
    keep_dropped: bool,
    /// Batches held back, while paused; at most `config.buffer`, the oldest are lost first.
    paused: Option<VecDeque<Vec<Event>>>,
    reconnect_at: Option<Instant>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Close(done)) => {
                        self.close().await;
                        let _ = done.send(());
                        return;
                    }
                    Some(order) => self.follow(order).await,
                    None => return self.close().await,
                },
                request = receive(&mut self.router) => self.replay(request).await,
                event = self.monitor.next() => self.note(event),
                () = due(self.reconnect_at) => self.connect().await,
            }
        }
    }

    async fn follow(&mut self, order: Order) {
        match order {
            Order::Batch(events) => match &mut self.paused {
                Some(held) => {
                    held.push_back(events);
                    if held.len() > self.config.buffer {
                        held.pop_front();
                    }
                }
                None => self.send(events).await,
            },
            Order::Drop { batches, keep_for_replay } => {
                (self.drop_next, self.keep_dropped) = (batches, keep_for_replay);
            }
            Order::Pause(true) => {
                self.paused.get_or_insert_default();
            }
            Order::Pause(false) => {
                for events in self.paused.take().unwrap_or_default() {
                    self.send(events).await;
                }
            }
            Order::Close(_) => unreachable!("handled by run"),
        }
    }

    async fn send(&mut self, events: Vec<Event>) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let payload = Bytes::from(self.config.translator.payload(time, &events, Some(self.config.rank)));
        let sequence = self.sequence;
        self.sequence += 1;
        let dropped = self.drop_next > 0;
        self.drop_next = self.drop_next.saturating_sub(1);
        if !dropped || self.keep_dropped {
            self.buffer.push_back((sequence, payload.clone()));
            if self.buffer.len() > self.config.buffer {
                self.buffer.pop_front();
            }
        }
        if !dropped {
            let mut message = ZmqMessage::from(Bytes::from(self.config.topic.clone()));
            message.push_back(Bytes::copy_from_slice(&sequence.to_be_bytes()));
            message.push_back(payload);
            // PUB drops what it cannot send; subscribers see the gap.
            let _ = self.publish.send(message).await;
        }
    }

    /// Answers `[identity, "", start]` with every batch kept from `start` on and the end marker. Anything else is not
    /// answered.
    async fn replay(&mut self, request: ZmqResult<ZmqMessage>) {
        let Ok(request) = request else { return };
        let frames = request.into_vec();
        let [identity, delimiter, start] = &frames[..] else { return };
        let Ok(start) = <[u8; 8]>::try_from(&start[..]) else { return };
        if !delimiter.is_empty() {
            return;
        }
        let start = u64::from_be_bytes(start);
        let Some(router) = &mut self.router else { return };
        let end = (Bytes::new(), Bytes::copy_from_slice(&END_OF_REPLAY), Bytes::new());
        let batches =
            self.buffer.iter().filter(|(sequence, _)| *sequence >= start).map(|(sequence, payload)| {
                let topic = Bytes::from(self.config.topic.clone());
                (topic, Bytes::copy_from_slice(&sequence.to_be_bytes()), payload.clone())
            });
        for (topic, sequence, payload) in batches.chain([end]) {
            let mut message = ZmqMessage::from(identity.clone());
            message.push_back(Bytes::new());
            if self.config.translator.layout.replay_topic {
                message.push_back(topic);
            }
            message.push_back(sequence);
            message.push_back(payload);
            if router.send(message).await.is_err() {
                return;
            }
        }
    }

    fn note(&mut self, event: Option<SocketEvent>) {
        let connects = matches!(self.config.events, EventsAt::Connect(_));
        if connects && matches!(event, Some(SocketEvent::Disconnected(_))) {
            self.reconnect_at = Some(Instant::now());
        }
    }

    async fn connect(&mut self) {
        let EventsAt::Connect(endpoint) = &self.config.events else { return };
        let connected = self.publish.connect(endpoint).await;
        self.reconnect_at = connected.is_err().then(|| Instant::now() + CONNECT_PAUSE);
    }

    async fn close(&mut self) {
        self.publish.unbind_all().await;
        if let Some(router) = &mut self.router {
            router.unbind_all().await;
        }
    }
}

async fn receive(router: &mut Option<RouterSocket>) -> ZmqResult<ZmqMessage> {
    match router {
        Some(router) => router.recv().await,
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
