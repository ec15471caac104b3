//! One socket of ours that publishers connect to, for pods that cannot be reached.
//!
//! Here a message says who sent it only by its topic, so the operator's map from topic to endpoint decides, and the
//! endpoint must be one that discovery knows. There is no replay: after a gap, a restart or a disconnect the
//! publisher's blocks are dropped.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::Receiver;
use log::{error, warn};
use serde::Deserialize;
use tokio::time::sleep;
use zeromq::{Endpoint as ZmqEndpoint, Host, Socket, SocketEvent, SocketRecv, SubSocket, ZmqMessage};

use super::decode::decode;
use super::frames::{Frame, Reply, parse};
use super::order::Verdict;
use super::publisher::{Loss, Publisher};
use super::{Inputs, Wanted, jitter};
use crate::index::StreamId;

/// Wait before the next attempt to bind, half of it random.
const BIND_RETRY: Duration = Duration::from_secs(2);

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

/// Publishers that connect to us.
struct Central {
    config: CentralConfig,
    inputs: Inputs,
    publishers: BTreeMap<StreamId, (Wanted, Publisher)>,
    /// Address of each connection by ZMQ's identity for it.
    peers: HashMap<Vec<u8>, IpAddr>,
}

/// Serves the central socket until the future is dropped.
pub(super) async fn serve(config: CentralConfig, inputs: Inputs) {
    let mut central = Central { config, inputs, publishers: BTreeMap::new(), peers: HashMap::new() };
    loop {
        match bind(&central.config.bind).await {
            Ok((socket, monitor)) => central.listen(socket, monitor).await,
            Err(why) => error!("central socket {}: {why}", central.config.bind),
        }
        central.publishers.clear();
        central.peers.clear();
        sleep(jitter(BIND_RETRY)).await;
    }
}

async fn bind(url: &str) -> zeromq::ZmqResult<(SubSocket, Receiver<SocketEvent>)> {
    let mut socket = SubSocket::new();
    let monitor = socket.monitor();
    socket.subscribe("").await?;
    socket.bind(url).await?;
    Ok((socket, monitor))
}

impl Central {
    async fn listen(&mut self, mut socket: SubSocket, mut monitor: Receiver<SocketEvent>) {
        self.reconcile();
        loop {
            tokio::select! {
                biased;
                message = socket.recv() => match message {
                    Ok(message) => self.take(message),
                    // One connection's; the monitor says which.
                    Err(error) => warn!("central socket: {error}"),
                },
                event = monitor.next() => match event {
                    Some(event) => self.note(event),
                    None => return,
                },
                () = self.inputs.changed() => self.reconcile(),
            }
        }
    }

    /// Opens and closes streams so that they are those of the mapped endpoints.
    fn reconcile(&mut self) {
        let mut wanted = self.inputs.wanted(|address| self.config.covers(address));
        self.publishers.retain(|id, (have, _)| wanted.get(id) == Some(have));
        wanted.retain(|id, _| !self.publishers.contains_key(id));
        for (id, wanted) in wanted {
            let publisher = self.inputs.open(id.clone(), wanted.rules);
            self.publishers.insert(id, (wanted, publisher));
        }
    }

    fn take(&mut self, message: ZmqMessage) {
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
                if matches!(publisher.order.judge(frame.seq), Verdict::Gap { .. }) {
                    publisher.metrics.gaps.inc();
                    publisher.forget(Loss::Gap);
                } else if publisher.order.place(frame.seq) != Verdict::Apply {
                    // Nothing is replayed here, so a number that was seen is a restart.
                    publisher.forget(Loss::Restart);
                }
                publisher.apply(frame);
                publisher.set_live(true);
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
        found.map(|(_, (_, publisher))| publisher)
    }

    fn note(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Accepted(ZmqEndpoint::Tcp(host, _), peer) => {
                let ip = match host {
                    Host::Ipv4(ip) => IpAddr::V4(ip),
                    Host::Ipv6(ip) => IpAddr::V6(ip),
                    Host::Domain(_) => return,
                };
                self.peers.insert(peer.to_vec(), ip);
            }
            SocketEvent::Disconnected(peer) => {
                self.inputs.metrics.disconnects.inc();
                let ip = self.peers.remove(peer.as_ref() as &[u8]);
                self.lose_peer(ip);
            }
            _ => {}
        }
    }

    /// Drops the blocks of the endpoint at the address of a connection that ended; of all, if there is none such:
    /// then addresses are translated on the way, and nothing tells whose connection it was.
    fn lose_peer(&mut self, ip: Option<IpAddr>) {
        let at = |id: &StreamId| {
            ip.is_some()
                && id
                    .address
                    .rsplit_once(':')
                    .and_then(|(host, _)| host.trim_matches(['[', ']']).parse::<IpAddr>().ok())
                    == ip
        };
        let known = self.publishers.keys().any(at);
        for (id, (_, publisher)) in &mut self.publishers {
            if at(id) || !known {
                publisher.forget(Loss::Disconnect);
                publisher.order.connected();
                publisher.set_live(false);
            }
        }
    }
}
