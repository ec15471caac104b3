//! The order of merges in a long word: a queue of pairs by rank, then by position.
//!
//! Ranks come out almost always in rising order, as what a merge makes takes part in later merges only: a radix heap
//! (Ahuja, Mehlhorn, Orlin, Tarjan 1990) sorts such keys with a few moves each, where a binary heap has a path of cache
//! misses. A pair that is put in with a rank already reached, which files not made by training can cause, goes into a
//! small binary heap that is asked first. Pairs of one rank are sorted by position when their turn comes, and mostly are
//! already.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One for every position of the highest bit in which a rank of 22 bits can differ from the current one, and one for none.
const BUCKETS: usize = 23;

/// Capacity that is kept between words, in entries per bucket.
const KEPT_MAX: usize = 4096;

/// The queue. A key is a rank above 32 bits of position.
#[derive(Default)]
pub(super) struct Queue {
    buckets: [Vec<u64>; BUCKETS],
    /// Pairs of the current rank, and how many of them are done.
    batch: Vec<u64>,
    done: usize,
    rank: u32,
    /// Pairs of ranks up to the current one that came later.
    late: BinaryHeap<Reverse<u64>>,
}

fn rank_of(key: u64) -> u32 {
    (key >> 32) as u32
}

impl Queue {
    /// Starts anew with these keys.
    pub(super) fn fill(&mut self, keys: impl Iterator<Item = u64>) -> usize {
        for bucket in &mut self.buckets {
            bucket.clear();
            bucket.shrink_to(KEPT_MAX);
        }
        self.batch.clear();
        self.batch.shrink_to(KEPT_MAX);
        self.late.clear();
        (self.done, self.rank) = (0, 0);
        let mut count = 0;
        for key in keys {
            self.keep(key);
            count += 1;
        }
        count
    }

    /// Puts a key in.
    #[inline]
    pub(super) fn push(&mut self, key: u64) {
        if rank_of(key) > self.rank { self.keep(key) } else { self.late.push(Reverse(key)) }
    }

    /// Takes the lowest key out.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<u64> {
        loop {
            let next = self.batch.get(self.done).copied();
            if let Some(Reverse(late)) = self.late.peek().copied()
                && next.is_none_or(|next| late < next)
            {
                self.late.pop();
                return Some(late);
            }
            if next.is_some() {
                self.done += 1;
                return next;
            }
            self.refill()?;
        }
    }

    fn keep(&mut self, key: u64) {
        let bucket = 32 - (rank_of(key) ^ self.rank).leading_zeros() as usize;
        if let Some(bucket) = self.buckets.get_mut(bucket.min(BUCKETS - 1)) {
            bucket.push(key);
        }
    }

    /// Makes a batch of the lowest rank there is.
    fn refill(&mut self) -> Option<()> {
        self.batch.clear();
        self.done = 0;
        let lowest = self.buckets.iter_mut().find(|bucket| !bucket.is_empty())?;
        let mut keys = std::mem::take(lowest);
        self.rank = keys.iter().copied().map(rank_of).min()?;
        for key in &keys {
            if rank_of(*key) == self.rank { self.batch.push(*key) } else { self.keep(*key) }
        }
        keys.clear();
        // Its capacity goes back to where it came from, which is empty: lower bits differ now.
        if let Some(bucket) = self.buckets.iter_mut().rev().find(|bucket| bucket.capacity() == 0) {
            *bucket = keys;
        }
        self.batch.sort_unstable();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The naive twin: a binary heap.
    #[test]
    fn keys_come_out_as_from_a_heap() {
        let mut random = fastrand::Rng::with_seed(3);
        for round in 0..200 {
            let ranks = [4, 100, 1 << 22][round % 3];
            let mut key = || u64::from(random.u32(0..ranks)) << 32 | u64::from(random.u32(0..50));
            let (mut queue, mut heap) = (Queue::default(), BinaryHeap::new());
            let keys: Vec<_> = (0..40).map(|_| key()).collect();
            assert_eq!(queue.fill(keys.iter().copied()), 40);
            heap.extend(keys.into_iter().map(Reverse));
            for step in 0..120 {
                assert_eq!(queue.pop(), heap.pop().map(|Reverse(key)| key));
                if step % 3 == 0 {
                    let key = key();
                    queue.push(key);
                    heap.push(Reverse(key));
                }
            }
        }
    }
}
