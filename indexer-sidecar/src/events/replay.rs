//! One replay: what the publisher's buffer gives from a sequence number on.
//!
//! Each [`Replay`] is a connection of its own, so that replies to an earlier request cannot mix in. Nothing is dropped
//! on our side: what we do not read waits in TCP's buffers. The sender has a limit that drops (vLLM up to 0.32 loses
//! messages in the middle of long replays), so the caller checks that the numbers are contiguous.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::frames::{FrameError, Reply, parse, request};
use super::zmtp::{Connection, Kind, ZmtpError};

/// Longest time to connect to a replay socket.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Longest silence between two replies. An idle vLLM looks at its replay socket every 100 ms, a busy one after each
/// step of the scheduler.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Why a replay gave no more.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The socket cannot be reached.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, String),
    /// No reply came in time.
    #[error("no reply in time")]
    Silent,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] ZmtpError),
    /// A reply could not be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A replay under way.
pub struct Replay {
    connection: Connection,
    silent_at: Instant,
}

impl Replay {
    /// Connects to `address` ("ip:port") and asks for every batch from `from` on.
    pub async fn ask(address: &str, from: u64) -> Result<Self, ReplayError> {
        let failed = |why: String| ReplayError::Connect(address.to_owned(), why);
        let mut connection = match timeout(CONNECT_MAX, Connection::connect(address, Kind::Dealer)).await {
            Ok(connected) => connected.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed("no connection in time".to_owned())),
        };
        connection.send(&request(from)).await?;
        Ok(Self { connection, silent_at: Instant::now() + SILENCE_MAX })
    }

    /// The next reply. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Reply, ReplayError> {
        match timeout_at(self.silent_at, self.connection.receive()).await {
            Ok(message) => {
                self.silent_at = Instant::now() + SILENCE_MAX;
                Ok(parse(message?)?)
            }
            Err(_) => Err(ReplayError::Silent),
        }
    }
}
