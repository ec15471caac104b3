//! One cache line of the index: up to 15 numbers, a tag beside a position each, and how many lie elsewhere.

use wide::u32x4;

/// Numbers of one bucket.
pub(super) const SLOTS: usize = 15;
/// Bits of the first word that count the numbers in it; those above count what lies elsewhere.
const LEN_BITS: u32 = 4;
const LEN_MASK: u32 = (1 << LEN_BITS) - 1;

/// First the counts, then the numbers.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Bucket([u32; SLOTS + 1]);

/// Slots of a bucket as bits.
#[derive(Clone, Copy)]
pub(super) struct Slots(u32);

impl Bucket {
    /// Without numbers.
    pub(super) const NEW: Self = Self([0; SLOTS + 1]);

    /// The slots whose number has this `tag` in the bits of `tags`.
    #[inline]
    pub(super) fn search(&self, tag: u32, tags: u32) -> Slots {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        let fours = [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]];
        let (tag, tags) = (u32x4::splat(tag & tags), u32x4::splat(tags));
        let [a, b, c, d] = fours.map(|four| (u32x4::new(four) & tags).simd_eq(tag).to_bitmask());
        let alike = (a | b << 4 | c << 8 | d << 12) >> 1;
        Slots(alike & ((1 << self.len()) - 1))
    }

    /// Numbers in it.
    #[inline]
    pub(super) fn len(&self) -> usize {
        (self.0[0] & LEN_MASK) as usize
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len() == SLOTS
    }

    /// How many numbers went past it because it was full: if any, a search goes on in the next bucket.
    #[inline]
    pub(super) fn passed(&self) -> u32 {
        self.0[0] >> LEN_BITS
    }

    /// Another number went past it.
    pub(super) fn pass(&mut self) {
        self.0[0] += 1 << LEN_BITS;
    }

    /// One that went past it is gone.
    pub(super) fn unpass(&mut self) {
        self.0[0] -= 1 << LEN_BITS;
    }

    /// The number in a slot.
    #[inline]
    pub(super) fn at(&self, slot: usize) -> u32 {
        self.0[slot + 1]
    }

    /// Sets the number in a slot that is in use.
    #[inline]
    pub(super) fn set(&mut self, slot: usize, number: u32) {
        self.0[slot + 1] = number;
    }

    /// Adds a number. It must not be full.
    #[inline]
    pub(super) fn push(&mut self, number: u32) {
        self.set(self.len(), number);
        self.0[0] += 1;
    }

    /// Takes a number out; the last one takes its slot.
    pub(super) fn remove(&mut self, slot: usize) {
        let last = self.len() - 1;
        self.set(slot, self.at(last));
        self.0[0] -= 1;
    }
}

impl Iterator for Slots {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let next = (self.0 != 0).then_some(self.0.trailing_zeros() as usize);
        self.0 &= self.0.wrapping_sub(1);
        next
    }
}
