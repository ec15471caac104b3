//! One publisher's stream from its first connection on: in what order batches count, what is missing, how far the
//! stream can be trusted. No I/O and no clock: what happens comes in, [`Action`]s come out.
//!
//! - In order: a batch is applied to the index.
//! - A hole, a new connection or a new process begins a [`repair`](super::repair): what was told is set aside, live
//!   batches go on being applied to blocks of their own, and the replay brings what was set aside up to date.
//! - A publisher is silent while its engine is idle, so silence is no loss. After [`SILENCE_MAX`] it is asked for the
//!   batch that was applied last: nothing else but that means that all is well.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use log::warn;

use super::again::Again;
use super::decode::{decode, timestamp};
use super::frames::{Frame, Reply};
use super::metrics::{EventMetrics, Reason as Label};
use super::order::{Order, Same, Verdict};
use super::probe::Probe;
use super::repair::Repair;
use crate::index::{KeyRules, Reason, SharedIndex, StreamId, Trust, TrustState};

/// Between the subscription and the first replay: a publisher takes note of a subscription in its own time, and what
/// it publishes before that is only in the replay.
const SUBSCRIBE_SETTLE: Duration = Duration::from_millis(100);

/// What the follower wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Ask the replay socket for every batch from `from` on, on a connection of its own; an earlier one is given up.
    Ask {
        /// First sequence number.
        from: u64,
    },
    /// Give the replay up.
    StopAsking,
    /// Close the live connection and make a new one.
    Reconnect,
}

/// A stream that is followed, in the index for as long as this lives.
pub struct Follower {
    pub(super) id: StreamId,
    pub(super) index: Arc<SharedIndex>,
    pub(super) metrics: Arc<EventMetrics>,
    pub(super) order: Order,
    pub(super) repair: Option<Repair>,
    pub(super) probe: Probe,
    pub(super) again: Again,
    pub(super) actions: VecDeque<Action>,
    /// Why older blocks are in doubt.
    pub(super) doubt: Option<Reason>,
    pub(super) connected: bool,
    /// Number and time stamp of the last batch on the live connection that is up.
    pub(super) live: Option<(u64, f64)>,
    pub(super) replayable: bool,
    /// The replay socket has answered since the connection is up. Not every engine has one where it is expected.
    replay_works: bool,
    pub(super) trust: Trust,
}

impl Follower {
    /// Begins a stream in the index. `replayable`: the publisher has a replay socket.
    pub fn open(
        id: StreamId,
        rules: KeyRules,
        replayable: bool,
        index: Arc<SharedIndex>,
        metrics: Arc<EventMetrics>,
    ) -> Self {
        index.open(&id, rules);
        let trust = Trust { since: index.now(), ..Trust::default() };
        index.set_trust(&id, trust);
        metrics.followed(trust.state);
        Self {
            id,
            index,
            metrics,
            order: Order::default(),
            repair: None,
            probe: Probe::default(),
            again: Again::default(),
            actions: VecDeque::new(),
            doubt: None,
            connected: false,
            live: None,
            replayable,
            replay_works: false,
            trust,
        }
    }

    /// Its name in the index.
    pub fn id(&self) -> &StreamId {
        &self.id
    }

    /// How far it can be trusted.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// The next thing to be done.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::tick`] is due next.
    pub fn wake_at(&self) -> Option<Duration> {
        match &self.repair {
            Some(repair) => repair.ask_at,
            None if self.connected => {
                // One question at a time.
                let probe = self.replay_works && !self.again.under_way;
                let probe = probe.then(|| self.probe.wake_at());
                let again = self.again.wake_at().filter(|_| !self.probe.is_under_way());
                [probe, again].into_iter().flatten().min()
            }
            None => None,
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) {
        self.index.expire(&self.id, now);
        match &mut self.repair {
            Some(_) => self.ask_if_due(now),
            None if self.connected => {
                self.ask_again_if_due(now);
                if self.replay_works {
                    self.probe_if_due(now);
                }
            }
            None => {}
        }
    }

    /// A live connection is up and subscribed.
    pub fn connected(&mut self, now: Duration) {
        (self.connected, self.live, self.replay_works) = (true, None, false);
        (self.probe, self.again) = (Probe::since(now), Again::default());
        if !self.replayable {
            return self.settle(now);
        }
        let reason = if self.order.is_new() { Reason::Start } else { Reason::Disconnect };
        self.begin_repair(reason, false, now);
        if let Some(repair) = &mut self.repair {
            repair.reconnected(now + SUBSCRIBE_SETTLE);
        }
    }

    /// The live connection has ended.
    pub fn disconnected(&mut self, now: Duration) {
        if !self.connected {
            return;
        }
        (self.connected, self.live) = (false, None);
        self.metrics.disconnects.inc();
        self.actions.clear();
        self.actions.push_back(Action::StopAsking);
        if let Some(repair) = &mut self.repair {
            repair.disconnected();
        }
        if !self.replayable && !self.order.is_new() {
            // Nothing will tell whether the same process is behind the next connection.
            self.lost("disconnect");
            self.forget(now);
        }
        let silent = self.probe.is_failed();
        self.set_trust(TrustState::Lost, if silent { Reason::Silent } else { Reason::Disconnect }, now);
    }

    /// A message on the live connection could not be read. Its number is unknown, so the next one shows a gap.
    pub fn unreadable(&mut self) {
        self.metrics.unreadable.inc();
    }

    /// A batch came on the live connection.
    pub fn live(&mut self, frame: Frame, now: Duration) {
        self.metrics.live.inc();
        self.probe.heard(now);
        let ts = timestamp(&frame.payload).unwrap_or(0.0);
        if let Some((seq, then)) = self.live
            && frame.seq <= seq
        {
            if self.is_late(&frame, ts, then) {
                return self.late(frame, now);
            }
            self.restarted(now);
        }
        self.take_live(frame, ts, now);
    }

    /// Takes a batch that is no late one. `ts`: its time stamp.
    pub(super) fn take_live(&mut self, frame: Frame, ts: f64, now: Duration) {
        let contiguous = self.live.is_none_or(|(seq, _)| seq.checked_add(1) == Some(frame.seq));
        self.live = Some((frame.seq, ts));
        if self.repair.is_some() {
            return self.live_in_repair(frame, contiguous, now);
        }
        match self.order.place(frame.seq) {
            Verdict::Apply if self.order.is_new() => self.first(frame, now),
            Verdict::Apply => self.apply(frame, now),
            Verdict::Before if self.order.same(frame.seq, &frame.payload) == Same::No => {
                self.restarted(now);
                self.take_live(frame, 0.0, now);
            }
            Verdict::Before => drop(self.metrics.duplicates.inc()),
            Verdict::Gap { from } => {
                self.metrics.gaps.inc();
                warn!(endpoint = &*self.id.address, rank = self.id.rank, from = from, until = frame.seq; "batches missing");
                if self.replayable {
                    self.begin_repair(Reason::Gap, true, now);
                    return self.live_in_repair(frame, true, now);
                }
                self.lost("gap");
                self.index.doubt(&self.id);
                self.doubt = Some(Reason::Gap);
                self.apply(frame, now);
            }
        }
    }

    /// A reply of the replay that was asked for last.
    pub fn replayed(&mut self, reply: Reply, now: Duration) {
        self.replay_works = true;
        match (&self.repair, reply) {
            (Some(_), Reply::Batch(frame)) => self.replayed_batch(frame, now),
            (Some(_), Reply::End) => self.replay_ended(now),
            (None, reply) if self.again.under_way => self.asked_again(reply, now),
            (None, reply) => self.probed(reply, now),
        }
    }

    /// The replay that was asked for last gives no more.
    pub fn replay_failed(&mut self, why: &str, now: Duration) {
        warn!(endpoint = &*self.id.address, rank = self.id.rank; "replay: {why}");
        self.metrics.replays.get_or_create(&Label::of("failed")).inc();
        match self.repair {
            Some(_) => self.retry_failed(now),
            None if self.again.under_way => self.asked_again_in_vain(now),
            None => self.probe_failed(now),
        }
    }

    /// Whether a batch with a number that the live connection is past of is a late one of the same process: delivered
    /// twice, or out of order. A process that began again has other bytes under its numbers, and a later time stamp.
    fn is_late(&self, frame: &Frame, ts: f64, then: f64) -> bool {
        let order = self.repair.as_ref().map_or(&self.order, |repair| &repair.order);
        let pending = self.repair.as_ref().and_then(|repair| repair.pending.get(frame.seq));
        // Until it is known whose connection this is, what was applied before it says nothing about it.
        let verified = self.repair.as_ref().is_none_or(Repair::is_verified);
        let same = if verified { order.same(frame.seq, &frame.payload) } else { Same::Unknown };
        match (same, pending) {
            (Same::Yes, _) => true,
            (Same::No, _) => false,
            (Same::Unknown, Some(pending)) => *pending == frame.payload,
            (Same::Unknown, None) => ts <= then,
        }
    }

    fn late(&mut self, frame: Frame, now: Duration) {
        let fills = self.repair.as_ref().is_some_and(|repair| repair.wants(frame.seq));
        match fills {
            true => self.keep(frame, now),
            false => drop(self.metrics.duplicates.inc()),
        }
    }

    /// The first batch of a stream that has no replay.
    fn first(&mut self, frame: Frame, now: Duration) {
        self.index.set_from_start(&self.id, frame.seq == 0);
        if frame.seq > 0 {
            self.index.doubt(&self.id);
            self.doubt = Some(Reason::LateStart);
        }
        self.apply(frame, now);
    }

    /// Applies a batch whose turn it is.
    fn apply(&mut self, frame: Frame, now: Duration) {
        let doubtful = match decode(&frame.payload) {
            Ok(batch) => {
                self.count_skipped(&batch, frame.seq);
                self.index.apply(&self.id, &batch, now)
            }
            Err(error) => {
                self.undecodable(&error.to_string(), frame.seq);
                self.index.doubt(&self.id);
                self.doubt = Some(Reason::Unreadable);
                true
            }
        };
        self.metrics.batches.inc();
        self.order.applied(frame.seq, frame.payload);
        if doubtful != self.doubt.is_some() {
            // The cache was cleared, or more was reported than it can hold.
            self.doubt = doubtful.then_some(Reason::OverCapacity);
        }
        self.settle(now);
    }

    pub(super) fn count_skipped(&self, batch: &super::decode::Batch, seq: u64) {
        for error in batch.events.iter().filter_map(|event| event.as_ref().err()) {
            self.metrics.skipped.get_or_create(&Label::of(error.reason())).inc();
            warn!(endpoint = &*self.id.address, rank = self.id.rank, seq = seq; "event skipped: {error}");
        }
    }

    pub(super) fn undecodable(&self, error: &str, seq: u64) {
        warn!(endpoint = &*self.id.address, rank = self.id.rank, seq = seq; "batch lost: {error}");
        self.metrics.unreadable.inc();
        self.lost("unreadable");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.metrics.unfollowed(self.trust.state);
        self.index.close(&self.id);
    }
}
