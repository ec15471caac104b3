//! A hole that no replay could fill because none answered is not given up for good: the replay socket may be back in a
//! minute.
//!
//! A stream whose older blocks are in doubt asks for everything from the beginning. Only if the answer begins with the
//! first batch of all it is used: then it says more than what is remembered, and the stream is built anew from it.
//! Otherwise nothing is changed and nobody asks again.

use std::time::Duration;

use super::follower::{Action, Follower};
use super::frames::Reply;
use super::jitter;
use super::metrics::Reason as Label;
use crate::index::Reason;

/// Wait before the first attempt, doubling, half of it random.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Attempts without an answer, half an hour in all.
const AGAIN_MAX: u32 = 5;

/// Attempts to come, and the one under way.
#[derive(Default, Debug)]
pub(super) struct Again {
    at: Option<Duration>,
    attempts: u32,
    /// The next reply is the first of an attempt.
    pub(super) under_way: bool,
}

impl Again {
    /// No replay answered.
    pub(super) fn failed(now: Duration) -> Self {
        Self { at: Some(now + jitter(AGAIN_AFTER)), ..Self::default() }
    }

    pub(super) fn wake_at(&self) -> Option<Duration> {
        self.at
    }
}

impl Follower {
    pub(super) fn ask_again_if_due(&mut self, now: Duration) {
        if self.again.at.is_none_or(|at| at > now) || self.probe.is_under_way() {
            return;
        }
        self.again.at = None;
        if self.doubt.is_some() {
            self.again.under_way = true;
            self.actions.push_back(Action::Ask { from: 0 });
        }
    }

    /// The first reply to an attempt.
    pub(super) fn asked_again(&mut self, reply: Reply, now: Duration) {
        self.again = Again::default();
        match reply {
            Reply::Batch(frame) if frame.seq == 0 => {
                self.metrics.replays.get_or_create(&Label::of("again")).inc();
                self.begin_repair(Reason::Gap, true, now);
                self.build_anew();
                self.replayed_batch(frame, now);
            }
            _ => self.actions.push_back(Action::StopAsking),
        }
    }

    /// An attempt had no answer.
    pub(super) fn asked_again_in_vain(&mut self, now: Duration) {
        let attempts = self.again.attempts + 1;
        let at = (attempts < AGAIN_MAX).then(|| now + jitter(AGAIN_AFTER * 2_u32.pow(attempts)));
        self.again = Again { at, attempts, under_way: false };
    }
}
