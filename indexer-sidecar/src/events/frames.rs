//! Frames of live messages and replay replies.

use bytes::Bytes;

/// Sequence number of the reply that ends a replay: -1 as signed 64 bits.
const END: u64 = u64::MAX;

/// Largest frame that is taken, in bytes. A step of the scheduler with 8,192 tokens is 50 KB on the wire; this
/// leaves room for the largest steps and keeps one hostile batch from filling memory.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// One numbered batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Topic; empty where the framing has none.
    pub topic: Bytes,
    /// Sequence number.
    pub seq: u64,
    /// MessagePack.
    pub payload: Bytes,
}

/// A reply of the replay socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A batch from the publisher's buffer.
    Batch(Frame),
    /// No more will come.
    End,
}

/// The frames are not those of a batch.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Fewer than two frames, or a sequence number that is not 8 bytes.
    #[error("{0} frames of which the second last is no sequence number of 8 bytes")]
    Shape(usize),
}

/// Reads a message from its end: payload last, sequence number before it, then the topic if there is one. vLLM's
/// replay has had a topic frame since 0.26.
pub fn parse(mut frames: Vec<Bytes>) -> Result<Reply, FrameError> {
    let count = frames.len();
    let shape = FrameError::Shape(count);
    let payload = frames.pop().ok_or(shape.clone())?;
    let seq = frames.pop().ok_or(shape.clone())?;
    let seq = u64::from_be_bytes(seq.as_ref().try_into().map_err(|_| shape)?);
    if seq == END {
        return Ok(Reply::End);
    }
    Ok(Reply::Batch(Frame { topic: frames.pop().unwrap_or_default(), seq, payload }))
}

/// The request for every batch from `from` on: an empty delimiter, without which vLLM does not answer, and the number.
pub fn request(from: u64) -> [Bytes; 2] {
    [Bytes::new(), Bytes::copy_from_slice(&from.to_be_bytes())]
}
