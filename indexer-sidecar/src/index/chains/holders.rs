//! Holders, and which of their slots are taken.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Holders of one model at a time: 4,000 endpoints with 16 each. Slots are 16 bits, which keeps a membership small.
pub const HOLDERS_MAX: usize = 64_000;

/// One stream's blocks of one kind, as a slot of [`super::Matches`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Holder(pub u16);

/// The slots: the lowest free one is given first, so that they stay dense.
#[derive(Default)]
pub(super) struct Slots {
    taken: Mutex<Vec<bool>>,
    /// One above the highest taken one, for readers.
    end: AtomicUsize,
}

impl Slots {
    pub(super) fn add(&self) -> Option<Holder> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = taken.iter().position(|taken| !taken).unwrap_or(taken.len());
        if free >= HOLDERS_MAX {
            return None;
        }
        match taken.get_mut(free) {
            Some(slot) => *slot = true,
            None => taken.push(true),
        }
        self.end.store(taken.len(), Ordering::Release);
        Some(Holder(free as u16))
    }

    pub(super) fn free(&self, holder: Holder) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = taken.get_mut(usize::from(holder.0)) {
            *slot = false;
        }
        while taken.last() == Some(&false) {
            taken.pop();
        }
        self.end.store(taken.len(), Ordering::Release);
    }

    /// One above the highest taken slot.
    pub(super) fn end(&self) -> usize {
        self.end.load(Ordering::Acquire)
    }
}
