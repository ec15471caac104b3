//! A part of the table of engine hashes: entries in the order of their hashes, each at its home or soon behind it.
//!
//! Ordered linear probing (Amble and Knuth, "Ordered hash tables", 1974): a search ends at the first greater hash, so
//! that a page may be nearly full, and to rewrite a page at another size is to copy it from end to end.

/// Hash, 8 bytes | place, 5 bytes | copies and flags, 1 byte.
pub(super) type Packed = [u8; 14];

/// No entry: the greatest hash, and a place that does not exist.
const EMPTY: Packed = [0xff; 14];

/// Fullest: 86 % of the homes. At more, entries lie tens of slots from home.
const FULL_PERCENT: usize = 86;
/// Full after it was rewritten, because it was too full or too empty: at 74 % it grows by a sixth at a time, so that
/// each entry is copied six times in all, and takes 19 bytes at most.
const FRESH_PERCENT: usize = 74;
/// Emptier than this it shrinks.
const EMPTY_PERCENT: usize = 50;

/// See the module. Hashes are compared as they are; `bits` leading ones are the same in the whole page.
#[derive(Default)]
pub(super) struct Page {
    slots: Box<[Packed]>,
    homes: u32,
    len: u32,
}

/// The hash of an entry.
#[inline]
pub(super) fn hash_of(packed: &Packed) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *packed;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[inline]
fn is_empty(packed: &Packed) -> bool {
    hash_of(packed) == u64::MAX && packed[8..13] == EMPTY[8..13]
}

#[inline]
fn home(hash: u64, bits: u32, homes: u32) -> usize {
    ((u128::from(hash << bits) * u128::from(homes)) >> 64) as usize
}

impl Page {
    /// A page of entries in their order.
    pub(super) fn of(entries: &[Packed], bits: u32) -> Self {
        if entries.is_empty() {
            return Self::default();
        }
        let homes = (entries.len() * 100).div_ceil(FRESH_PERCENT).max(4);
        // The last entries may lie behind all homes; the very last slot stays empty and ends every search.
        let mut spare = 4 + (homes / 8).min(28);
        loop {
            let mut slots = vec![EMPTY; homes + spare].into_boxed_slice();
            let mut next = 0;
            for entry in entries {
                next = next.max(home(hash_of(entry), bits, homes as u32));
                match slots.get_mut(next) {
                    Some(slot) => *slot = *entry,
                    None => break,
                }
                next += 1;
            }
            if next < slots.len() {
                return Self { slots, homes: homes as u32, len: entries.len() as u32 };
            }
            spare *= 2;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Packed>()
    }

    /// Its entries in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Packed> {
        self.slots.iter().filter(|slot| !is_empty(slot))
    }

    /// Reads what a search for `hash` will read.
    #[inline]
    pub(super) fn touch(&self, hash: u64, bits: u32) -> u8 {
        let at = home(hash, bits, self.homes);
        // Four entries to a cache line.
        let byte = |ahead: usize| self.slots.get(at + ahead).map_or(0, |slot| slot[0]);
        byte(0) ^ byte(4) ^ byte(8)
    }

    /// Where `hash` is, or where it belongs.
    #[inline]
    pub(super) fn find(&self, hash: u64, bits: u32) -> Result<usize, usize> {
        if self.homes == 0 {
            return Err(0);
        }
        let mut at = home(hash, bits, self.homes);
        while hash_of(&self.slots[at]) < hash {
            at += 1;
        }
        let slot = &self.slots[at];
        if hash_of(slot) == hash && !is_empty(slot) { Ok(at) } else { Err(at) }
    }

    /// The entry at a slot that [`Page::find`] gave.
    #[inline]
    pub(super) fn at(&self, at: usize) -> &Packed {
        &self.slots[at]
    }

    /// The same, to change all but its hash.
    #[inline]
    pub(super) fn at_mut(&mut self, at: usize) -> &mut Packed {
        &mut self.slots[at]
    }

    /// Adds an entry where [`Page::find`] said that it belongs.
    pub(super) fn insert(&mut self, at: usize, entry: Packed, bits: u32) {
        if (self.len as usize + 1) * 100 > self.homes as usize * FULL_PERCENT {
            return self.rewrite_with(entry, bits);
        }
        let gap = self.slots[at..].iter().position(is_empty).map_or(self.slots.len(), |gap| at + gap);
        if gap + 1 >= self.slots.len() {
            return self.rewrite_with(entry, bits);
        }
        self.slots.copy_within(at..gap, at + 1);
        self.slots[at] = entry;
        self.len += 1;
    }

    /// Takes the entry at a slot out.
    pub(super) fn remove(&mut self, at: usize, bits: u32) -> Packed {
        let entry = self.slots[at];
        let mut end = at + 1;
        while !is_empty(&self.slots[end]) && home(hash_of(&self.slots[end]), bits, self.homes) < end {
            end += 1;
        }
        self.slots.copy_within(at + 1..end, at);
        self.slots[end - 1] = EMPTY;
        self.len -= 1;
        if self.len as usize * 100 < self.homes as usize * EMPTY_PERCENT {
            let entries: Vec<Packed> = self.iter().copied().collect();
            *self = Self::of(&entries, bits);
        }
        entry
    }

    fn rewrite_with(&mut self, entry: Packed, bits: u32) {
        let mut entries = Vec::with_capacity(self.len() + 1);
        entries.extend(self.iter().copied());
        entries.insert(entries.partition_point(|other| hash_of(other) < hash_of(&entry)), entry);
        *self = Self::of(&entries, bits);
    }
}
