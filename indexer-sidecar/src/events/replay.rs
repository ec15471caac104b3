//! One replay: what the publisher's buffer gives from a sequence number on.
//!
//! Each [`Replay`] is a connection of its own, so that replies to an earlier request cannot mix in. `zeromq` reads
//! from the connection only when it is polled and has no receive limit that drops; the sender has one (vLLM up to
//! 0.32 loses messages in the middle of long replays), so the caller checks that the numbers are contiguous.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use zeromq::{DealerSocket, Socket, SocketRecv, SocketSend};

use super::frames::{FrameError, Reply, parse, request};

/// Longest time to connect to a replay socket.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Longest silence between two replies. An idle vLLM looks at its replay socket every 100 ms, a busy one after each
/// step of the scheduler.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Why a replay gave no more.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The socket cannot be reached.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// No reply came in time.
    #[error("no reply in time")]
    Silent,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] zeromq::ZmqError),
    /// A reply could not be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A replay under way.
pub struct Replay {
    socket: DealerSocket,
    deadline: Instant,
}

impl Replay {
    /// Connects to `address` ("ip:port") and asks for every batch from `from` on; everything must have come by `deadline`.
    pub async fn ask(address: &str, from: u64, deadline: Instant) -> Result<Self, ReplayError> {
        let mut socket = DealerSocket::new();
        let url = format!("tcp://{address}");
        match timeout(CONNECT_MAX, socket.connect(&url)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(ReplayError::Connect(error.to_string())),
            Err(_) => return Err(ReplayError::Connect("no connection in time".to_owned())),
        }
        socket.send(request(from)).await?;
        Ok(Self { socket, deadline })
    }

    /// The next reply.
    pub async fn next(&mut self) -> Result<Reply, ReplayError> {
        let until = self.deadline.min(Instant::now() + SILENCE_MAX);
        match timeout_at(until, self.socket.recv()).await {
            Ok(message) => Ok(parse(message?)?),
            Err(_) => Err(ReplayError::Silent),
        }
    }
}
