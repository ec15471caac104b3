//! Counters of the event streams.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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

/// What came over the event streams, and what went wrong on them.
#[derive(Default)]
pub struct EventMetrics {
    /// Batches applied, live or replayed.
    pub batches: Counter,
    /// Those of them that a replay brought.
    pub replayed: Counter,
    /// Live batches that a replay had brought before.
    pub duplicates: Counter,
    /// Events that were skipped, by what was wrong with them.
    pub skipped: Family<Reason, Counter>,
    /// Messages that were no batch: their publisher's blocks were dropped.
    pub unreadable: Counter,
    /// Jumps in a publisher's sequence.
    pub gaps: Counter,
    /// Connections that ended.
    pub disconnects: Counter,
    /// Replays, by how they ended: `complete`, `late_start`, `hole`, `other_process`, `failed`.
    pub replays: Family<Reason, Counter>,
    /// Times that a publisher's blocks were dropped: `disconnect`, `gap`, `restart`, `late_start`, `unreadable`.
    pub losses: Family<Reason, Counter>,
    /// Messages on the central socket from a topic (or rank) without a configured endpoint.
    pub unmapped: Counter,
    /// Publishers that are followed.
    pub streams: Gauge,
    /// Those of them that are up and in order.
    pub streams_live: Gauge,
    /// Endpoints that are not followed because their model is not configured.
    pub unknown_model: Gauge,
}

impl EventMetrics {
    /// Adds all metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("warmpath_events");
        registry.register("batches", "Batches applied, live or replayed", self.batches.clone());
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
        registry.register("losses", "Times that a publisher's blocks were dropped", self.losses.clone());
        registry.register("unmapped_messages", "Central messages without an endpoint", self.unmapped.clone());
        registry.register("streams", "Publishers that are followed", self.streams.clone());
        registry.register(
            "endpoints_unknown_model",
            "Endpoints whose model is not configured",
            self.unknown_model.clone(),
        );
        registry.register("streams_live", "Publishers that are up and in order", self.streams_live.clone());
    }
}
