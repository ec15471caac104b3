//! The entries in the order in which they came ([`Log`]), and an index of them.
//!
//! The index has [`Bucket`]s of one cache line, each with 15 numbers: a tag of the hash, and the entry's position. So a
//! new hash costs one line that is not in the cache, as the end of the log is; and what is in no order, and must have
//! room to spare, is 4 of an entry's 16 to 18 bytes.
//!
//! A number lies in the bucket of its hash, its **home**, or in the next one that had room; every bucket that it went
//! past counts it, so that a search ends at the first one that nothing went past, and taking a number out moves no
//! other. Positions take as many bits as the index can have entries, the tag has the rest: 17 bits for 30,000 entries, 10
//! for four million, of which one search in a hundred then reads an entry in vain. The bytes of a hash that are in the tag are
//! not in the log as well: two of them up to 65,535 entries, one up to 16 million.

mod growth;

use fastrand::Rng;
use prefetch_index::prefetch_index;

use super::bucket::Bucket;
use super::log::{CUT_MAX, Log, Packed};

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
    /// Bits of a number that are the position; the others are the tag.
    places: u32,
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
        let of = |number: u32| {
            let (hash, value) = self.log.at(self.position(number));
            (hash | self.low(number), value)
        };
        self.buckets.iter().flat_map(move |bucket| (0..bucket.len()).map(move |slot| of(bucket.at(slot))))
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        // All bits that may be cut say nothing, so that what the log keeps is enough to know the home.
        let hash = hash >> CUT_MAX;
        ((u128::from(hash) * self.buckets.len() as u128) >> (u64::BITS - CUT_MAX)) as usize
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// The bits of a number that are its tag.
    #[inline]
    fn tags(&self) -> u32 {
        (u64::from(u32::MAX) << self.places) as u32
    }

    #[inline]
    fn number(&self, hash: u64, position: usize) -> u32 {
        // The first bits of the hash say the home: the last ones are others.
        (hash << self.places) as u32 | position as u32
    }

    /// What the log has cut of the hash.
    #[inline]
    fn low(&self, number: u32) -> u64 {
        u64::from(number) >> self.places & ((1 << self.log.cut()) - 1)
    }

    /// Asks memory for what a search for `hash` will read, and for where it would be added.
    #[inline]
    pub(super) fn touch(&self, hash: u64) {
        prefetch_index(&self.buckets, self.home(hash));
        self.log.touch();
    }

    /// Where `hash` is.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64) -> Option<At> {
        let mut at = self.home(hash);
        // What is cut is in the tag.
        let (tag, tags, high) = (self.number(hash, 0), self.tags(), hash & (u64::MAX << self.log.cut()));
        loop {
            let bucket = self.buckets.get(at)?;
            for slot in bucket.search(tag, tags) {
                if self.log.hash((bucket.at(slot) & !tags) as usize) == high {
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
        (number & !self.tags()) as usize
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
        if self.is_sparse() {
            self.grow(random);
        }
        if self.len() == 0 {
            *self = Self::default();
        }
    }

    /// Puts the entry that was the last one where another was taken out.
    fn refill(&mut self, removed: usize, hash: u64, value: Packed) {
        let (last, tags) = (self.len() as u32, self.tags());
        self.log.set(removed, hash, value);
        let mut bucket = self.home(hash);
        // It is in one of the buckets up to the first that nothing went past.
        for _ in 0..self.buckets.len() {
            let line = &mut self.buckets[bucket];
            if let Some(slot) = line.search(last, !tags).next() {
                return line.set(slot, line.at(slot) & tags | removed as u32);
            }
            bucket = self.next(bucket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Each bucket must count just those that went past it, or searches would end too early or go on for ever longer.
    fn check(table: &Table) {
        let mut passed = vec![0_u32; table.buckets.len()];
        for (hash, value) in table.iter() {
            let at = table.find(hash).expect("every entry is found");
            assert_eq!(table.at(at), value);
            let mut bucket = table.home(hash);
            assert_eq!(bucket, table.home(hash >> CUT_MAX << CUT_MAX), "what the log keeps says the home");
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

    /// Eight hashes at a time that differ only in bits which the log cuts, through both numbers of such bits and back.
    #[test]
    fn hashes_that_are_alike_in_the_log_stay_apart() {
        let mut random = Rng::with_seed(2);
        let (mut table, mut twin) = (Table::default(), HashMap::new());
        let (mut hashes, mut cuts) = (Vec::new(), Vec::new());
        while table.len() < 70_000 {
            let first = random.u64(..);
            for hash in (0..8).map(|nth| first ^ (nth * 0x1249)) {
                let value = [(); 6].map(|()| random.u8(..));
                assert!(table.find(hash).is_none(), "{hash:x} is not there");
                table.insert(hash, value, &mut random);
                twin.insert(hash, value);
                hashes.push(hash);
            }
            cuts.push(table.log.cut());
        }
        random.shuffle(&mut hashes);
        assert_eq!(table.iter().collect::<HashMap<_, _>>(), twin);
        while let Some(hash) = hashes.pop() {
            let at = table.find(hash).expect("it is there");
            assert_eq!(Some(table.at(at)), twin.remove(&hash));
            table.remove(at, hash, &mut random);
            cuts.push(table.log.cut());
            if table.len() % 20_000 == 0 {
                table.retain(&mut random, |hash, value| (hash % 64 != 5).then_some(value));
                twin.retain(|hash, _| hash % 64 != 5);
                hashes.retain(|hash| hash % 64 != 5);
                check(&table);
                assert_eq!(table.iter().collect::<HashMap<_, _>>(), twin);
            }
        }
        cuts.dedup();
        assert_eq!((cuts, table.len(), table.bytes()), (vec![16, 8, 16, 0], 0, 0));
    }
}
