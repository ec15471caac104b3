//! Places of blocks.

use super::SHARDS;

/// A block of a shard: its segment and its offset there.
pub(super) type Place = (u32, usize);

/// The place of a block: shard, segment, offset, in 40 bits. Valid while any holder holds the block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlockRef(u64);

impl BlockRef {
    pub(super) fn new(shard: usize, (segment, offset): Place) -> Self {
        Self((shard as u64) << 36 | u64::from(segment) << 12 | offset as u64)
    }

    /// From what [`BlockRef::bits`] gave.
    pub(in crate::index) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its 40 bits.
    pub(in crate::index) fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn shard(self) -> usize {
        (self.0 >> 36) as usize % SHARDS
    }

    pub(super) fn place(self) -> Place {
        ((self.0 >> 12) as u32 & 0xff_ffff, self.0 as usize & 0xfff)
    }
}
