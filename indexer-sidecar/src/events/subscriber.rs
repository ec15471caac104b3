//! Follows one publisher: one connection to its PUB socket, and one to its replay socket while something is missing.
//!
//! What happens is told to the [`Follower`], which decides; what it wants done is done here.

use std::time::Duration;

use log::{info, warn};
use tokio::time::{sleep, timeout};

use super::capacity;
use super::follower::{Action, Follower};
use super::frames::{Reply, parse};
use super::jitter;
use super::replay::{Replay, ReplayError};
use super::zmtp::{Connection, Kind, ZmtpError};
use crate::endpoints::RankSource;
use crate::index::SharedIndex;

/// Longest time to connect, greeting included.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Shortest and longest wait before the next connection, doubling, half of it random.
const RECONNECT_MIN: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// A connection that held this long was a good one: the next wait is the shortest again.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// Batches taken in a row before the timers get their turn.
const BATCHES_IN_A_ROW: usize = 256;

/// Follows a publisher until the future is dropped.
pub(super) async fn follow(mut follower: Follower, source: RankSource) {
    let mut wait = RECONNECT_MIN;
    loop {
        match connect(&source.events).await {
            Ok(connection) => {
                let since = tokio::time::Instant::now();
                let (id, index) = (follower.id().clone(), std::sync::Arc::clone(&follower.index));
                let capacity = capacity::learn(&source, id, index, std::sync::Arc::clone(&follower.metrics));
                let why = tokio::select! {
                    why = listen(&mut follower, connection, source.replay.as_deref()) => why,
                    never = capacity => match never {},
                };
                follower.disconnected(follower.index.now());
                while follower.next_action().is_some() {}
                let id = follower.id();
                info!(endpoint = &*id.address, rank = id.rank; "event stream ended: {why}");
                if since.elapsed() >= GOOD_AFTER {
                    wait = RECONNECT_MIN;
                }
            }
            Err(error) => {
                let id = follower.id();
                warn!(endpoint = &*id.address, rank = id.rank; "{}: {error}", source.events);
            }
        }
        sleep(jitter(wait)).await;
        wait = (wait * 2).min(RECONNECT_MAX);
    }
}

async fn connect(address: &str) -> Result<Connection, String> {
    match timeout(CONNECT_MAX, Connection::connect(address, Kind::Sub)).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no connection within {CONNECT_MAX:?}")),
    }
}

/// The replay of one stream.
enum Asking {
    No,
    Connecting(std::pin::Pin<Box<dyn Future<Output = Result<Replay, ReplayError>> + Send>>),
    Under(Replay),
}

impl Asking {
    /// The next reply; never, while nothing is asked for. Nothing is lost when the future is dropped.
    async fn next(&mut self) -> Result<Reply, ReplayError> {
        if let Self::Connecting(connecting) = self {
            *self = Self::Under(connecting.await?);
        }
        match self {
            Self::Under(replay) => replay.next().await,
            _ => std::future::pending().await,
        }
    }
}

/// Takes messages until the connection ends; returns why it did.
async fn listen(follower: &mut Follower, mut connection: Connection, replay: Option<&str>) -> String {
    let index = std::sync::Arc::clone(&follower.index);
    let mut asking = Asking::No;
    follower.connected(index.now());
    loop {
        while let Some(action) = follower.next_action() {
            match (action, replay) {
                (Action::Ask { from }, Some(address)) => {
                    let address = address.to_owned();
                    asking = Asking::Connecting(Box::pin(async move { Replay::ask(&address, from).await }));
                }
                (Action::Ask { .. } | Action::StopAsking, _) => asking = Asking::No,
                (Action::Reconnect, _) => {
                    return "the publisher does not answer, or not on this connection".to_owned();
                }
            }
        }
        let wake = follower.wake_at().map(|at| at.saturating_sub(index.now()));
        tokio::select! {
            message = connection.receive() => {
                if let Some(why) = take_all(follower, &mut connection, message, &index).await {
                    return why;
                }
            }
            reply = asking.next() => match reply {
                Ok(reply) => follower.replayed(reply, index.now()),
                Err(error) => {
                    asking = Asking::No;
                    follower.replay_failed(&error.to_string(), index.now());
                }
            },
            () = sleep_for(wake) => follower.tick(index.now()),
        }
    }
}

/// Takes a message and what has arrived behind it; returns why the connection ended, if it did.
async fn take_all(
    follower: &mut Follower,
    connection: &mut Connection,
    first: Result<Vec<bytes::Bytes>, ZmtpError>,
    index: &SharedIndex,
) -> Option<String> {
    let mut next = Some(first);
    for _ in 0..BATCHES_IN_A_ROW {
        match next?.map(parse) {
            Ok(Ok(Reply::Batch(frame))) => follower.live(frame, index.now()),
            Ok(Ok(Reply::End)) => {}
            Ok(Err(error)) => {
                let id = follower.id();
                warn!(endpoint = &*id.address, rank = id.rank; "message lost: {error}");
                follower.unreadable();
            }
            Err(error) => return Some(error.to_string()),
        }
        next = connection.next_buffered();
    }
    None
}

async fn sleep_for(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => std::future::pending().await,
    }
}
