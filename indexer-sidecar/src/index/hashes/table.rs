//! The entries in the order in which they came ([`Log`]), and an index of them.
//!
//! The index has [`Bucket`]s of one cache line, each with 15 numbers: a tag of the hash, and the entry's position. So a
//! new hash costs one line that is not in the cache, as the end of the log is; and what is in no order, and must have
//! room to spare, is 4 of an entry's 18 bytes.
//!
//! A number lies in the bucket of its hash, its **home**, or in the next one that had room; every bucket that it went
//! past counts it, so that a search ends at the first one that nothing went past, and taking a number out moves no
//! other. Positions take as many bits as the index can have entries, the tag has the rest: 17 bits for 30,000 entries, 10
//! for four million, of which one search in a hundred then reads an entry in vain.
//!
//! The index is written anew from the log at another size when it is too full or too empty. All tables of a model fill at
//! the same pace, and would all grow at the same moment if they grew alike: so by how much is drawn each time.

use fastrand::Rng;
use prefetch_index::prefetch_index;

use super::bucket::{Bucket, SLOTS};
use super::log::{Log, Packed, hash_of};

/// Fullest, in parts of the slots. At more, too many numbers lie beyond their home.
const FULL: f64 = 0.91;
/// As full after it grew, between these: by two thirds, so that each number is written three times in all. Over all
/// tables, at a random moment of their growth, an entry takes 4.3 bytes / 0.70 here.
const GROWN: [f64; 2] = [0.52, 0.58];
/// Emptier than this it shrinks.
const EMPTY: f64 = 0.40;

/// Where an entry is.
#[derive(Clone, Copy)]
pub(super) struct At {
    bucket: usize,
    slot: usize,
}

/// See the module.
#[derive(Default)]
pub(super) struct Table {
    buckets: Box<[Bucket]>,
    /// The bits of a number that are its tag; the others are the position.
    tags: u32,
    /// Most entries.
    full: u32,
    log: Log,
}

impl Table {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.log.len()
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>() + self.log.bytes()
    }

    /// Its entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Packed)> {
        self.log.iter()
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> u64::BITS) as usize
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    #[inline]
    fn number(&self, hash: u64, position: usize) -> u32 {
        // The first bits of the hash say the home: the last ones are others.
        hash as u32 & self.tags | position as u32
    }

    /// Asks memory for what a search for `hash` will read, and for where it would be added.
    #[inline]
    pub(super) fn touch(&self, hash: u64) {
        prefetch_index(&self.buckets, self.home(hash));
        self.log.touch();
    }

    /// Where `hash` is.
    #[inline]
    pub(super) fn find(&self, hash: u64) -> Option<At> {
        let mut at = self.home(hash);
        loop {
            let bucket = self.buckets.get(at)?;
            for slot in bucket.search(hash as u32, self.tags) {
                if self.log.at(self.position(bucket.at(slot))).0 == hash {
                    return Some(At { bucket: at, slot });
                }
            }
            if bucket.passed() == 0 {
                return None;
            }
            at = self.next(at);
        }
    }

    #[inline]
    fn position(&self, number: u32) -> usize {
        (number & !self.tags) as usize
    }

    #[inline]
    fn position_of(&self, at: At) -> usize {
        self.position(self.buckets[at.bucket].at(at.slot))
    }

    /// What is kept at a place that [`Self::find`] gave.
    #[inline]
    pub(super) fn at(&self, at: At) -> Packed {
        self.log.at(self.position_of(at)).1
    }

    /// Changes what is kept there for `hash`.
    #[inline]
    pub(super) fn set(&mut self, at: At, hash: u64, value: Packed) {
        self.log.set(self.position_of(at), hash, value);
    }

    /// Adds an entry that [`Self::find`] did not find.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, value: Packed, random: &mut Rng) {
        if self.len() >= self.full as usize {
            self.grow(random);
        }
        let number = self.number(hash, self.len());
        let bucket = self.room(self.home(hash));
        self.buckets[bucket].push(number);
        self.log.push(hash, value);
    }

    /// The first bucket with room for a number whose home is `bucket`. Those before count it.
    #[inline]
    fn room(&mut self, bucket: usize) -> usize {
        let mut at = bucket;
        while self.buckets[at].is_full() {
            self.buckets[at].pass();
            at = self.next(at);
        }
        at
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, at: At, hash: u64, random: &mut Rng) {
        let removed = self.position_of(at);
        self.buckets[at.bucket].remove(at.slot);
        let mut passed = self.home(hash);
        while passed != at.bucket {
            self.buckets[passed].unpass();
            passed = self.next(passed);
        }
        if let Some((hash, value)) = self.log.pop()
            && removed != self.len()
        {
            self.refill(removed, hash, value);
        }
        if (self.len() as f64) < f64::from(self.full) * (EMPTY / FULL) && self.buckets.len() > 1 {
            self.grow(random);
        }
        if self.len() == 0 {
            *self = Self::default();
        }
    }

    /// Puts the entry that was the last one where another was taken out.
    fn refill(&mut self, removed: usize, hash: u64, value: Packed) {
        self.log.set(removed, hash, value);
        let (old, new) = (self.number(hash, self.len()), self.number(hash, removed));
        let mut bucket = self.home(hash);
        // It is in one of the buckets up to the first that nothing went past.
        for _ in 0..self.buckets.len() {
            let slots = self.buckets[bucket].search(hash as u32, self.tags);
            for slot in slots {
                if self.buckets[bucket].at(slot) == old {
                    return self.buckets[bucket].set(slot, new);
                }
            }
            bucket = self.next(bucket);
        }
    }

    /// Keeps the entries of which `keep` makes others.
    pub(super) fn retain(&mut self, random: &mut Rng, mut keep: impl FnMut(u64, Packed) -> Option<Packed>) {
        let mut kept = 0;
        for position in 0..self.len() {
            let (hash, value) = self.log.at(position);
            if let Some(value) = keep(hash, value) {
                self.log.set(kept, hash, value);
                kept += 1;
            }
        }
        if kept == 0 {
            *self = Self::default();
        } else if kept < self.len() {
            while self.len() > kept {
                self.log.pop();
            }
            self.grow(random);
        }
    }

    /// Writes the index anew, as large as it should be for its entries and one more.
    #[cold]
    fn grow(&mut self, random: &mut Rng) {
        let part = GROWN[0] + (GROWN[1] - GROWN[0]) * random.f64();
        let buckets = ((self.len() + 1) as f64 / (SLOTS as f64 * part)).ceil() as usize;
        self.full = ((buckets * SLOTS) as f64 * FULL) as u32;
        self.tags = !(u32::MAX >> self.full.leading_zeros());
        // Before there is another one: it holds nothing that the log does not.
        self.buckets = Box::default();
        self.buckets = vec![Bucket::NEW; buckets].into_boxed_slice();
        let log = std::mem::take(&mut self.log);
        let mut position = 0;
        for chunk in log.chunks() {
            // A large index is in no cache: many lines are waited for together.
            chunk.iter().for_each(|entry| prefetch_index(&self.buckets, self.home(hash_of(entry))));
            for entry in chunk {
                let hash = hash_of(entry);
                let number = self.number(hash, position);
                let bucket = self.room(self.home(hash));
                self.buckets[bucket].push(number);
                position += 1;
            }
        }
        self.log = log;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each bucket must count just those that went past it, or searches would end too early or go on for ever longer.
    fn check(table: &Table) {
        let mut passed = vec![0_u32; table.buckets.len()];
        for (hash, value) in table.iter() {
            let at = table.find(hash).expect("every entry is found");
            assert_eq!(table.at(at), value);
            let mut bucket = table.home(hash);
            while bucket != at.bucket {
                passed[bucket] += 1;
                bucket = table.next(bucket);
            }
        }
        for (bucket, passed) in table.buckets.iter().zip(passed) {
            assert_eq!(bucket.passed(), passed);
        }
    }

    #[test]
    fn buckets_count_what_went_past_them() {
        let mut random = Rng::with_seed(1);
        let (mut table, mut held, mut crowded) = (Table::default(), Vec::new(), 0);
        for at in 0..40_000 {
            if at < 10_000 || random.usize(..100) < if at < 30_000 { 50 } else { 20 } {
                let hash = random.u64(..);
                table.insert(hash, [at as u8; 6], &mut random);
                held.push(hash);
            } else if !held.is_empty() {
                let hash = held.swap_remove(random.usize(..held.len()));
                let at = table.find(hash).expect("it is held");
                table.remove(at, hash, &mut random);
            }
            if at % 500 == 0 {
                check(&table);
                crowded += table.buckets.iter().filter(|bucket| bucket.passed() > 0).count();
            }
        }
        assert!(crowded > 1_000, "only {crowded} buckets were ever passed");
        assert_eq!(table.len(), held.len());
    }
}
