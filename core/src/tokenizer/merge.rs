//! Byte-pair encoding of one word: symbols to token ids.
//!
//! The crate `tokenizers` keeps a heap of (rank, position) and merges what comes out first, so at every step the pair of
//! lowest rank, and of equal ones the leftmost. A stale entry is left out when its merged id is not that of the pair now
//! at its place; as texts of symbols only grow, no other pair there makes the same id. That is what both ways here do:
//! [`Merger::short`] looks for the lowest among all pairs at every step, O(n²) for up to [`SHORT_MAX`] symbols, and
//! [`Merger::long`] has a heap, O(n log n).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::pairs::{NONE, Pairs};

/// Symbols up to which looking through all pairs is faster than a heap.
pub(super) const SHORT_MAX: usize = 64;

/// Pairs of the heap are paid when they are pushed: one is taken out for each, at about this many times a look-up.
const HEAP_WORK: u64 = 3;

/// Scratch space for merging; kept between words.
#[derive(Default)]
pub(super) struct Merger {
    /// The word's symbols; afterwards its token ids.
    pub(super) symbols: Vec<u32>,
    links: Vec<Link>,
    heap: BinaryHeap<Reverse<u64>>,
}

#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    /// Rank of the pair with the next symbol, or [`NONE`].
    rank: u32,
}

/// Array of [`SHORT_MAX`] entries whose index wraps: no bounds to check.
struct Short<T>([T; SHORT_MAX]);

impl<T: Copy + Default> Short<T> {
    #[inline(always)]
    fn get(&self, at: usize) -> T {
        self.0.get(at % SHORT_MAX).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn set(&mut self, at: usize, value: T) {
        if let Some(entry) = self.0.get_mut(at % SHORT_MAX) {
            *entry = value;
        }
    }
}

/// Rank and position as one number, ordered as merges are: rank first, then position. Ranks have 22 bits.
#[inline(always)]
fn place(rank: u32, at: usize) -> u32 {
    if rank == NONE { NONE } else { rank << 6 | at as u32 }
}

impl Merger {
    /// Merges [`Self::symbols`] as far as it goes, taking the work from `budget`. `false`: the budget did not suffice,
    /// and the symbols are of no use.
    pub(super) fn merge(&mut self, pairs: &Pairs<'_>, budget: &mut u64) -> bool {
        let count = self.symbols.len() as u64;
        let work = if count > SHORT_MAX as u64 { count } else { count + count * count / 32 };
        if *budget < work {
            return false;
        }
        *budget -= work;
        match self.symbols.len() {
            0 | 1 => true,
            2..=SHORT_MAX => {
                self.short(pairs);
                true
            }
            _ => self.long(pairs, budget),
        }
    }

    fn short(&mut self, pairs: &Pairs<'_>) {
        let count = self.symbols.len();
        let mut symbols = Short([0_u32; SHORT_MAX]);
        let mut next = Short([0_u8; SHORT_MAX]);
        let mut previous = Short([0_u8; SHORT_MAX]);
        let mut places = [NONE; SHORT_MAX];
        let mut left = None;
        for ((at, symbol), entry) in self.symbols.iter().enumerate().zip(symbols.0.iter_mut()) {
            *entry = *symbol;
            next.set(at, at as u8 + 1);
            previous.set(at, (at as u8).wrapping_sub(1));
            if let (Some(left), Some(place_)) = (left, places.get_mut(at.wrapping_sub(1))) {
                *place_ = place(pairs.rank(left, *symbol), at - 1);
            }
            left = Some(*symbol);
        }
        let places_end = count - 1;
        loop {
            let best = places.iter().take(places_end).copied().min().unwrap_or(NONE);
            if best == NONE {
                break;
            }
            let at = (best % SHORT_MAX as u32) as usize;
            let merged = pairs.merged(best >> 6);
            let right = usize::from(next.get(at));
            let after = usize::from(next.get(right));
            symbols.set(at, merged);
            next.set(at, after as u8);
            let mut set = |at: usize, value: u32| {
                if let Some(entry) = places.get_mut(at % SHORT_MAX) {
                    *entry = value;
                }
            };
            set(right, NONE);
            if after < count {
                previous.set(after, at as u8);
                set(at, place(pairs.rank(merged, symbols.get(after)), at));
            } else {
                set(at, NONE);
            }
            if at > 0 {
                let before = usize::from(previous.get(at));
                set(before, place(pairs.rank(symbols.get(before), merged), before));
            }
        }
        self.symbols.clear();
        let mut at = 0;
        while at < count {
            self.symbols.push(symbols.get(at));
            at = usize::from(next.get(at)).max(at + 1);
        }
    }

    fn long(&mut self, pairs: &Pairs<'_>, budget: &mut u64) -> bool {
        self.link(pairs);
        let Some(left) = budget.checked_sub(self.heap.len() as u64 * HEAP_WORK) else { return false };
        *budget = left;
        while let Some(Reverse(entry)) = self.heap.pop() {
            let (rank, at) = ((entry >> 32) as u32, entry as u32);
            let Some(link) = self.link_of(at) else { continue };
            // Stale: the pair here is another one now, or its left symbol has gone.
            if link.rank != rank {
                continue;
            }
            let merged = pairs.merged(rank);
            let after = self.link_of(link.next).map_or(NONE, |right| right.next);
            self.set(link.next, |link| link.rank = NONE);
            self.set(after, |link| link.previous = at);
            if let Some(symbol) = self.symbols.get_mut(at as usize) {
                *symbol = merged;
            }
            self.set(at, |link| link.next = after);
            let Some(left) = budget.checked_sub(2 * (HEAP_WORK + 1)) else { return false };
            *budget = left;
            self.rank_again(pairs, at, merged, after);
            if let Some(before) = self.symbols.get(link.previous as usize).copied() {
                self.rank_again(pairs, link.previous, before, at);
            }
        }
        self.collect();
        true
    }

    /// Links every symbol with its neighbours, and makes a heap of all pairs that merge.
    fn link(&mut self, pairs: &Pairs<'_>) {
        let mut entries = std::mem::take(&mut self.heap).into_vec();
        entries.clear();
        self.links.clear();
        let rights = self.symbols.iter().skip(1).map(Some).chain([None]);
        for (at, (left, right)) in (0_u32..).zip(self.symbols.iter().zip(rights)) {
            let rank = right.map_or(NONE, |right| pairs.rank(*left, *right));
            if rank != NONE {
                entries.push(Reverse(u64::from(rank) << 32 | u64::from(at)));
            }
            let next = if right.is_some() { at + 1 } else { NONE };
            self.links.push(Link { previous: at.wrapping_sub(1), next, rank });
        }
        self.heap = BinaryHeap::from(entries);
    }

    fn rank_again(&mut self, pairs: &Pairs<'_>, at: u32, symbol: u32, next: u32) {
        let rank = self.symbols.get(next as usize).map_or(NONE, |right| pairs.rank(symbol, *right));
        self.set(at, |link| link.rank = rank);
        if rank != NONE {
            self.heap.push(Reverse(u64::from(rank) << 32 | u64::from(at)));
        }
    }

    fn link_of(&self, at: u32) -> Option<Link> {
        self.links.get(at as usize).copied()
    }

    fn set(&mut self, at: u32, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.get_mut(at as usize) {
            change(link);
        }
    }

    /// Moves the symbols that are left to the front, in order.
    fn collect(&mut self) {
        let (mut at, mut count) = (0_u32, 0);
        while let (Some(symbol), Some(link)) = (self.symbols.get(at as usize).copied(), self.link_of(at)) {
            if let Some(entry) = self.symbols.get_mut(count) {
                *entry = symbol;
            }
            count += 1;
            at = link.next;
        }
        self.symbols.truncate(count);
    }
}
