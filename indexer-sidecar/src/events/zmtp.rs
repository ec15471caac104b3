//! ZMTP 3.0, as much of it as a subscriber and a replay client need: greeting, `READY`, messages.
//! Source: <https://rfc.zeromq.org/spec/23/>.
//!
//! Not `zeromq` 0.7, which is what pods and tests here are made with, because three things in it cannot be bounded
//! from outside: it reserves as much memory as a frame's header claims, up to 2^63 bytes, before the frame is there
//! (`codec/zmq_codec.rs`), and keeps any number of frames of one message; it reconnects by itself, so that two
//! connections can look like one (`reconnect.rs`); and it sets 4 MiB socket buffers on every connection
//! (`transport/tcp.rs`). Here memory grows with the bytes that came, a frame and a message have a limit, and the end of
//! a connection is seen where it is in the stream.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames::FRAME_BYTES_MAX;

/// Frames of one message: an envelope, topic, number and payload are four.
const FRAMES_MAX: usize = 16;
/// Bytes read at a time.
const READ_BYTES: usize = 16 << 10;
/// Largest command: `READY` with its few properties.
const COMMAND_BYTES_MAX: usize = 4096;
/// A connection without a byte for this long is asked by TCP whether the other end is there, and is given up after
/// three more such questions. It is what finds a half-open connection to a publisher that has no replay.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

const GREETING_BYTES: usize = 64;
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What a socket of ours is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Takes everything that a PUB socket sends.
    Sub,
    /// Asks a ROUTER socket.
    Dealer,
}

/// Why a connection can no longer be used.
#[derive(Debug, thiserror::Error)]
pub enum ZmtpError {
    /// TCP's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other end has closed it.
    #[error("the connection was closed")]
    Closed,
    /// The other end does not speak ZMTP 3 without security.
    #[error("not a ZMTP 3 peer: {0}")]
    Peer(&'static str),
    /// A frame is larger than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes, at most {FRAME_BYTES_MAX} are taken")]
    TooLarge(u64),
    /// A message has more than [`FRAMES_MAX`] frames, or more bytes in all than one frame may have.
    #[error("a message of more than {FRAMES_MAX} frames or {FRAME_BYTES_MAX} bytes")]
    TooLong,
}

/// One frame's header and body.
#[derive(PartialEq, Eq, Debug)]
struct Frame {
    flags: u8,
    body: Bytes,
}

/// Takes a frame off the front of `buffer` if all of it is there.
fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, ZmtpError> {
    let Some(flags) = buffer.first().copied() else { return Ok(None) };
    if flags & !(MORE | LONG | COMMAND) != 0 {
        return Err(ZmtpError::Peer("unknown flags of a frame"));
    }
    let (header, len) = if flags & LONG == 0 {
        let Some(len) = buffer.get(1) else { return Ok(None) };
        (2, u64::from(*len))
    } else {
        let Some(mut len) = buffer.get(1..9) else { return Ok(None) };
        (9, len.get_u64())
    };
    let most = if flags & COMMAND == 0 { FRAME_BYTES_MAX } else { COMMAND_BYTES_MAX };
    let body = usize::try_from(len).ok().filter(|len| *len <= most).ok_or(ZmtpError::TooLarge(len))?;
    if buffer.len() < header + body {
        return Ok(None);
    }
    buffer.advance(header);
    Ok(Some(Frame { flags, body: buffer.split_to(body).freeze() }))
}

/// Takes a message off the front of `buffer`. Frames of one that is not complete are kept in `frames`; a command
/// comes as an error.
fn take_message(buffer: &mut BytesMut, frames: &mut Vec<Bytes>) -> Result<Option<Taken>, ZmtpError> {
    while let Some(frame) = take_frame(buffer)? {
        if frame.flags & COMMAND != 0 {
            return Ok(Some(Taken::Command(frame.body)));
        }
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        if frames.len() >= FRAMES_MAX || bytes + frame.body.len() > FRAME_BYTES_MAX {
            return Err(ZmtpError::TooLong);
        }
        frames.push(frame.body);
        if frame.flags & MORE == 0 {
            return Ok(Some(Taken::Message(std::mem::take(frames))));
        }
    }
    Ok(None)
}

enum Taken {
    Message(Vec<Bytes>),
    Command(Bytes),
}

/// Fuzz body: any bytes, however they are cut, come to the same messages or the same end, and what is kept is never
/// more than what came.
pub fn fuzz_messages(bytes: &[u8], cut: usize) {
    let read = |chunks: &[&[u8]]| {
        let (mut buffer, mut frames, mut messages) = (BytesMut::new(), Vec::new(), Vec::new());
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            loop {
                match take_message(&mut buffer, &mut frames) {
                    Ok(Some(Taken::Message(message))) => messages.push(message),
                    Ok(Some(Taken::Command(_))) => {}
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error.to_string())),
                }
            }
        }
        (messages, None)
    };
    let (head, tail) = bytes.split_at(cut.min(bytes.len()));
    let (whole, parts) = (read(&[bytes]), read(&[head, tail]));
    assert_eq!(whole, parts);
    let held: usize = whole.0.iter().flatten().map(Bytes::len).sum();
    assert!(held <= bytes.len());
}

/// A connection to a publisher, past the handshake.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    stream: S,
    buffer: BytesMut,
    frames: Vec<Bytes>,
}

impl Connection {
    /// Connects to `address` ("ip:port"). A subscriber is subscribed to everything then. Bound it in time.
    pub async fn connect(address: &str, kind: Kind) -> Result<Self, ZmtpError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        keep_alive(&stream)?;
        Self::handshake(stream, kind).await
    }
}

/// Lets TCP find out when the other end is gone.
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    Ok(sockopt::set_tcp_keepcnt(stream, 3)?)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Greets the other end of a stream, whoever opened it.
    pub async fn handshake(stream: S, kind: Kind) -> Result<Self, ZmtpError> {
        let mut this = Self { stream, buffer: BytesMut::new(), frames: Vec::new() };
        this.stream.write_all(&greeting(kind)).await?;
        while this.buffer.len() < GREETING_BYTES {
            this.read().await?;
        }
        let theirs = this.buffer.split_to(GREETING_BYTES);
        if theirs[0] != 0xff || theirs[9] & 1 == 0 || theirs[10] < 3 {
            return Err(ZmtpError::Peer("another protocol or a version before 3"));
        }
        if &theirs[12..17] != b"NULL\0" {
            return Err(ZmtpError::Peer("it asks for a security mechanism"));
        }
        loop {
            match take_message(&mut this.buffer, &mut this.frames)? {
                Some(Taken::Command(command)) if command.starts_with(b"\x05READY") => break,
                Some(_) => return Err(ZmtpError::Peer("no READY after the greeting")),
                None => this.read().await?,
            }
        }
        if kind == Kind::Sub {
            // A subscription to the empty prefix.
            this.stream.write_all(&[0, 1, 1]).await?;
        }
        Ok(this)
    }

    /// The next message. Nothing is lost when the future is dropped.
    pub async fn receive(&mut self) -> Result<Vec<Bytes>, ZmtpError> {
        loop {
            match take_message(&mut self.buffer, &mut self.frames)? {
                Some(Taken::Message(message)) => return Ok(message),
                Some(Taken::Command(command)) => self.answer(&command).await?,
                None => self.read().await?,
            }
        }
    }

    /// The next message, if all of it was read already.
    pub fn next_buffered(&mut self) -> Option<Result<Vec<Bytes>, ZmtpError>> {
        // A command is left to `receive`: it may need an answer.
        if self.buffer.first().is_none_or(|flags| flags & COMMAND != 0) {
            return None;
        }
        match take_message(&mut self.buffer, &mut self.frames) {
            Ok(Some(Taken::Message(message))) => Some(Ok(message)),
            Ok(Some(Taken::Command(_)) | None) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Sends a message of short frames.
    pub async fn send(&mut self, frames: &[Bytes]) -> Result<(), ZmtpError> {
        let mut out = BytesMut::new();
        for (at, frame) in frames.iter().enumerate() {
            out.put_u8(if at + 1 < frames.len() { MORE } else { 0 });
            let len = u8::try_from(frame.len()).map_err(|_| ZmtpError::TooLarge(frame.len() as u64))?;
            out.put_u8(len);
            out.extend_from_slice(frame);
        }
        Ok(self.stream.write_all(&out).await?)
    }

    /// A heartbeat is answered; other commands mean nothing here.
    async fn answer(&mut self, command: &[u8]) -> Result<(), ZmtpError> {
        let Some(context) = command.strip_prefix(b"\x04PING").and_then(|rest| rest.get(2..)) else {
            return Ok(());
        };
        let context = &context[..context.len().min(16)];
        let mut pong = vec![COMMAND, 5 + context.len() as u8];
        pong.extend_from_slice(b"\x04PONG");
        pong.extend_from_slice(context);
        Ok(self.stream.write_all(&pong).await?)
    }

    async fn read(&mut self) -> Result<(), ZmtpError> {
        self.buffer.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ZmtpError::Closed),
            _ => Ok(()),
        }
    }
}

fn greeting(kind: Kind) -> Vec<u8> {
    let mut out = vec![0; GREETING_BYTES];
    (out[0], out[9], out[10]) = (0xff, 0x7f, 3);
    out[12..16].copy_from_slice(b"NULL");
    let kind: &[u8] = match kind {
        Kind::Sub => b"SUB",
        Kind::Dealer => b"DEALER",
    };
    let mut ready = b"\x05READY\x0bSocket-Type".to_vec();
    ready.put_u32(kind.len() as u32);
    ready.extend_from_slice(kind);
    ready.extend_from_slice(b"\x08Identity\0\0\0\0");
    out.extend([COMMAND, ready.len() as u8]);
    out.extend(ready);
    out
}
