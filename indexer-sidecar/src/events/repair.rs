//! Fills the hole in a stream from the publisher's replay buffer, in order, while live batches go on.
//!
//! What was told before the hole is set aside in the index and brought forward batch by batch; live batches behind the
//! hole wait in [`Pending`] for their turn there. A replay that begins late is used for what it gives: all that is older is
//! in doubt then. A hole in a replay (vLLM up to 0.32 drops from long ones) is asked for again.

use std::time::Duration;

use bytes::Bytes;
use log::warn;

use super::again::Again;
use super::decode::decode;
use super::follower::{Action, Follower};
use super::frames::Frame;
use super::jitter;
use super::metrics::Reason as Label;
use super::order::{Order, Verdict};
use super::pending::{PENDING_BYTES_MAX, Pending};
use super::probe::Probe;
use crate::index::{Reason, TrustState};

/// Replays in a row that bring nothing new before the hole is given up.
const FRUITLESS_MAX: u32 = 3;
/// Wait before the next replay, half of it random; after one that had no answer it doubles.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Replays in a row without an answer before the hole is given up for now ([`super::again`]): some ten seconds, if
/// connections are taken and nobody answers.
const FAILED_MAX: u32 = 4;
/// Longest repair. A full buffer of 10,000 batches takes seconds; what takes longer is a publisher that publishes
/// faster than it replays.
const REPAIR_MAX: Duration = Duration::from_secs(120);
/// A repair under way.
#[derive(Debug)]
pub(super) struct Repair {
    /// Of what was set aside.
    pub(super) order: Order,
    pub(super) pending: Pending,
    /// The highest number seen on a live connection, this one or the one before: a replay whose last batches were
    /// dropped ends like one that has them.
    seen: Option<u64>,
    /// When to ask next; none: a replay is under way.
    pub(super) ask_at: Option<Duration>,
    until: Duration,
    /// The batch that was applied last, which the replay must bring first: is it the same process?
    verify: Option<(u64, Bytes)>,
    /// A replay must have come to its end: only that tells that nothing is missing.
    to_the_end: bool,
    fruitless: u32,
    failed: u32,
    /// What was due when the replay was asked for.
    asked: u64,
    /// The next reply is the replay's first.
    first: bool,
    /// Why older blocks are in doubt.
    doubt: Option<Reason>,
}

impl Repair {
    /// On a new connection.
    pub(super) fn reconnected(&mut self, ask_at: Duration) {
        self.verify = self.order.last().map(|(seq, payload)| (seq, payload.clone()));
        if self.verify.is_none() {
            // Nothing will tell whether it is the same process: another one's numbers may never be reached.
            self.seen = None;
        }
        (self.to_the_end, self.fruitless, self.failed) = (true, 0, 0);
        self.until = ask_at + REPAIR_MAX;
        self.ask_at = Some(ask_at);
    }

    /// The connection is gone, and with it what it brought: the next replay has it, if it is the same process.
    pub(super) fn disconnected(&mut self) {
        self.pending = Pending::default();
        self.ask_at = None;
    }

    /// Whether live batches come from the process that told what was set aside.
    pub(super) fn is_verified(&self) -> bool {
        self.verify.is_none()
    }

    /// Whether a batch of that number is still missing.
    pub(super) fn wants(&self, seq: u64) -> bool {
        (seq >= self.order.due() || !self.is_verified()) && self.pending.get(seq).is_none()
    }
}

impl Follower {
    /// Sets aside what was told so far. `same_process`: live batches come from the process that told it.
    pub(super) fn begin_repair(&mut self, reason: Reason, same_process: bool, now: Duration) {
        self.index.begin_repair(&self.id, same_process);
        self.probe = Probe::since(now);
        if self.repair.is_none() {
            let order = std::mem::take(&mut self.order);
            self.repair = Some(Repair {
                asked: order.due(),
                order,
                pending: Pending::default(),
                seen: None,
                ask_at: Some(now),
                until: now + REPAIR_MAX,
                verify: None,
                to_the_end: false,
                fruitless: 0,
                failed: 0,
                first: false,
                doubt: self.doubt,
            });
        }
        self.set_trust(TrustState::Recovering, reason, now);
    }

    pub(super) fn ask_if_due(&mut self, now: Duration) {
        let Some(repair) = &mut self.repair else { return };
        if !self.connected || repair.ask_at.is_none_or(|at| at > now) {
            return;
        }
        if now > repair.until {
            return self.give_up(now);
        }
        (repair.ask_at, repair.first, repair.asked) = (None, true, repair.order.due());
        let from = repair.verify.as_ref().map_or(repair.asked, |(seq, _)| *seq);
        self.actions.push_back(Action::Ask { from });
    }

    /// A live batch, while something before it is missing.
    pub(super) fn live_in_repair(&mut self, frame: Frame, contiguous: bool, now: Duration) {
        if !contiguous {
            self.metrics.gaps.inc();
            self.index.begin_repair(&self.id, true);
        }
        match decode(&frame.payload) {
            Ok(batch) => drop(self.index.apply(&self.id, &batch, now)),
            // Counted when its turn has come.
            Err(_) => self.index.begin_repair(&self.id, true),
        }
        self.keep(frame, now);
    }

    /// Keeps a batch for its turn, which may be now.
    pub(super) fn keep(&mut self, frame: Frame, now: Duration) {
        let Some(repair) = &mut self.repair else { return };
        repair.seen = repair.seen.max(Some(frame.seq));
        if repair.is_verified() && repair.order.place(frame.seq) == Verdict::Before {
            self.metrics.duplicates.inc();
        } else if !repair.pending.add(frame.clone()) {
            warn!(endpoint = &*self.id.address, rank = self.id.rank; "more than {PENDING_BYTES_MAX} bytes wait behind a hole");
            self.give_up(now);
            // With what waited gone, it is the next one.
            return self.take_live(frame, 0.0, now);
        }
        self.advance(now);
    }

    pub(super) fn replayed_batch(&mut self, frame: Frame, now: Duration) {
        let Some(repair) = &mut self.repair else { return };
        let first = std::mem::take(&mut repair.first);
        match repair.verify.take() {
            None => {}
            Some((seq, payload)) if frame.seq == seq && frame.payload == payload => return,
            // Its buffer has rolled past what we applied last: nobody can tell whether it is the same process, so all of
            // that is in doubt. But a hash names content, so what is remembered goes on being true.
            Some((seq, _)) if frame.seq > seq => self.begins_late(frame.seq, Reason::Gap),
            Some(_) => return self.other_process(now),
        }
        let Some(repair) = &mut self.repair else { return };
        match repair.order.place(frame.seq) {
            Verdict::Before => return,
            Verdict::Gap { .. } if !first => {
                // A hole in the replay: what follows is kept, and the hole asked for again at its end.
                if !repair.pending.add(frame) {
                    self.actions.push_back(Action::StopAsking);
                    self.retry(now);
                }
                return;
            }
            Verdict::Gap { .. } => self.begins_late(frame.seq, Reason::Gap),
            // The very first batch need not be number 0.
            Verdict::Apply if repair.order.is_new() && frame.seq > 0 => {
                self.begins_late(frame.seq, Reason::LateStart);
            }
            Verdict::Apply => {}
        }
        self.metrics.replayed.inc();
        self.apply_older(frame.seq, frame.payload, now);
        self.advance(now);
    }

    /// The replay has come to its end.
    pub(super) fn replay_ended(&mut self, now: Duration) {
        let Some(repair) = &mut self.repair else { return };
        if repair.verify.take().is_some() {
            // It has no batch of that number.
            return self.other_process(now);
        }
        repair.to_the_end = false;
        self.advance(now);
        if self.repair.is_some() {
            self.metrics.replays.get_or_create(&Label::of("hole")).inc();
            self.retry(now);
        }
    }

    /// Asks again, unless that has been in vain too often.
    pub(super) fn retry(&mut self, now: Duration) {
        let Some(repair) = &mut self.repair else { return };
        repair.fruitless = if repair.order.due() > repair.asked { 0 } else { repair.fruitless + 1 };
        match repair.fruitless < FRUITLESS_MAX {
            true => repair.ask_at = Some(now + jitter(RETRY_AFTER)),
            false => self.give_up(now),
        }
    }

    /// Asks again after a replay without an answer: later each time, and after some time only now and then.
    pub(super) fn retry_failed(&mut self, now: Duration) {
        let Some(repair) = &mut self.repair else { return };
        let failed = if repair.order.due() > repair.asked { 0 } else { repair.failed };
        repair.failed = failed + 1;
        if repair.failed < FAILED_MAX {
            repair.ask_at = Some(now + jitter(RETRY_AFTER * 2_u32.pow(failed)));
            return;
        }
        self.give_up(now);
        self.again = Again::failed(now);
    }

    /// What was set aside is dropped, and a replay from the very first batch is under way.
    pub(super) fn build_anew(&mut self) {
        self.restart_older();
        if let Some(repair) = &mut self.repair {
            (repair.ask_at, repair.asked, repair.first, repair.to_the_end) = (None, 0, true, true);
        }
    }

    /// Applies what has its turn; ends the repair if nothing is missing.
    fn advance(&mut self, now: Duration) {
        while let Some(repair) = &mut self.repair {
            if !repair.is_verified() {
                return;
            }
            let due = repair.order.due();
            repair.pending.drop_before(due);
            let Some(payload) = repair.pending.take(due) else { break };
            self.apply_older(due, payload, now);
        }
        let Some(repair) = &self.repair else { return };
        let behind = repair.seen.is_some_and(|seen| seen >= repair.order.due());
        if behind || repair.pending.first().is_some() || repair.to_the_end || repair.verify.is_some() {
            return;
        }
        self.metrics.replays.get_or_create(&Label::of("complete")).inc();
        self.end_repair(now);
    }

    fn end_repair(&mut self, now: Duration) {
        let Some(repair) = self.repair.take() else { return };
        self.actions.retain(|action| !matches!(action, Action::Ask { .. }));
        self.actions.push_back(Action::StopAsking);
        self.probe.heard(now);
        if repair.order.is_new() && repair.doubt.is_none() {
            // It has published nothing so far.
            self.index.set_older_from_start(&self.id, true);
        }
        self.index.end_repair(&self.id);
        self.order = repair.order;
        self.doubt = repair.doubt;
        self.settle(now);
    }

    fn apply_older(&mut self, seq: u64, payload: Bytes, now: Duration) {
        let Some(repair) = &mut self.repair else { return };
        if repair.order.is_new() {
            self.index.set_older_from_start(&self.id, seq == 0);
        }
        repair.order.applied(seq, payload.clone());
        self.metrics.batches.inc();
        match decode(&payload) {
            Ok(batch) => {
                self.count_skipped(&batch, seq);
                self.index.apply_older(&self.id, &batch, now);
            }
            Err(error) => {
                self.undecodable(&error.to_string(), seq);
                self.doubt_older(Reason::Unreadable);
            }
        }
        let doubtful = self.index.is_older_doubtful(&self.id);
        if let Some(repair) = &mut self.repair
            && doubtful != repair.doubt.is_some()
        {
            repair.doubt = doubtful.then_some(Reason::OverCapacity);
        }
    }

    /// What is between the due batch and `seq` is gone for good.
    fn begins_late(&mut self, seq: u64, reason: Reason) {
        self.metrics.replays.get_or_create(&Label::of("late_start")).inc();
        self.lost("late_start");
        if let Some(repair) = &mut self.repair {
            if repair.order.is_new() {
                self.index.set_older_from_start(&self.id, false);
            }
            repair.order.jump(seq);
        }
        self.doubt_older(reason);
    }

    fn doubt_older(&mut self, reason: Reason) {
        self.index.doubt_older(&self.id);
        if let Some(repair) = &mut self.repair {
            repair.doubt = Some(reason);
        }
    }

    /// The batch that we applied last is not the one that this process sent under its number.
    fn other_process(&mut self, now: Duration) {
        self.metrics.replays.get_or_create(&Label::of("other_process")).inc();
        self.lost("restart");
        self.restart_older();
        self.actions.push_back(Action::StopAsking);
        if let Some(repair) = &mut self.repair {
            repair.ask_at = Some(now);
        }
    }

    fn restart_older(&mut self) {
        self.index.restart_older(&self.id);
        if let Some(repair) = &mut self.repair {
            (repair.order, repair.doubt, repair.verify) = (Order::default(), None, None);
            repair.seen = repair.pending.last();
        }
    }

    /// Nobody brings what is missing: goes on with what there is.
    fn give_up(&mut self, now: Duration) {
        self.actions.push_back(Action::StopAsking);
        let Some(repair) = &self.repair else { return };
        if repair.verify.is_some() {
            // Nobody can tell whether it is the same process.
            self.lost("disconnect");
            self.restart_older();
        }
        let reason = if self.repair.as_ref().is_some_and(|repair| repair.order.is_new()) {
            Reason::LateStart
        } else {
            Reason::Gap
        };
        if reason == Reason::LateStart {
            self.index.set_older_from_start(&self.id, false);
        }
        self.lost(reason.name());
        self.doubt_older(reason);
        while let Some(repair) = &mut self.repair {
            repair.to_the_end = false;
            if let Some(first) = repair.pending.first() {
                if !repair.order.is_new() && first != repair.order.due() {
                    self.doubt_older(Reason::Gap);
                }
                if let Some(repair) = &mut self.repair {
                    repair.order.jump(first);
                }
            } else if let Some(seen) = repair.seen.take().filter(|seen| *seen >= repair.order.due()) {
                repair.order.jump(seen.saturating_add(1));
            }
            self.advance(now);
        }
    }
}
