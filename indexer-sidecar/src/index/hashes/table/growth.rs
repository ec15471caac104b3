//! The index written anew, from the log and its own tags, at another size: when it is too full or too empty.
//!
//! All tables of a model fill at the same pace, and would all grow at the same moment if they grew alike: so by how much
//! is drawn each time.

use fastrand::Rng;
use prefetch_index::prefetch_index;

use super::Table;
use crate::index::hashes::bucket::{Bucket, SLOTS};
use crate::index::hashes::log::{CUT_MAX, Log, Packed};

/// Fullest, in parts of the slots. At more, too many numbers lie beyond their home.
const FULL: f64 = 0.91;
/// As full after it grew, between these: by nine tenths, so that each number is written 2.1 times in all. Over all
/// tables, at a random moment of their growth, an entry takes 4.3 bytes / 0.65 here.
const GROWN: [f64; 2] = [0.42, 0.54];
/// Emptier than this it shrinks.
const EMPTY: f64 = 0.32;
/// Entries that are put into a new index together.
const TOGETHER: usize = 128;

impl Table {
    /// Whether so few are left that it should shrink.
    #[inline]
    pub(super) fn is_sparse(&self) -> bool {
        (self.len() as f64) < f64::from(self.full) * (EMPTY / FULL) && self.buckets.len() > 1
    }

    /// Keeps the entries of which `keep` makes others.
    pub(in crate::index::hashes) fn retain(
        &mut self,
        random: &mut Rng,
        mut keep: impl FnMut(u64, Packed) -> Option<Packed>,
    ) {
        let (mut lows, mut kept) = (self.lows(), 0);
        for position in 0..self.len() {
            let (high, value) = self.log.at(position);
            let low = lows[position];
            let hash = high | u64::from(low);
            if let Some(value) = keep(hash, value) {
                self.log.set(kept, hash, value);
                lows[kept] = low;
                kept += 1;
            }
        }
        if kept == 0 {
            *self = Self::default();
        } else if kept < self.len() {
            while self.len() > kept {
                self.log.pop();
            }
            self.write(lows, random);
        }
    }

    /// What the log has cut of each hash, by position.
    fn lows(&self) -> Vec<u16> {
        let mut lows = vec![0; self.len()];
        for bucket in &self.buckets {
            for slot in 0..bucket.len() {
                let number = bucket.at(slot);
                lows[self.position(number)] = self.low(number) as u16;
            }
        }
        lows
    }

    /// Writes the index anew, as large as it should be for its entries and one more.
    #[cold]
    pub(super) fn grow(&mut self, random: &mut Rng) {
        let lows = self.lows();
        self.write(lows, random);
    }

    fn write(&mut self, mut lows: Vec<u16>, random: &mut Rng) {
        let part = GROWN[0] + (GROWN[1] - GROWN[0]) * random.f64();
        let buckets = ((self.len() + 1) as f64 / (SLOTS as f64 * part)).ceil() as usize;
        self.full = ((buckets * SLOTS) as f64 * FULL) as u32;
        self.places = u32::BITS - self.full.leading_zeros();
        // Before there is another one: it holds nothing that the log and `lows` do not.
        self.buckets = Box::default();
        self.cut((u32::BITS - self.places).min(CUT_MAX) / 8 * 8, &mut lows);
        self.buckets = vec![Bucket::NEW; buckets].into_boxed_slice();
        let mut hashes = [0; TOGETHER];
        for (nth, lows) in lows[..self.len()].chunks(TOGETHER).enumerate() {
            // A large index is in no cache: many lines are waited for together.
            let first = nth * TOGETHER;
            for ((hash, low), position) in hashes.iter_mut().zip(lows).zip(first..) {
                *hash = self.log.hash(position) | u64::from(*low);
                prefetch_index(&self.buckets, self.home(*hash));
            }
            for ((hash, _), position) in hashes.iter().zip(lows).zip(first..) {
                let number = self.number(*hash, position);
                let bucket = self.room(self.home(*hash));
                self.buckets[bucket].push(number);
            }
        }
    }

    /// Writes the log anew if another number of bits is to be cut, and what of the hashes is cut then to `lows`.
    fn cut(&mut self, cut: u32, lows: &mut [u16]) {
        if cut == self.log.cut() {
            return;
        }
        let old = std::mem::replace(&mut self.log, Log::new(cut));
        for (position, low) in (0..old.len()).zip(lows) {
            let (high, value) = old.at(position);
            let hash = high | u64::from(*low);
            self.log.push(hash, value);
            *low = hash as u16;
        }
    }
}
