//! Engine hashes of one stream, group and medium: what each stands for, and how many copies there are.
//!
//! Cost: one bucket of some 16 entries is scanned per call. Memory: 14 bytes per entry (hash 8, place 5, copies and
//! flags 1) plus some 3 for the table, without steps as it grows ([`super::growing`]).
//!
//! Not here: what the blocks are (`chains`), and what an event does to the counts (`stream`).

use std::collections::BTreeMap;

use super::chains::BlockRef;
use super::growing::Growing;
use crate::events::event::EngineHash;

/// What one engine hash stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The block; of several key blocks in one engine block, the last.
    pub block: BlockRef,
    /// Physical copies; 0 for a hash that is only remembered for its key.
    pub copies: u32,
    /// Three bits that the stream gives a meaning.
    pub flags: u8,
}

/// Copies that an entry itself can count; from here on they are in a table of their own.
const COPIES_INLINE: u32 = 31;

/// An entry as it is stored: hash, place, copies | flags << 5.
type Packed = [u8; 14];

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
#[derive(Default)]
pub struct Hashes {
    table: Growing<Packed>,
    /// Copies of the entries that have [`COPIES_INLINE`] or more.
    many: BTreeMap<u64, u32>,
}

impl Hashes {
    /// No hashes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes in it.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        // A B-tree node holds 5 to 11 entries of 12 bytes, with a header: 32 bytes an entry is an upper bound.
        self.table.bytes() + self.many.len() * 32
    }

    /// What `hash` stands for.
    #[inline]
    pub fn get(&self, hash: EngineHash) -> Option<Entry> {
        let hash = hash.0 as u64;
        let packed = self.table.bucket(hash).iter().find(|packed| hash_of(packed) == hash)?;
        Some(unpack(packed, &self.many))
    }

    /// Sets what `hash` stands for; returns what it stood for before.
    pub fn insert(&mut self, hash: EngineHash, entry: Entry) -> Option<Entry> {
        let hash = hash.0 as u64;
        match self.table.bucket_mut(hash).iter_mut().find(|packed| hash_of(packed) == hash) {
            Some(packed) => {
                let before = unpack(packed, &self.many);
                *packed = pack(hash, entry, before.copies, &mut self.many);
                Some(before)
            }
            None => {
                let packed = pack(hash, entry, 0, &mut self.many);
                self.table.push(hash, packed, hash_of);
                None
            }
        }
    }

    /// Counts one more copy of `block` under `hash`, in one search: what a store does for each of its blocks.
    #[inline]
    pub fn store(&mut self, hash: EngineHash, block: BlockRef) -> StoreResult {
        let hash = hash.0 as u64;
        match self.table.bucket_mut(hash).iter_mut().find(|packed| hash_of(packed) == hash) {
            Some(packed) => {
                let entry = unpack(packed, &self.many);
                if entry.block != block {
                    return StoreResult::Other(entry);
                }
                let more = Entry { copies: entry.copies.saturating_add(1), ..entry };
                *packed = pack(hash, more, entry.copies, &mut self.many);
                StoreResult::Copy(entry.copies)
            }
            None => {
                let packed = pack(hash, Entry { block, copies: 1, flags: 0 }, 0, &mut self.many);
                self.table.push(hash, packed, hash_of);
                StoreResult::Added
            }
        }
    }

    /// Takes one copy of `hash` away and forgets it with its last one; returns the entry with the copies that are
    /// left.
    #[inline]
    pub fn release(&mut self, hash: EngineHash) -> Option<Entry> {
        let full = hash;
        let hash = hash.0 as u64;
        let bucket = self.table.bucket_mut(hash);
        let index = bucket.iter().position(|packed| hash_of(packed) == hash)?;
        let entry = unpack(&bucket[index], &self.many);
        if entry.copies <= 1 {
            self.remove(full);
            return Some(Entry { copies: 0, ..entry });
        }
        let less = Entry { copies: entry.copies - 1, ..entry };
        bucket[index] = pack(hash, less, entry.copies, &mut self.many);
        Some(less)
    }

    /// Forgets `hash`; returns what it stood for.
    pub fn remove(&mut self, hash: EngineHash) -> Option<Entry> {
        let hash = hash.0 as u64;
        let index = self.table.bucket(hash).iter().position(|packed| hash_of(packed) == hash)?;
        let packed = self.table.remove(hash, index, hash_of);
        let entry = unpack(&packed, &self.many);
        if entry.copies >= COPIES_INLINE {
            self.many.remove(&hash);
        }
        Some(entry)
    }

    /// Every hash (its low 64 bits) and what it stands for, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Entry)> {
        self.table.iter().map(|packed| (hash_of(packed), unpack(packed, &self.many)))
    }

    /// Visits every entry, in no order; the ones for which `keep` says false are forgotten. `keep` may change them.
    pub fn retain(&mut self, mut keep: impl FnMut(u64, &mut Entry) -> bool) {
        let many = &mut self.many;
        let visit = |packed: &mut Packed| {
            let hash = hash_of(packed);
            let before = unpack(packed, many);
            let mut entry = before;
            let kept = keep(hash, &mut entry);
            if !kept {
                many.remove(&hash);
            } else if entry != before {
                *packed = pack(hash, entry, before.copies, many);
            }
            kept
        };
        self.table.retain(visit, hash_of);
    }
}

#[inline]
fn hash_of(packed: &Packed) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *packed;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[inline]
fn unpack(packed: &Packed, many: &BTreeMap<u64, u32>) -> Entry {
    let [.., a, b, c, d, e, meta] = *packed;
    let inline = u32::from(meta & 31);
    let copies =
        if inline < COPIES_INLINE { inline } else { many.get(&hash_of(packed)).copied().unwrap_or(inline) };
    Entry {
        block: BlockRef::from_bits(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])),
        copies,
        flags: meta >> 5,
    }
}

/// `before`: copies that the hash had until now.
#[inline]
fn pack(hash: u64, entry: Entry, before: u32, many: &mut BTreeMap<u64, u32>) -> Packed {
    if entry.copies >= COPIES_INLINE {
        many.insert(hash, entry.copies);
    } else if before >= COPIES_INLINE {
        many.remove(&hash);
    }
    let mut packed = [0; 14];
    packed[..8].copy_from_slice(&hash.to_le_bytes());
    packed[8..13].copy_from_slice(&entry.block.bits().to_le_bytes()[..5]);
    packed[13] = entry.copies.min(COPIES_INLINE) as u8 | entry.flags << 5;
    packed
}
