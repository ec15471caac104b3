//! Is a publisher that says nothing still there, and does our connection to it still carry anything?
//!
//! vLLM has no heartbeat, and an idle engine publishes nothing. A replay of the last batch answers both: a publisher
//! that lives sends it (or only the end, if there was none), and one that has sent more since shows that our live
//! connection is dead, though neither end has noticed.

use std::time::Duration;

use super::follower::{Action, Follower};
use super::frames::Reply;
use super::jitter;
use super::metrics::Reason as Label;
use crate::index::{Reason, TrustState};

/// Silence on a live connection before the publisher is asked whether it lives, half of it random.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Wait after a probe without an answer.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Probes in a row without an answer before the connection is given up.
const FAILED_MAX: u32 = 3;
/// How long a batch that the replay has may take on the live connection.
const GRACE: Duration = Duration::from_secs(2);

/// State of the probes of one stream.
#[derive(Default, Debug)]
pub(super) struct Probe {
    at: Duration,
    failed: u32,
    under_way: bool,
    /// The highest number that the replay had.
    ahead: Option<u64>,
}

impl Probe {
    pub(super) fn since(now: Duration) -> Self {
        Self { at: now + jitter(SILENCE_MAX), ..Self::default() }
    }

    /// The publisher lives.
    pub(super) fn heard(&mut self, now: Duration) {
        // While a batch is due on the live connection only that counts, which `probe_if_due` looks at.
        if self.ahead.is_none() && !self.under_way {
            *self = Self::since(now);
        }
    }

    pub(super) fn wake_at(&self) -> Duration {
        if self.under_way { Duration::MAX } else { self.at }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failed >= FAILED_MAX
    }
}

impl Follower {
    pub(super) fn probe_if_due(&mut self, now: Duration) {
        if self.probe.under_way || self.again.under_way || now < self.probe.at {
            return;
        }
        if let Some(ahead) = self.probe.ahead.take() {
            if self.order.due() <= ahead {
                self.metrics.probes.get_or_create(&Label::of("connection_dead")).inc();
                return self.actions.push_back(Action::Reconnect);
            }
            self.probe = Probe::since(now);
            return;
        }
        self.probe.under_way = true;
        let from = self.order.last().map_or(self.order.due(), |(seq, _)| seq);
        self.actions.push_back(Action::Ask { from });
    }

    pub(super) fn probed(&mut self, reply: Reply, now: Duration) {
        if !self.probe.under_way {
            return;
        }
        match reply {
            Reply::Batch(frame) => match self.order.last() {
                Some((seq, payload)) if frame.seq == seq && frame.payload != *payload => {
                    self.metrics.probes.get_or_create(&Label::of("other_process")).inc();
                    self.actions.extend([Action::StopAsking, Action::Reconnect]);
                }
                Some((seq, _)) if frame.seq <= seq => {}
                _ => self.probe.ahead = Some(frame.seq),
            },
            Reply::End => {
                self.metrics.probes.get_or_create(&Label::of("alive")).inc();
                let ahead = self.probe.ahead;
                self.probe = Probe::since(now);
                if ahead.is_some() {
                    (self.probe.ahead, self.probe.at) = (ahead, now + GRACE);
                }
                self.actions.push_back(Action::StopAsking);
            }
        }
    }

    pub(super) fn probe_failed(&mut self, now: Duration) {
        self.metrics.probes.get_or_create(&Label::of("no_answer")).inc();
        self.probe.under_way = false;
        self.probe.failed += 1;
        self.probe.at = now + RETRY_AFTER;
        if self.probe.is_failed() {
            self.set_trust(TrustState::Lost, Reason::Silent, now);
            self.actions.push_back(Action::Reconnect);
        }
    }
}
