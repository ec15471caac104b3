//! Bytes that the index may use on the heap, shared by all its parts.
//!
//! Who wants to grow reserves first. So the sum of what all parts have allocated and reserved never passes the limit,
//! whoever writes at the same time. Parts reserve some room ahead, so that not every write meets here.

use std::sync::atomic::{AtomicUsize, Ordering};

/// See the module.
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max, used: AtomicUsize::new(0) }
    }

    /// Most bytes.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Bytes allocated and reserved.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, or what is left if that is less; returns how many.
    pub fn reserve(&self, bytes: usize) -> usize {
        let mut granted = 0;
        let take = |used: usize| {
            granted = bytes.min(self.max.saturating_sub(used));
            Some(used + granted)
        };
        // The closure always answers, so this cannot fail.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        granted
    }

    /// What took `before` bytes takes `after` now, whether there is room or not: it is there already.
    pub fn charge(&self, before: usize, after: usize) {
        match after >= before {
            true => self.used.fetch_add(after - before, Ordering::Relaxed),
            false => self.used.fetch_sub(before - after, Ordering::Relaxed),
        };
    }

    /// So little is left that something must be forgotten before the next writes find none: a sixteenth.
    pub fn is_short(&self) -> bool {
        self.used() > self.max - self.max / 16
    }

    /// Enough is left that nothing more need be forgotten: an eighth.
    pub fn is_roomy(&self) -> bool {
        self.used() <= self.max - self.max / 8
    }

    /// Gives back reserved or freed bytes.
    pub fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
