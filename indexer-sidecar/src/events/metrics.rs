//! Counters of the event streams.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::index::TrustState;

/// Label of the families below.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct Reason {
    reason: &'static str,
}

impl Reason {
    /// The label's value.
    pub fn of(reason: &'static str) -> Self {
        Self { reason }
    }
}

/// Label of [`EventMetrics::streams_by_trust`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct TrustLabel {
    trust: &'static str,
}

/// Labels of [`EventMetrics::trust_changes`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct TrustChange {
    trust: &'static str,
    reason: &'static str,
}

/// What came over the event streams, and what went wrong on them.
#[derive(Default)]
pub struct EventMetrics {
    /// Batches applied, live or replayed.
    pub batches: Counter,
    /// Batches that came on live connections, applied or not.
    pub live: Counter,
    /// Those applied that a replay brought.
    pub replayed: Counter,
    /// Live batches that a replay had brought before.
    pub duplicates: Counter,
    /// Events that were skipped, by what was wrong with them.
    pub skipped: Family<Reason, Counter>,
    /// Messages that were no batch: what they said is lost.
    pub unreadable: Counter,
    /// Jumps in a publisher's sequence.
    pub gaps: Counter,
    /// Connections that ended.
    pub disconnects: Counter,
    /// Replays, by how they ended: `complete`, `late_start`, `hole`, `other_process`, `failed`; `again`: a hole that was given
    /// up is filled after all.
    pub replays: Family<Reason, Counter>,
    /// Times that something of what a publisher told is in doubt: `disconnect`, `gap`, `restart`, `late_start`,
    /// `unreadable`.
    pub losses: Family<Reason, Counter>,
    /// Messages on the central socket from a topic (or rank) without a configured endpoint.
    pub unmapped: Counter,
    /// Publishers that are followed.
    pub streams: Gauge,
    /// Those of them that are up and in order, live or partial.
    pub streams_live: Gauge,
    /// Publishers that are followed, by how far they can be trusted.
    pub streams_by_trust: Family<TrustLabel, Gauge>,
    /// Changes of trust, by what it became and why.
    pub trust_changes: Family<TrustChange, Counter>,
    /// Silent publishers asked whether they live, by answer: `alive`, `connection_dead`, `other_process`, `no_answer`.
    pub probes: Family<Reason, Counter>,
    /// Engines asked how many blocks their GPU has memory for, by answer: `known`, `absent`, `failed`.
    pub capacity_asks: Family<Reason, Counter>,
    /// Endpoints that are not followed because their model is not configured.
    pub unknown_model: Gauge,
}

impl EventMetrics {
    /// Adds all metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("warmpath_events");
        registry.register("batches", "Batches applied, live or replayed", self.batches.clone());
        registry.register("live_batches", "Batches that came on live connections", self.live.clone());
        registry.register("replayed_batches", "Batches that a replay brought", self.replayed.clone());
        registry.register(
            "duplicate_batches",
            "Live batches that a replay had brought",
            self.duplicates.clone(),
        );
        registry.register("skipped", "Events skipped as unknown or malformed", self.skipped.clone());
        registry.register("unreadable_messages", "Messages that were no batch", self.unreadable.clone());
        registry.register("sequence_gaps", "Jumps in a publisher's sequence", self.gaps.clone());
        registry.register("disconnects", "Connections to publishers that ended", self.disconnects.clone());
        registry.register("replays", "Replays by how they ended", self.replays.clone());
        registry.register("losses", "Times that a publisher's blocks came in doubt", self.losses.clone());
        registry.register("unmapped_messages", "Central messages without an endpoint", self.unmapped.clone());
        registry.register("streams", "Publishers that are followed", self.streams.clone());
        registry.register(
            "endpoints_unknown_model",
            "Endpoints whose model is not configured",
            self.unknown_model.clone(),
        );
        registry.register("streams_live", "Publishers that are up and in order", self.streams_live.clone());
        registry.register(
            "streams_by_trust",
            "Publishers that are followed, by how far they can be trusted",
            self.streams_by_trust.clone(),
        );
        registry.register(
            "trust_changes",
            "Changes of trust, by what it became and why",
            self.trust_changes.clone(),
        );
        registry.register(
            "capacity_asks",
            "Engines asked how many blocks their GPU has memory for, by answer",
            self.capacity_asks.clone(),
        );
        registry.register("probes", "Silent publishers asked whether they live", self.probes.clone());
    }

    /// A stream is followed from now on.
    pub(super) fn followed(&self, state: TrustState) {
        self.streams.inc();
        self.gauge(state).inc();
    }

    /// A stream is followed no longer.
    pub(super) fn unfollowed(&self, state: TrustState) {
        self.streams.dec();
        self.gauge(state).dec();
        if is_up(state) {
            self.streams_live.dec();
        }
    }

    /// The trust of a stream has changed.
    pub(super) fn trust_changed(&self, from: TrustState, to: TrustState, reason: crate::index::Reason) {
        self.trust_changes.get_or_create(&TrustChange { trust: to.name(), reason: reason.name() }).inc();
        self.gauge(from).dec();
        self.gauge(to).inc();
        match (is_up(from), is_up(to)) {
            (false, true) => drop(self.streams_live.inc()),
            (true, false) => drop(self.streams_live.dec()),
            _ => {}
        }
    }

    fn gauge(&self, state: TrustState) -> Gauge {
        self.streams_by_trust.get_or_create(&TrustLabel { trust: state.name() }).clone()
    }
}

fn is_up(state: TrustState) -> bool {
    matches!(state, TrustState::Live | TrustState::Partial)
}
