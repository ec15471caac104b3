//! Batches behind a hole in a stream, which wait for their turn.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::frames::Frame;

/// Bytes of batches that wait behind a hole: some thousand of the largest steps. Beyond it the hole is given up.
pub(super) const PENDING_BYTES_MAX: usize = 32 << 20;

/// Batches behind a hole, by number.
#[derive(Default, Debug)]
pub(super) struct Pending {
    batches: BTreeMap<u64, Bytes>,
    bytes: usize,
}

impl Pending {
    pub(super) fn get(&self, seq: u64) -> Option<&Bytes> {
        self.batches.get(&seq)
    }

    /// False: there is no room.
    pub(super) fn add(&mut self, frame: Frame) -> bool {
        let room = self.bytes + frame.payload.len() <= PENDING_BYTES_MAX;
        if room && !self.batches.contains_key(&frame.seq) {
            self.bytes += frame.payload.len();
            // A small batch must not keep the whole read buffer that it came in.
            self.batches.insert(frame.seq, Bytes::copy_from_slice(&frame.payload));
        }
        room
    }

    pub(super) fn take(&mut self, seq: u64) -> Option<Bytes> {
        let payload = self.batches.remove(&seq)?;
        self.bytes -= payload.len();
        Some(payload)
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.batches.first_key_value().map(|(seq, _)| *seq)
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.batches.last_key_value().map(|(seq, _)| *seq)
    }

    /// Drops what is before `seq`.
    pub(super) fn drop_before(&mut self, seq: u64) {
        while let Some(first) = self.first().filter(|first| *first < seq) {
            self.take(first);
        }
    }
}
