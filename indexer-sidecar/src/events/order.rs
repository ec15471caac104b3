//! Order of one publisher's batches: which number is due, and whether a batch is the one that was applied under its
//! number. No I/O, no clock.
//!
//! A publisher numbers its batches from 0 without gaps, and a restarted one begins again.

use std::collections::VecDeque;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

/// Applied batches whose digests are kept, to tell one that was delivered twice from another process's: a proxy or a
/// broken network may hold up that many, hardly more.
const RECENT: usize = 256;

/// What to do with a batch, by its number alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the next one.
    Apply,
    /// Its number was applied.
    Before,
    /// Batches from `from` on are missing before it.
    Gap {
        /// First sequence number that is missing.
        from: u64,
    },
}

/// Whether an applied batch had these bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Same {
    /// It had.
    Yes,
    /// It had others: another process sent one of them.
    No,
    /// It was not applied, or too long ago.
    Unknown,
}

/// Sequence state of one publisher.
#[derive(Default, Debug)]
pub struct Order {
    /// Sequence number that is due; none: any may come first.
    next: Option<u64>,
    /// Last applied batch, to recognise the process that sent it.
    last: Option<(u64, Bytes)>,
    recent: VecDeque<(u64, u64)>,
}

impl Order {
    /// Where a batch stands against those that were applied.
    pub fn place(&self, seq: u64) -> Verdict {
        match self.next {
            Some(next) if seq < next => Verdict::Before,
            Some(next) if seq > next => Verdict::Gap { from: next },
            _ => Verdict::Apply,
        }
    }

    /// A batch was applied.
    pub fn applied(&mut self, seq: u64, payload: Bytes) {
        self.next = seq.checked_add(1);
        if self.recent.len() >= RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((seq, xxh3_64(&payload)));
        self.last = Some((seq, payload));
    }

    /// Whether the batch that was applied under `seq` had these bytes.
    pub fn same(&self, seq: u64, payload: &[u8]) -> Same {
        match self.recent.iter().rev().find(|(other, _)| *other == seq) {
            Some((_, digest)) if *digest == xxh3_64(payload) => Same::Yes,
            Some(_) => Same::No,
            None => Same::Unknown,
        }
    }

    /// What is due is `seq`, whatever was before.
    pub fn jump(&mut self, seq: u64) {
        self.next = Some(seq);
    }

    /// Whether any batch was applied.
    pub fn is_new(&self) -> bool {
        self.next.is_none()
    }

    /// Sequence number that is due, 0 before the first.
    pub fn due(&self) -> u64 {
        self.next.unwrap_or(0)
    }

    /// The last applied batch: another process has other bytes under its number, or none.
    pub fn last(&self) -> Option<(u64, &Bytes)> {
        self.last.as_ref().map(|(seq, payload)| (*seq, payload))
    }
}
