//! Blocks that no key can be made for yet, or ever: orphans, which wait for their parent, and foreign blocks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::groups::GroupId;
use crate::events::event::{EngineHash, Medium};

/// Tokens of orphans that a stream keeps: 1 MiB.
pub(super) const WAITING_TOKENS_MAX: usize = 1 << 18;
/// How long an orphan waits. A replay takes seconds; a parent that was lost turns up when its prompt is asked for
/// again, which is within minutes or not soon at all.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(120);
/// Foreign blocks that a stream remembers, at 8 bytes each: the images of some hundred prompts.
pub(super) const FOREIGN_MAX: usize = 1 << 16;

/// Where an orphan was stored.
pub(super) type Slot = (GroupId, Medium, EngineHash);

/// One block that waits.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) parent: EngineHash,
    pub(super) tokens: Box<[u32]>,
    pub(super) copies: u32,
}

/// The orphans of one stream.
#[derive(Default, Debug)]
pub(super) struct Orphans {
    orphans: HashMap<Slot, Orphan>,
    /// By the hash of the parent: a hash names content, wherever a copy of it lies.
    children: HashMap<EngineHash, Vec<Slot>>,
    deadlines: VecDeque<(Duration, Slot)>,
    tokens: usize,
}

impl Orphans {
    pub(super) fn len(&self) -> usize {
        self.orphans.len()
    }

    /// Bytes on the heap: tokens, and some 150 for each orphan in the three tables.
    pub(super) fn bytes(&self) -> usize {
        self.tokens * 4 + self.orphans.len() * 150
    }

    pub(super) fn is_empty(&self) -> bool {
        self.orphans.is_empty()
    }

    /// Lets a block wait, or counts another copy of one that does. False: there is no room.
    pub(super) fn add(&mut self, slot: Slot, parent: EngineHash, tokens: &[u32], now: Duration) -> bool {
        if let Some(orphan) = self.orphans.get_mut(&slot) {
            orphan.copies += 1;
            return true;
        }
        if self.tokens + tokens.len() > WAITING_TOKENS_MAX {
            return false;
        }
        self.tokens += tokens.len();
        self.orphans.insert(slot, Orphan { parent, tokens: tokens.into(), copies: 1 });
        self.children.entry(parent).or_default().push(slot);
        self.deadlines.push_back((now + WAIT_MAX, slot));
        true
    }

    /// One copy is gone; the last one takes the orphan with it. False: no such orphan.
    pub(super) fn evict(&mut self, slot: Slot) -> bool {
        let Some(orphan) = self.orphans.get_mut(&slot) else { return false };
        orphan.copies -= 1;
        if orphan.copies == 0 {
            self.take(slot);
        }
        true
    }

    /// The orphans that wait for `parent`, in the order in which they came; they wait no longer.
    pub(super) fn take_children(&mut self, parent: EngineHash) -> Vec<(Slot, Orphan)> {
        let children = self.children.remove(&parent).unwrap_or_default();
        children.into_iter().filter_map(|slot| Some((slot, self.take(slot)?))).collect()
    }

    /// Takes out what has waited too long.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<(Slot, Orphan)> {
        let mut expired = Vec::new();
        while let Some((until, slot)) = self.deadlines.front().copied() {
            if until > now && self.orphans.contains_key(&slot) {
                break;
            }
            self.deadlines.pop_front();
            if until <= now
                && let Some(orphan) = self.take(slot)
            {
                expired.push((slot, orphan));
            }
        }
        expired
    }

    fn take(&mut self, slot: Slot) -> Option<Orphan> {
        let orphan = self.orphans.remove(&slot)?;
        self.tokens -= orphan.tokens.len();
        if let Some(children) = self.children.get_mut(&orphan.parent) {
            children.retain(|child| *child != slot);
            if children.is_empty() {
                self.children.remove(&orphan.parent);
            }
        }
        Some(orphan)
    }
}

/// Hashes of blocks that have no key (an image in their prefix): what follows them has none either. Two generations,
/// so that the oldest are forgotten.
#[derive(Default, Debug)]
pub(super) struct Foreign {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Foreign {
    pub(super) fn add(&mut self, hash: EngineHash) {
        if self.young.len() >= FOREIGN_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash.0 as u64);
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        (self.young.capacity() + self.old.capacity()) * 9
    }

    pub(super) fn contains(&self, hash: EngineHash) -> bool {
        let hash = hash.0 as u64;
        self.young.contains(&hash) || self.old.contains(&hash)
    }
}
