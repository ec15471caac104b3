//! The bytes that a shard has reserved in the budget: some ahead, so that not every write meets there.

use std::mem::size_of;

use super::segment::{BLOCKS_MAX, MARKED};
use super::shard::Shard;
use crate::index::budget::Budget;

/// Room that is reserved at a time, and the most that is kept.
const ROOM_STEP: usize = 64 * 1024;
const ROOM_MAX: usize = 4 * ROOM_STEP;

impl Shard {
    /// Makes room to credit at least one part of `keys` blocks, out of `budget`; false: there is none left.
    pub(super) fn make_room(&mut self, budget: &Budget, keys: usize, slots: usize) -> bool {
        let needed = self.part_growth(keys, slots);
        if self.room < needed {
            self.room += budget.reserve((needed - self.room).max(ROOM_STEP));
        }
        self.room >= needed
    }

    /// Counts what a call that began at `before` bytes took from the room, or gave back.
    pub(super) fn settle(&mut self, budget: &Budget, before: usize) {
        self.room = (self.room + before).saturating_sub(self.bytes());
        if self.room > ROOM_MAX {
            budget.release(self.room - ROOM_STEP);
            self.room = ROOM_STEP;
        }
    }

    /// Bytes reserved and not used.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Most bytes by which it grows with one part of `keys` blocks, in one segment: keys with an eighth of them and of
    /// those before to spare, marks, a chunk of each slab, a bucket that is split, and a party that grows by a quarter or to
    /// one cut per slot.
    pub(super) fn part_growth(&self, keys: usize, slots: usize) -> usize {
        let slabs = self.segments.growth() + self.parties.growth();
        let marks = BLOCKS_MAX / MARKED * size_of::<u64>();
        2 * keys.min(BLOCKS_MAX) * size_of::<u64>() + BLOCKS_MAX + marks + 4 * slots + 3072 + slabs
    }
}
