//! Counters of the index.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::admission::Skip;

/// Label of [`IndexMetrics::skipped`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct SkipLabels {
    reason: &'static str,
}

/// Label of [`IndexMetrics::forgotten`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct ForgottenLabels {
    what: &'static str,
}

/// What went into the index and out of it.
#[derive(Default)]
pub struct IndexMetrics {
    /// Copies of blocks taken in.
    pub admissions: Counter,
    /// Copies of blocks that publishers removed.
    pub evictions: Counter,
    /// Blocks credited again after a loss: a store or a recent pick proved their chain.
    pub proven_again: Counter,
    /// Hashes forgotten because the bytes were used up: `remembered` (without a copy) or `credited`.
    pub forgotten: Family<ForgottenLabels, Counter>,
    /// Bytes used and reserved.
    pub bytes: Gauge,
    /// Most bytes that may be used.
    pub bytes_max: Gauge,
    /// Entries held.
    pub blocks: Gauge,
    /// Most entries that may be held.
    pub blocks_max: Gauge,
    /// Blocks that recent picks will bring.
    pub speculative_blocks: Gauge,
    /// Picks not all of whose blocks could be marked as coming.
    pub speculations_cut: Counter,
    /// Stored blocks that were not taken in, by [`Skip::reason`].
    pub skipped: Family<SkipLabels, Counter>,
}

impl IndexMetrics {
    /// Adds all metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("warmpath_index");
        registry.register("admissions", "Copies of blocks taken in", self.admissions.clone());
        registry.register("evictions", "Copies of blocks that publishers removed", self.evictions.clone());
        registry.register(
            "proven_again",
            "Blocks credited again after a loss, because a later store proved their chain",
            self.proven_again.clone(),
        );
        registry.register(
            "blocks",
            "Entries held: distinct publisher, group, medium and engine hash",
            self.blocks.clone(),
        );
        registry.register(
            "forgotten_blocks",
            "Hashes forgotten because the bytes were used up",
            self.forgotten.clone(),
        );
        registry.register("bytes", "Bytes used and reserved", self.bytes.clone());
        registry.register("bytes_max", "Most bytes that may be used", self.bytes_max.clone());
        registry.register("blocks_max", "Most entries that may be held", self.blocks_max.clone());
        registry.register(
            "speculative_blocks",
            "Blocks marked as coming by recent picks",
            self.speculative_blocks.clone(),
        );
        registry.register(
            "speculations_cut",
            "Picks not all of whose blocks could be marked as coming",
            self.speculations_cut.clone(),
        );
        registry.register("skipped_blocks", "Stored blocks that were not taken in", self.skipped.clone());
    }

    /// Stored blocks that were skipped for one reason.
    pub fn skipped(&self, reason: &'static str) -> u64 {
        self.skipped.get_or_create(&SkipLabels { reason }).get()
    }

    /// Hashes that were forgotten because the bytes were used up.
    pub fn forgotten(&self, what: &'static str) -> u64 {
        self.forgotten.get_or_create(&ForgottenLabels { what }).get()
    }

    pub(super) fn count_forgotten(&self, what: &'static str, hashes: u64) {
        self.forgotten.get_or_create(&ForgottenLabels { what }).inc_by(hashes);
    }

    pub(super) fn count_skipped(&self, skip: Skip, blocks: u64) {
        self.skipped.get_or_create(&SkipLabels { reason: skip.reason() }).inc_by(blocks);
    }
}
