//! Order of one publisher's batches: what a sequence number means, given those before it. No I/O, no clock.
//!
//! A publisher numbers its batches from 0 without gaps, and a restarted one begins again. The same connection never
//! delivers a batch twice; a batch comes twice only because a replay brought it first.

use bytes::Bytes;

/// What to do with a batch from the live socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is the next one.
    Apply,
    /// A replay brought it already.
    Duplicate,
    /// Batches from `from` on are missing before it.
    Gap {
        /// First sequence number that is missing.
        from: u64,
    },
    /// The publisher began again: all that it said before is void.
    Restart,
}

/// Sequence state of one publisher.
#[derive(Default, Debug)]
pub struct Order {
    /// Sequence number that is due; none: any may come first.
    next: Option<u64>,
    /// Last one seen on the live connection that is up.
    live: Option<u64>,
    /// Last applied batch, to recognise the process that sent it.
    last: Option<(u64, Bytes)>,
}

impl Order {
    /// Judges a batch from the live socket; changes nothing that was applied.
    pub fn judge(&mut self, seq: u64) -> Verdict {
        let went_back = self.live.is_some_and(|live| seq <= live);
        self.live = Some(seq);
        if went_back { Verdict::Restart } else { self.place(seq) }
    }

    /// Where a batch stands against those that were applied.
    pub fn place(&self, seq: u64) -> Verdict {
        match self.next {
            Some(next) if seq < next => Verdict::Duplicate,
            Some(next) if seq > next => Verdict::Gap { from: next },
            _ => Verdict::Apply,
        }
    }

    /// A batch was applied, from the live socket or a replay.
    pub fn applied(&mut self, seq: u64, payload: Bytes) {
        self.next = seq.checked_add(1);
        self.last = Some((seq, payload));
    }

    /// The live connection is a new one.
    pub fn connected(&mut self) {
        self.live = None;
    }

    /// Nothing that was applied counts any more; whatever comes next is the first.
    pub fn reset(&mut self) {
        self.next = None;
        self.last = None;
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
