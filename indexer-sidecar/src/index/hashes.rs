//! Engine hashes of one stream, group and medium: what each stands for, and how many copies there are.
//!
//! Cost of a call: a few neighbouring entries are read, and when one is added or taken out some tens of them moved.
//! Memory: 14 bytes per entry (hash 8, place 5, copies and flags 1) in pages that are 74 to 86 % full, 16 to 19 bytes,
//! which grow one by one, by a sixth at a time ([`page`]).
//!
//! Not here: what the blocks are (`chains`), and what an event does to the counts (`stream`).

mod entry;
mod page;

use std::collections::BTreeMap;
use std::mem::size_of;

pub use self::entry::Entry;
use self::entry::{COPIES_INLINE, pack, unpack};
use self::page::{Packed, Page, hash_of};
use super::chains::BlockRef;
use crate::events::event::EngineHash;

/// Entries of a page on average, before pages are split in two.
const PAGE_ENTRIES: usize = 2048;

/// What [`Hashes::store`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreResult {
    /// The hash is new, with one copy.
    Added,
    /// The hash was known for this block; its copies before.
    Copy(u32),
    /// The hash stood for something else, and still does: nothing was changed.
    Other(Entry),
}

/// Engine hash -> [`Entry`]. Hashes are told apart by their low 64 bits, which is all that vLLM publishes by default.
pub struct Hashes {
    /// As many as a power of two, by the first bits of the mixed hash.
    pages: Vec<Page>,
    len: usize,
    /// Bytes of the pages' entries.
    bytes: usize,
    /// A hash is multiplied by this, so that a publisher cannot choose hashes that meet in one place.
    factor: u64,
    /// `factor`'s inverse modulo 2^64.
    inverse: u64,
    /// Copies of the entries that have [`COPIES_INLINE`] or more, by mixed hash.
    many: BTreeMap<u64, u32>,
}

impl Default for Hashes {
    fn default() -> Self {
        let factor = fastrand::u64(..) | 1;
        // Newton's iteration: an odd number is its own inverse modulo 8, and each step doubles the bits.
        let inverse = (0..5).fold(factor, |inverse, _| {
            inverse.wrapping_mul(2_u64.wrapping_sub(factor.wrapping_mul(inverse)))
        });
        Self { pages: Vec::new(), len: 0, bytes: 0, factor, inverse, many: BTreeMap::new() }
    }
}

impl Hashes {
    /// No hashes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        // A B-tree node holds 5 to 11 entries of 12 bytes, with a header: 32 bytes an entry is an upper bound.
        self.bytes + self.pages.capacity() * size_of::<Page>() + self.many.len() * 32
    }

    /// Reads what calls for these hashes will read: all at once, so that the memory is waited for once and not for
    /// each of them.
    pub fn touch(&self, hashes: &[EngineHash]) {
        if self.pages.is_empty() {
            return;
        }
        let touch = |hash: &EngineHash| {
            let hash = self.mix(*hash);
            self.pages[self.page(hash)].touch(hash, self.bits())
        };
        std::hint::black_box(hashes.iter().fold(0, |all, hash| all ^ touch(hash)));
    }

    /// What `hash` stands for.
    #[inline]
    pub fn get(&self, hash: EngineHash) -> Option<Entry> {
        let hash = self.mix(hash);
        let page = self.pages.get(self.page(hash))?;
        let at = page.find(hash, self.bits()).ok()?;
        Some(unpack(page.at(at), &self.many))
    }

    /// Sets what `hash` stands for; returns what it stood for before.
    pub fn insert(&mut self, hash: EngineHash, entry: Entry) -> Option<Entry> {
        let mut before = None;
        self.change(hash, |old| {
            before = old;
            Some(entry)
        });
        before
    }

    /// Counts one more copy of `block` under `hash`, in one search: what a store does for each of its blocks.
    #[inline]
    pub fn store(&mut self, hash: EngineHash, block: BlockRef) -> StoreResult {
        let mut result = StoreResult::Added;
        self.change(hash, |old| {
            let Some(entry) = old else { return Some(Entry { block, copies: 1, flags: 0 }) };
            if entry.block != block {
                result = StoreResult::Other(entry);
                return Some(entry);
            }
            result = StoreResult::Copy(entry.copies);
            Some(Entry { copies: entry.copies.saturating_add(1), ..entry })
        });
        result
    }

    /// Forgets `hash`; returns what it stood for.
    pub fn remove(&mut self, hash: EngineHash) -> Option<Entry> {
        let mut before = None;
        self.change(hash, |old| {
            before = old;
            None
        });
        before
    }

    /// Every hash (its low 64 bits) and what it stands for, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Entry)> {
        let unmix = |packed: &Packed| hash_of(packed).wrapping_mul(self.inverse);
        self.pages.iter().flat_map(Page::iter).map(move |packed| (unmix(packed), unpack(packed, &self.many)))
    }

    /// Visits every entry, in no order; the ones for which `keep` says false are forgotten. `keep` may change them.
    pub fn retain(&mut self, mut keep: impl FnMut(u64, &mut Entry) -> bool) {
        let bits = self.bits();
        for page in &mut self.pages {
            let mut kept = Vec::with_capacity(page.len());
            for packed in page.iter() {
                let hash = hash_of(packed);
                let before = unpack(packed, &self.many);
                let mut entry = before;
                if keep(hash.wrapping_mul(self.inverse), &mut entry) {
                    kept.push(pack(hash, entry, before.copies, &mut self.many));
                } else if before.copies >= COPIES_INLINE {
                    self.many.remove(&hash);
                }
            }
            self.len -= page.len() - kept.len();
            self.bytes -= page.bytes();
            *page = Page::of(&kept, bits);
            self.bytes += page.bytes();
        }
        self.join();
    }

    /// Gives `how` what `hash` stands for, and sets that to its answer.
    #[inline]
    fn change(&mut self, hash: EngineHash, how: impl FnOnce(Option<Entry>) -> Option<Entry>) {
        let (hash, bits, index) = (self.mix(hash), self.bits(), self.page(self.mix(hash)));
        let found = match self.pages.get(index) {
            Some(page) => page.find(hash, bits),
            None => Err(0),
        };
        let before = found.ok().map(|at| unpack(self.pages[index].at(at), &self.many));
        let after = how(before);
        if before == after {
            return;
        }
        let copies = before.map_or(0, |entry| entry.copies);
        let packed = after.map(|entry| pack(hash, entry, copies, &mut self.many));
        match (found, packed) {
            (Ok(at), Some(packed)) => *self.pages[index].at_mut(at) = packed,
            (Err(at), Some(packed)) => self.add(index, at, packed),
            (Ok(at), None) => {
                if copies >= COPIES_INLINE {
                    self.many.remove(&hash);
                }
                let page = &mut self.pages[index];
                self.bytes -= page.bytes();
                page.remove(at, bits);
                self.bytes += page.bytes();
                self.len -= 1;
                if self.len * 8 < self.pages.len() * PAGE_ENTRIES {
                    self.join();
                }
            }
            (Err(_), None) => {}
        }
    }

    fn add(&mut self, index: usize, at: usize, packed: Packed) {
        if self.pages.is_empty() {
            self.pages.push(Page::default());
        }
        let bits = self.bits();
        let page = &mut self.pages[index];
        let before = page.bytes();
        page.insert(at, packed, bits);
        self.bytes = self.bytes + page.bytes() - before;
        self.len += 1;
        if self.len > self.pages.len() * PAGE_ENTRIES {
            self.repage(bits + 1);
        }
    }

    /// Halves the pages while they are small; gives all back when nothing is left.
    fn join(&mut self) {
        while self.pages.len() > 1 && self.len * 8 < self.pages.len() * PAGE_ENTRIES {
            self.repage(self.bits() - 1);
        }
        if self.len == 0 {
            (self.pages, self.bytes) = (Vec::new(), 0);
        }
    }

    /// Cuts every page in two, or joins them in pairs. One pair of pages is copied at a time.
    fn repage(&mut self, bits: u32) {
        let mut pages = Vec::with_capacity(1 << bits);
        let split = bits > self.bits();
        let mut old = std::mem::take(&mut self.pages).into_iter();
        while let Some(page) = old.next() {
            let mut entries: Vec<Packed> = page.iter().copied().collect();
            drop(page);
            if split {
                let half = entries.partition_point(|entry| hash_of(entry) >> (64 - bits) & 1 == 0);
                pages.push(Page::of(&entries[..half], bits));
                pages.push(Page::of(&entries[half..], bits));
            } else {
                entries.extend(old.next().iter().flat_map(Page::iter).copied());
                pages.push(Page::of(&entries, bits));
            }
        }
        self.bytes = pages.iter().map(Page::bytes).sum();
        self.pages = pages;
    }

    #[inline]
    fn mix(&self, hash: EngineHash) -> u64 {
        (hash.0 as u64).wrapping_mul(self.factor)
    }

    #[inline]
    fn bits(&self) -> u32 {
        self.pages.len().checked_ilog2().unwrap_or(0)
    }

    /// The page of a mixed hash.
    #[inline]
    fn page(&self, hash: u64) -> usize {
        hash.checked_shr(64 - self.bits()).unwrap_or(0) as usize
    }
}
