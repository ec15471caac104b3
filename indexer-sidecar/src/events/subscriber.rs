//! Follows one publisher: a SUB socket of its own, and a new one after each disconnect.
//!
//! What `zeromq` 0.7 does, and what we do about it: it reconnects by itself and only says so on the socket's monitor,
//! so we watch the monitor and throw the socket away, to know for sure that a connection ended. It retries a refused
//! connection without an end; our deadline stops it. It reads only when polled and keeps no queue of its own. It
//! reserves as much memory as a frame header claims before the frame is there: nothing at this level can bound that,
//! so a publisher that is hostile below MessagePack can end the sidecar. Traffic goes on then.

use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::Receiver;
use log::{info, warn};
use tokio::time::{sleep, timeout};
use zeromq::{Socket, SocketEvent, SocketRecv, SubSocket};

use super::frames::{Reply, parse};
use super::publisher::{Loss, Publisher};
use super::{jitter, repair};
use crate::endpoints::RankSource;

/// Longest time to connect, greeting included.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Between the subscription and the first replay: a publisher takes note of a subscription in its own time, and what
/// it publishes before that is only in the replay.
const SUBSCRIBE_SETTLE: Duration = Duration::from_millis(100);
/// Shortest and longest wait before the next connection, doubling, half of it random.
const RECONNECT_MIN: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// Follows a publisher until the future is dropped.
pub(super) async fn follow(mut publisher: Publisher, source: RankSource) {
    let mut wait = RECONNECT_MIN;
    loop {
        match connect(&source.events).await {
            Ok((socket, monitor)) => {
                let why = listen(&mut publisher, socket, monitor, source.replay.as_deref()).await;
                publisher.set_live(false);
                publisher.metrics.disconnects.inc();
                if source.replay.is_none() {
                    publisher.forget(Loss::Disconnect);
                }
                info!(endpoint = &*publisher.id.address, rank = publisher.id.rank; "event stream ended: {why}");
                wait = RECONNECT_MIN;
            }
            Err(error) => {
                warn!(endpoint = &*publisher.id.address, rank = publisher.id.rank; "{}: {error}", source.events);
            }
        }
        sleep(jitter(wait)).await;
        wait = (wait * 2).min(RECONNECT_MAX);
    }
}

async fn connect(address: &str) -> Result<(SubSocket, Receiver<SocketEvent>), String> {
    let mut socket = SubSocket::new();
    let monitor = socket.monitor();
    let connected = async {
        // Before the connection: subscriptions are sent as the first thing on it.
        socket.subscribe("").await?;
        socket.connect(&format!("tcp://{address}")).await
    };
    match timeout(CONNECT_MAX, connected).await {
        Ok(Ok(())) => Ok((socket, monitor)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {CONNECT_MAX:?}")),
    }
}

/// Takes messages until the connection ends; returns why it did.
async fn listen(
    publisher: &mut Publisher,
    mut socket: SubSocket,
    mut monitor: Receiver<SocketEvent>,
    replay: Option<&str>,
) -> String {
    publisher.order.connected();
    sleep(SUBSCRIBE_SETTLE).await;
    repair::resume(publisher, replay).await;
    publisher.set_live(true);
    loop {
        let message = tokio::select! {
            // What was sent before the end is read before the end is noticed.
            biased;
            message = socket.recv() => message,
            event = monitor.next() => match event {
                Some(SocketEvent::Disconnected(_)) | None => return "disconnected".to_owned(),
                Some(_) => continue,
            },
        };
        match message.map(parse) {
            Ok(Ok(Reply::Batch(frame))) => repair::take(publisher, frame, replay).await,
            Ok(Ok(Reply::End)) => {}
            Ok(Err(error)) => {
                warn!(endpoint = &*publisher.id.address, rank = publisher.id.rank; "message lost: {error}");
                publisher.unreadable();
            }
            Err(error) => return error.to_string(),
        }
    }
}
