//! Bounds of the index, and what it counts for.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::index::{BLOCKS_MAX_DEFAULT, BYTES_MAX_DEFAULT};
use crate::pick::weights::MediumWeights;

/// Bounds of the index.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndexConfig {
    /// The most entries (publisher, group, medium, block) in all; stores beyond it are not credited, and counted.
    pub blocks_max: usize,
    /// Bytes of the whole index on the heap: chains, engine hashes, what waits. When they are used up, what costs most and
    /// is worth least is forgotten, and the log, the metrics and `GET /v1/streams` say what.
    pub bytes_max: ByteSize,
    /// What a block that lies elsewhere than in GPU memory is worth, of one that lies there.
    pub medium_weights: MediumWeights,
    /// How long the blocks of a pick count as coming on the endpoint that it chose, so that a burst of requests with
    /// one new prefix stays together; 0: not at all.
    #[serde(with = "humantime_serde")]
    pub speculate_for: Duration,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            blocks_max: BLOCKS_MAX_DEFAULT,
            bytes_max: ByteSize::b(BYTES_MAX_DEFAULT as u64),
            medium_weights: MediumWeights::default(),
            speculate_for: Duration::ZERO,
        }
    }
}
