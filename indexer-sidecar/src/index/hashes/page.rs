//! A part of the table of engine hashes: buckets of two cache lines, each with room for nine entries.
//!
//! An entry lies in the bucket of its hash, its **home**, or in the next one that had room. Entries of a bucket are in
//! no order, so that adding one moves none; a bucket counts those that went past it, so that a search ends at the
//! first bucket that nobody passed (as in F14, Bronson and Shi, "Open-sourcing F14", 2019).
//!
//! A page is rewritten at another size when it is too full or too empty. All pages fill at the same pace, and would all
//! grow at the same moment, if they began equally full: so how full a page begins is drawn for each.

use fastrand::Rng;
use prefetch_index::prefetch_index;

/// Entries of one bucket: nine make 126 bytes, and two bytes say how many there are.
const SLOTS: usize = 9;
/// Fullest, in parts of the slots. At more, every second search goes on in the next bucket.
const FULL: f64 = 0.90;
/// As full after it was full and grew: by half, so that each entry is copied twice in all. Over all pages, at a random
/// moment of their growth, an entry takes 128 / 9 bytes / 0.743, 19.2.
const GROWN: f64 = 0.62;
/// Emptier than this it shrinks.
const EMPTY: f64 = 0.40;
/// So many entries have passed a bucket that they are not counted any more: it stays passed until it is rewritten.
const PASSED_MAX: u8 = u8::MAX;

/// What is kept for a hash: place, 5 bytes | copies and flags, 1 byte.
pub(super) type Packed = [u8; 6];

/// Two cache lines; the hashes come first, and nearly all of them lie in one.
#[derive(Clone, Default)]
#[repr(C, align(64))]
struct Bucket {
    hashes: [u64; SLOTS],
    values: [Packed; SLOTS],
    len: u8,
    /// Entries that have their home here or before, and lie behind.
    passed: u8,
}

/// Where an entry is.
#[derive(Clone, Copy)]
pub(super) struct At {
    bucket: u32,
    slot: u32,
}

/// See the module. Hashes are compared as they are; `bits` leading ones are the same in the whole page.
#[derive(Default)]
pub(super) struct Page {
    buckets: Box<[Bucket]>,
    len: u32,
    /// Most entries.
    full: u32,
}

impl Bucket {
    #[inline]
    fn find(&self, hash: u64) -> Option<usize> {
        // Without branches: one that is not there is as frequent as one that is.
        let equal = |bits: u32, at: usize| bits | u32::from(self.hashes[at] == hash) << at;
        let equal = (0..SLOTS).fold(0, equal) & ((1 << self.len) - 1);
        (equal != 0).then_some(equal.trailing_zeros() as usize)
    }
}

impl Page {
    /// A page for `entries`, as full as one is at a random moment between two times that it grows.
    pub(super) fn for_entries(entries: usize, random: &mut Rng) -> Self {
        Self::filled(entries, FULL * (GROWN / FULL).powf(random.f64()))
    }

    /// A page that so many `entries` fill to a part.
    fn filled(entries: usize, part: f64) -> Self {
        let buckets = (entries as f64 / (SLOTS as f64 * part)).ceil() as usize;
        let full = (buckets as f64 * SLOTS as f64 * FULL) as u32;
        Self { buckets: vec![Bucket::default(); buckets].into_boxed_slice(), len: 0, full }
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    /// Its entries, those with lower homes first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Packed)> {
        self.buckets.iter().flat_map(|bucket| {
            let hashes = bucket.hashes.iter().zip(&bucket.values).take(usize::from(bucket.len));
            hashes.map(|(hash, value)| (*hash, *value))
        })
    }

    #[inline]
    fn home(&self, hash: u64, bits: u32) -> usize {
        ((u128::from(hash << bits) * self.buckets.len() as u128) >> 64) as usize
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// Asks memory for what a search for `hash` will read.
    #[inline]
    pub(super) fn touch(&self, hash: u64, bits: u32) {
        if let Some(bucket) = self.buckets.get(self.home(hash, bits)) {
            // One in each of its lines.
            prefetch_index(bucket.hashes.as_slice(), 0);
            prefetch_index(bucket.values.as_slice(), 0);
        }
    }

    /// Where `hash` is.
    #[inline]
    pub(super) fn find(&self, hash: u64, bits: u32) -> Option<At> {
        let home = self.home(hash, bits);
        let mut at = home;
        loop {
            let bucket = self.buckets.get(at)?;
            if let Some(slot) = bucket.find(hash) {
                return Some(At { bucket: at as u32, slot: slot as u32 });
            }
            at = self.next(at);
            // All may have been passed, each at another time.
            if bucket.passed == 0 || at == home {
                return None;
            }
        }
    }

    /// What is kept at a place that [`Page::find`] gave.
    #[inline]
    pub(super) fn at(&self, at: At) -> Packed {
        self.buckets[at.bucket as usize].values[at.slot as usize]
    }

    /// The same, to change it.
    #[inline]
    pub(super) fn at_mut(&mut self, at: At) -> &mut Packed {
        &mut self.buckets[at.bucket as usize].values[at.slot as usize]
    }

    /// Whether there is no room for another entry.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len >= self.full
    }

    /// Whether it should be smaller.
    #[inline]
    pub(super) fn is_sparse(&self) -> bool {
        f64::from(self.len) < f64::from(self.full) * (EMPTY / FULL) && self.buckets.len() > 1
    }

    /// Adds an entry that is not in it. There must be room.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, value: Packed, bits: u32) {
        let mut at = self.home(hash, bits);
        while usize::from(self.buckets[at].len) == SLOTS {
            self.buckets[at].passed = self.buckets[at].passed.saturating_add(1);
            at = self.next(at);
        }
        let bucket = &mut self.buckets[at];
        let slot = usize::from(bucket.len);
        (bucket.hashes[slot], bucket.values[slot]) = (hash, value);
        bucket.len += 1;
        self.len += 1;
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, at: At, bits: u32) {
        let (found, slot) = (at.bucket as usize, at.slot as usize);
        let mut passed = self.home(self.buckets[found].hashes[slot], bits);
        while passed != found {
            let count = &mut self.buckets[passed].passed;
            *count -= u8::from(*count < PASSED_MAX);
            passed = self.next(passed);
        }
        let bucket = &mut self.buckets[found];
        let last = usize::from(bucket.len) - 1;
        (bucket.hashes[slot], bucket.values[slot]) = (bucket.hashes[last], bucket.values[last]);
        bucket.len -= 1;
        self.len -= 1;
    }

    /// The same entries in more room, or in less.
    pub(super) fn rewritten(&self, bits: u32) -> Self {
        let mut page = Self::filled(self.len() + 1, GROWN);
        self.iter().for_each(|(hash, value)| page.insert(hash, value, bits));
        page
    }
}
