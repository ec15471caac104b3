//! One publisher as the index sees it: its order, its batches applied, its losses counted.

use std::sync::Arc;

use log::{info, warn};

use super::decode::decode;
use super::frames::Frame;
use super::metrics::{EventMetrics, Reason};
use super::order::Order;
use crate::index::{KeyRules, SharedIndex, StreamId};

/// Why a publisher's blocks were dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Loss {
    /// The connection ended and nothing can tell whether the same process is behind the next one.
    Disconnect,
    /// Batches are missing for good.
    Gap,
    /// Another process publishes now.
    Restart,
    /// The publisher's buffer no longer reaches back to what we know.
    LateStart,
    /// A message could not be read.
    Unreadable,
}

impl Loss {
    fn reason(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Gap => "gap",
            Self::Restart => "restart",
            Self::LateStart => "late_start",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A stream in the index for as long as this lives.
pub(super) struct Publisher {
    pub(super) id: StreamId,
    pub(super) order: Order,
    pub(super) metrics: Arc<EventMetrics>,
    index: Arc<SharedIndex>,
    live: bool,
}

impl Publisher {
    pub(super) fn open(
        id: StreamId,
        rules: KeyRules,
        index: Arc<SharedIndex>,
        metrics: Arc<EventMetrics>,
    ) -> Self {
        index.open(&id, rules);
        metrics.streams.inc();
        Self { id, order: Order::default(), metrics, index, live: false }
    }

    /// Applies a batch whose turn it is.
    pub(super) fn apply(&mut self, frame: Frame) {
        match decode(&frame.payload) {
            Ok(batch) => {
                for error in batch.events.iter().filter_map(|event| event.as_ref().err()) {
                    self.metrics.skipped.get_or_create(&Reason::of(error.reason())).inc();
                    warn!(endpoint = &*self.id.address, rank = self.id.rank, seq = frame.seq; "event skipped: {error}");
                }
                self.index.apply(&self.id, &batch);
            }
            Err(error) => {
                warn!(endpoint = &*self.id.address, rank = self.id.rank, seq = frame.seq; "batch lost: {error}");
                self.unreadable();
            }
        }
        self.metrics.batches.inc();
        self.order.applied(frame.seq, frame.payload);
    }

    /// A message could not be read: what it said about the cache is unknown.
    pub(super) fn unreadable(&mut self) {
        self.metrics.unreadable.inc();
        self.lose(Loss::Unreadable);
    }

    /// Drops the publisher's blocks and begins again with whatever comes next.
    pub(super) fn forget(&mut self, loss: Loss) {
        self.order.reset();
        self.lose(loss);
    }

    fn lose(&self, loss: Loss) {
        self.metrics.losses.get_or_create(&Reason::of(loss.reason())).inc();
        warn!(endpoint = &*self.id.address, rank = self.id.rank, reason = loss.reason(); "blocks dropped");
        match loss {
            // Perhaps another process, with other groups of layers.
            Loss::Disconnect | Loss::Restart => self.index.restart(&self.id),
            Loss::Gap | Loss::LateStart | Loss::Unreadable => self.index.clear(&self.id),
        }
    }

    /// Says whether the stream is up and in order.
    pub(super) fn set_live(&mut self, live: bool) {
        if live == self.live {
            return;
        }
        self.live = live;
        if live {
            self.metrics.streams_live.inc()
        } else {
            self.metrics.streams_live.dec()
        };
        self.index.set_live(&self.id, live);
        info!(endpoint = &*self.id.address, rank = self.id.rank, live = live; "event stream");
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.set_live(false);
        self.metrics.streams.dec();
        self.index.close(&self.id);
    }
}
