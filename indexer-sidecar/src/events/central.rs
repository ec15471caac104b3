//! One socket of ours that publishers connect to, for pods that cannot be reached.
//!
//! Here a message says who sent it only by its topic, so the operator's map from topic to endpoint decides, and the
//! endpoint must be one that discovery knows. A stream is tied to the connection that brought its last message: when
//! that ends, or another one brings the next, what it told is void. There is no replay.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use log::{error, warn};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::decode::decode;
use super::follower::Follower;
use super::frames::{Frame, Reply, parse};
use super::zmtp::{Connection, Kind, keep_alive};
use super::{Inputs, Wanted, jitter};
use crate::index::StreamId;

/// Wait before the next attempt to bind, half of it random.
const BIND_RETRY: Duration = Duration::from_secs(2);
/// Longest time for a publisher to greet.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// Connections at a time: twice the endpoints that one index serves, so that every pod can be replaced at once.
const CONNECTIONS_MAX: usize = 8192;
/// Messages between the connections and the index; when full, connections are not read.
const QUEUE: usize = 1024;

/// The central socket.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CentralConfig {
    /// Where to listen, such as `tcp://0.0.0.0:5559`.
    pub bind: String,
    /// Topic -> the address ("ip:port") of the endpoint that publishes under it.
    pub topics: BTreeMap<String, String>,
}

impl CentralConfig {
    /// Whether an endpoint's events come over this socket.
    pub(super) fn covers(&self, address: &str) -> bool {
        self.topics.values().any(|endpoint| endpoint == address)
    }
}

/// Name of one connection.
type Peer = u64;

/// What a connection tells.
enum Told {
    Message(Vec<Bytes>),
    Gone,
}

/// A stream and the connection that brought its last message.
struct Publisher {
    wanted: Wanted,
    follower: Follower,
    peer: Option<Peer>,
}

/// Publishers that connect to us.
struct Central {
    config: CentralConfig,
    inputs: Inputs,
    publishers: BTreeMap<StreamId, Publisher>,
}

/// Serves the central socket until the future is dropped.
pub(super) async fn serve(config: CentralConfig, inputs: Inputs) {
    let mut central = Central { config, inputs, publishers: BTreeMap::new() };
    loop {
        let bind = central.config.bind.clone();
        let (sender, receiver) = mpsc::channel(QUEUE);
        central.reconcile();
        tokio::select! {
            why = listen(&bind, sender) => error!("central socket {bind}: {why}"),
            () = central.take_all(receiver) => {}
        }
        central.publishers.clear();
        sleep(jitter(BIND_RETRY)).await;
    }
}

/// Accepts publishers until that fails.
async fn listen(url: &str, told: mpsc::Sender<(Peer, Told)>) -> io::Error {
    let mut connections = JoinSet::new();
    let mut next = 0;
    let result = async {
        if let Some(path) = url.strip_prefix("ipc://") {
            // Left behind by an earlier run; bind says so if it is in use.
            let _ = std::fs::remove_file(path);
            let listener = UnixListener::bind(path)?;
            loop {
                let (stream, _) = listener.accept().await?;
                admit(&mut connections, &mut next, stream, &told);
            }
        }
        let listener = TcpListener::bind(url.trim_start_matches("tcp://").replace('*', "0.0.0.0")).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let _ = stream.set_nodelay(true).and_then(|()| keep_alive(&stream));
            admit(&mut connections, &mut next, stream, &told);
        }
    };
    let result: io::Result<()> = result.await;
    result.err().unwrap_or_else(|| io::ErrorKind::Other.into())
}

fn admit<S>(connections: &mut JoinSet<()>, next: &mut Peer, stream: S, told: &mpsc::Sender<(Peer, Told)>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    while connections.try_join_next().is_some() {}
    if connections.len() >= CONNECTIONS_MAX {
        warn!("central socket: more than {CONNECTIONS_MAX} connections, one refused");
        return;
    }
    *next += 1;
    connections.spawn(read(*next, stream, told.clone()));
}

/// Reads one connection to its end.
async fn read<S: AsyncRead + AsyncWrite + Unpin>(peer: Peer, stream: S, told: mpsc::Sender<(Peer, Told)>) {
    let mut connection = match timeout(GREETING_MAX, Connection::handshake(stream, Kind::Sub)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return warn!("central socket: {error}"),
        Err(_) => return warn!("central socket: no greeting within {GREETING_MAX:?}"),
    };
    let why = loop {
        match connection.receive().await {
            Ok(message) => {
                if told.send((peer, Told::Message(message))).await.is_err() {
                    return;
                }
            }
            Err(error) => break error,
        }
    };
    warn!("central socket: connection ended: {why}");
    let _ = told.send((peer, Told::Gone)).await;
}

impl Central {
    async fn take_all(&mut self, mut told: mpsc::Receiver<(Peer, Told)>) {
        loop {
            tokio::select! {
                told = told.recv() => match told {
                    Some((peer, Told::Message(message))) => self.take(peer, message),
                    Some((peer, Told::Gone)) => self.lose(peer),
                    None => return,
                },
                () = self.inputs.changed() => self.reconcile(),
            }
        }
    }

    /// Opens and closes streams so that they are those of the mapped endpoints.
    fn reconcile(&mut self) {
        let mut wanted = self.inputs.wanted(|address| self.config.covers(address));
        self.publishers.retain(|id, have| wanted.get(id) == Some(&have.wanted));
        wanted.retain(|id, _| !self.publishers.contains_key(id));
        for (id, wanted) in wanted {
            let follower = self.inputs.open(id.clone(), wanted.rules, false);
            // Its connection is not ours to make; only the endpoints file can say it.
            self.inputs.index.set_capacity(&id, wanted.source.num_gpu_blocks);
            self.publishers.insert(id, Publisher { wanted, follower, peer: None });
        }
    }

    fn take(&mut self, peer: Peer, message: Vec<Bytes>) {
        let now = self.inputs.index.now();
        let frame = match parse(message) {
            Ok(Reply::Batch(frame)) => frame,
            Ok(Reply::End) => return,
            Err(error) => {
                warn!("central socket: message lost: {error}");
                self.inputs.metrics.unreadable.inc();
                return;
            }
        };
        match self.publisher(&frame) {
            Some(publisher) => {
                if publisher.peer != Some(peer) {
                    publisher.follower.disconnected(now);
                    publisher.follower.connected(now);
                    publisher.peer = Some(peer);
                }
                publisher.follower.live(frame, now);
                while publisher.follower.next_action().is_some() {}
            }
            None => {
                self.inputs.metrics.unmapped.inc();
            }
        }
    }

    /// The publisher by topic and, because all ranks of an endpoint share one, by the batch's own rank.
    fn publisher(&mut self, frame: &Frame) -> Option<&mut Publisher> {
        let address = self.config.topics.get(std::str::from_utf8(&frame.topic).ok()?)?;
        let rank = decode(&frame.payload).ok().and_then(|batch| batch.rank).unwrap_or(0);
        let mut publishers = self.publishers.iter_mut();
        let found = publishers.find(|(id, _)| *id.address == **address && id.rank == rank);
        found.map(|(_, publisher)| publisher)
    }

    /// A connection has ended.
    fn lose(&mut self, peer: Peer) {
        let now = self.inputs.index.now();
        for publisher in self.publishers.values_mut().filter(|publisher| publisher.peer == Some(peer)) {
            publisher.peer = None;
            publisher.follower.disconnected(now);
            while publisher.follower.next_action().is_some() {}
        }
    }
}
