//! A hash table that grows and shrinks one bucket at a time, so that its memory follows its size without steps.
//!
//! Linear hashing (Litwin, "Linear hashing: a new tool for file and table addressing", VLDB 1980): bucket `n` is made
//! by splitting bucket `n - 2^floor(log2 n)`. Buckets are short vectors with little room to spare. Cost: one bucket,
//! [`PER_BUCKET`] entries on average, is scanned; beside the entries a bucket is [`HEADER_BYTES`] and on average half
//! of [`STEP`] free entries. Nothing is allocated for an empty table.
//!
//! Where an entry lies depends on a factor drawn for each table, so that a publisher cannot choose hashes that meet in
//! one bucket.

use std::mem::size_of;

/// Entries of a bucket, on average.
const PER_BUCKET: usize = 16;
/// Buckets of one directory chunk: the step in which the directory grows.
const CHUNK: usize = 64;
/// Entries by which a full bucket grows.
const STEP: usize = 3;
/// Bytes of a bucket itself.
const HEADER_BYTES: usize = size_of::<Vec<u8>>();

/// The table. Entries are opaque: the caller compares them, and says the hash of one when a bucket is split.
pub(super) struct Growing<T> {
    chunks: Vec<Box<[Vec<T>]>>,
    buckets: usize,
    len: usize,
    factor: u64,
    bytes: usize,
}

impl<T> Default for Growing<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), buckets: 0, len: 0, factor: fastrand::u64(..) | 1, bytes: 0 }
    }
}

impl<T: Copy> Growing<T> {
    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.chunks.capacity() * size_of::<Box<[Vec<T>]>>()
    }

    /// Entries that `hash` may be among.
    #[inline]
    pub(super) fn bucket(&self, hash: u64) -> &[T] {
        if self.buckets == 0 {
            return &[];
        }
        let at = self.at(hash);
        &self.chunks[at / CHUNK][at % CHUNK]
    }

    /// Adds an entry. `hash_of` gives the hash of any entry.
    pub(super) fn push(&mut self, hash: u64, entry: T, hash_of: impl Fn(&T) -> u64) {
        if self.len >= self.buckets * PER_BUCKET {
            self.split(hash_of);
        }
        let at = self.at(hash);
        self.bytes += append(&mut self.chunks[at / CHUNK][at % CHUNK], entry);
        self.len += 1;
    }

    /// Takes out the entry at `index` of the bucket of `hash`.
    pub(super) fn remove(&mut self, hash: u64, index: usize, hash_of: impl Fn(&T) -> u64) -> T {
        let at = self.at(hash);
        let bucket = &mut self.chunks[at / CHUNK][at % CHUNK];
        let entry = bucket.swap_remove(index);
        self.bytes -= trim(bucket);
        self.len -= 1;
        // A quarter below the size at which a bucket was added, so that one entry to and fro does not split and join.
        if self.len < (self.buckets - 1) * PER_BUCKET * 3 / 4 || self.len == 0 {
            self.join(hash_of);
        }
        entry
    }

    #[inline]
    fn at(&self, hash: u64) -> usize {
        let spread = ((hash ^ hash >> 32).wrapping_mul(self.factor) >> 24) as usize;
        let mask = self.buckets.next_power_of_two() - 1;
        let at = spread & mask;
        if at < self.buckets { at } else { at & mask >> 1 }
    }

    fn split(&mut self, hash_of: impl Fn(&T) -> u64) {
        let new = self.buckets;
        if new.is_multiple_of(CHUNK) {
            self.chunks.push((0..CHUNK).map(|_| Vec::new()).collect());
            self.bytes += CHUNK * HEADER_BYTES;
        }
        self.buckets += 1;
        if new == 0 {
            return;
        }
        let old = new - (1 << new.ilog2());
        let bucket = std::mem::take(&mut self.chunks[old / CHUNK][old % CHUNK]);
        let (mut stay, mut leave) = (Vec::new(), Vec::new());
        let leaving = bucket.iter().filter(|entry| self.at(hash_of(entry)) == new).count();
        stay.reserve_exact(bucket.len() - leaving);
        leave.reserve_exact(leaving);
        for entry in &bucket {
            if self.at(hash_of(entry)) == new { leave.push(*entry) } else { stay.push(*entry) }
        }
        self.bytes = self.bytes + heap(&stay) + heap(&leave) - heap(&bucket);
        self.chunks[old / CHUNK][old % CHUNK] = stay;
        self.chunks[new / CHUNK][new % CHUNK] = leave;
    }

    fn join(&mut self, hash_of: impl Fn(&T) -> u64) {
        let last = self.buckets - 1;
        let bucket = std::mem::take(&mut self.chunks[last / CHUNK][last % CHUNK]);
        self.bytes -= heap(&bucket);
        self.buckets -= 1;
        for entry in bucket {
            let at = self.at(hash_of(&entry));
            self.bytes += append(&mut self.chunks[at / CHUNK][at % CHUNK], entry);
        }
        if last.is_multiple_of(CHUNK) {
            self.chunks.pop();
            self.chunks.shrink_to(2 * self.chunks.len());
            self.bytes -= CHUNK * HEADER_BYTES;
        }
    }
}

fn heap<T>(bucket: &Vec<T>) -> usize {
    bucket.capacity() * size_of::<T>()
}

/// Adds to a bucket; returns by how many bytes it grew.
fn append<T>(bucket: &mut Vec<T>, entry: T) -> usize {
    let before = heap(bucket);
    if bucket.len() == bucket.capacity() {
        bucket.reserve_exact(STEP);
    }
    bucket.push(entry);
    heap(bucket) - before
}

/// Gives back what a bucket does not need; returns how many bytes.
fn trim<T>(bucket: &mut Vec<T>) -> usize {
    let before = heap(bucket);
    if bucket.capacity() - bucket.len() > 2 * STEP {
        bucket.shrink_to(bucket.len() + STEP);
    }
    before - heap(bucket)
}
