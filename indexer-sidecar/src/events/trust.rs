//! How far a stream can be trusted, and what ends that: said in metrics, in the log and in the index.

use std::time::Duration;

use log::info;

use super::follower::{Action, Follower};
use super::metrics::Reason as Label;
use super::order::Order;
use crate::index::{Reason, Trust, TrustState};

impl Follower {
    /// Another process publishes on the connection that is up.
    pub(super) fn restarted(&mut self, now: Duration) {
        self.lost("restart");
        self.actions.push_back(Action::StopAsking);
        if self.repair.take().is_some() {
            self.index.end_repair(&self.id);
        }
        self.live = None;
        self.forget(now);
        if self.replayable {
            self.begin_repair(Reason::Restart, true, now);
        }
    }

    /// Nothing that was told counts any more.
    pub(super) fn forget(&mut self, now: Duration) {
        self.index.restart(&self.id);
        self.order = Order::default();
        self.doubt = None;
        self.settle(now);
    }

    pub(super) fn lost(&self, reason: &'static str) {
        self.metrics.losses.get_or_create(&Label::of(reason)).inc();
    }

    /// Says how far the stream can be trusted while nothing is being repaired.
    pub(super) fn settle(&mut self, now: Duration) {
        if !self.connected || self.repair.is_some() {
            return;
        }
        match self.doubt {
            Some(reason) => self.set_trust(TrustState::Partial, reason, now),
            // Without a replay nobody can tell what a publisher has told before its first batch.
            None if self.order.is_new() && !self.replayable => {
                self.set_trust(TrustState::Partial, Reason::LateStart, now);
            }
            None => self.set_trust(TrustState::Live, Reason::InOrder, now),
        }
    }

    pub(super) fn set_trust(&mut self, state: TrustState, reason: Reason, now: Duration) {
        if (state, reason) == (self.trust.state, self.trust.reason) {
            return;
        }
        self.metrics.trust_changed(self.trust.state, state, reason);
        info!(
            endpoint = &*self.id.address, rank = self.id.rank, model = &*self.id.model,
            trust = state.name(), reason = reason.name(), was = self.trust.state.name();
            "event stream"
        );
        self.trust = Trust { state, reason, since: now };
        self.index.set_trust(&self.id, self.trust);
    }
}
