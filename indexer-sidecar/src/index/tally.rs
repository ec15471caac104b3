//! What a stream's events came to, by group of layers and medium.

use std::collections::BTreeMap;

use serde::Serialize;

use super::admission::Skip;
use super::groups::GroupId;
use super::metrics::IndexMetrics;
use crate::events::event::Medium;

/// Counts of one (group, medium).
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Counts {
    /// `BlockStored` events.
    pub stored_events: u64,
    /// Those of them of which no block was taken in.
    pub skipped_events: u64,
    /// `BlockRemoved` events.
    pub removed_events: u64,
    /// Copies of blocks taken in.
    pub admitted: u64,
    /// Copies of blocks taken away by `BlockRemoved`.
    pub evicted: u64,
    /// Blocks that were credited again because a store proved their chain, or a recent pick did.
    pub proven_again: u64,
    /// Blocks whose parent was unknown when they came.
    pub orphans: u64,
    /// Those of them whose parent turned up.
    pub linked: u64,
    /// Hashes that were forgotten because the index had used up its bytes.
    pub forgotten: u64,
    /// Blocks that were not taken in, by [`Skip::reason`].
    pub skipped: BTreeMap<&'static str, u64>,
}

/// Counts by (group, medium) since the stream was opened, and those that are not in the metrics yet.
#[derive(Clone, Default, Debug)]
pub(super) struct Tally {
    counts: BTreeMap<(GroupId, Medium), Counts>,
    pub(super) cleared_events: u64,
    admitted: u64,
    evicted: u64,
    proven_again: u64,
    skipped: BTreeMap<Skip, u64>,
}

impl Tally {
    pub(super) fn of(&mut self, group: GroupId, medium: Medium) -> &mut Counts {
        self.counts.entry((group, medium)).or_default()
    }

    pub(super) fn admit(&mut self, group: GroupId, medium: Medium, copies: u64) {
        self.of(group, medium).admitted += copies;
        self.admitted += copies;
    }

    pub(super) fn evict(&mut self, group: GroupId, medium: Medium, copies: u64) {
        self.of(group, medium).evicted += copies;
        self.evicted += copies;
    }

    pub(super) fn prove(&mut self, group: GroupId, medium: Medium, blocks: u64) {
        self.of(group, medium).proven_again += blocks;
        self.proven_again += blocks;
    }

    pub(super) fn skip(&mut self, group: GroupId, medium: Medium, skip: Skip, blocks: u64) {
        if blocks > 0 {
            *self.of(group, medium).skipped.entry(skip.reason()).or_default() += blocks;
            *self.skipped.entry(skip).or_default() += blocks;
        }
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (GroupId, Medium, &Counts)> {
        self.counts.iter().map(|((group, medium), counts)| (*group, *medium, counts))
    }

    /// Moves what is not in the metrics yet into them.
    pub(super) fn flush(&mut self, metrics: &IndexMetrics) {
        metrics.admissions.inc_by(std::mem::take(&mut self.admitted));
        metrics.evictions.inc_by(std::mem::take(&mut self.evicted));
        metrics.proven_again.inc_by(std::mem::take(&mut self.proven_again));
        for (skip, blocks) in std::mem::take(&mut self.skipped) {
            metrics.count_skipped(skip, blocks);
        }
    }
}
