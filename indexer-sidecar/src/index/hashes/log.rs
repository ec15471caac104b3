//! Entries one after the other, as they came: a hash and what is kept for it, in 14 bytes.
//!
//! In chunks, so that adding one never copies the others. There are no holes: whoever takes one out moves the last one
//! there.

use prefetch_index::prefetch_index;

/// What is kept for a hash: place, 5 bytes | copies and flags, 1 byte.
pub(super) type Packed = [u8; 6];

/// Hash, 8 bytes | [`Packed`]. Bytes, so that an entry begins where the last one ends.
pub(super) type Bytes = [u8; 14];

/// Entries of one chunk: 3.5 KiB, of which half are to spare on average.
const CHUNK: usize = 256;
/// Entries that the first chunk begins with.
const FIRST: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Log {
    /// All but the last, each full.
    chunks: Vec<Box<[Bytes]>>,
    /// Where entries are added; never full.
    tail: Vec<Bytes>,
}

impl Log {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.chunks.len() * CHUNK + self.tail.len()
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        let entries = self.chunks.len() * CHUNK + self.tail.capacity();
        entries * size_of::<Bytes>() + self.chunks.capacity() * size_of::<Box<[Bytes]>>()
    }

    /// Asks memory for where the next entry goes.
    #[inline]
    pub(super) fn touch(&self) {
        prefetch_index(&self.tail, self.tail.len());
    }

    /// The entry at a position. It must be there.
    #[inline]
    pub(super) fn at(&self, position: usize) -> (u64, Packed) {
        let chunk = self.chunks.get(position / CHUNK).map_or(&self.tail[..], |chunk| &chunk[..]);
        unpacked(chunk.get(position % CHUNK).unwrap_or(&[0; 14]))
    }

    /// Sets the entry at a position. One must be there.
    #[inline]
    pub(super) fn set(&mut self, position: usize, hash: u64, value: Packed) {
        let chunk = self.chunks.get_mut(position / CHUNK).map_or(&mut self.tail[..], |chunk| &mut chunk[..]);
        if let Some(entry) = chunk.get_mut(position % CHUNK) {
            *entry = packed(hash, value);
        }
    }

    /// Adds an entry; its position is the length before.
    #[inline]
    pub(super) fn push(&mut self, hash: u64, value: Packed) {
        if self.tail.len() == self.tail.capacity() {
            self.extend();
        }
        self.tail.push(packed(hash, value));
        if self.tail.len() == CHUNK {
            self.begin();
        }
    }

    /// The first chunk grows by doubling, so that a table of a few hashes is small.
    #[cold]
    fn extend(&mut self) {
        let room = if self.chunks.is_empty() { (self.tail.len() * 2).clamp(FIRST, CHUNK) } else { CHUNK };
        self.tail.reserve_exact(room - self.tail.len());
    }

    #[cold]
    fn begin(&mut self) {
        if self.chunks.len() == self.chunks.capacity() {
            self.chunks.reserve_exact((self.chunks.len() / 8).max(4));
        }
        self.chunks.push(std::mem::take(&mut self.tail).into_boxed_slice());
    }

    /// Takes out the last entry.
    pub(super) fn pop(&mut self) -> Option<(u64, Packed)> {
        if self.tail.is_empty() {
            self.tail = self.chunks.pop()?.into_vec();
            if self.chunks.capacity() > 2 * self.chunks.len() + 8 {
                self.chunks.shrink_to(self.chunks.len() + 4);
            }
        }
        self.tail.pop().map(|bytes| unpacked(&bytes))
    }

    /// Its entries, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Packed)> {
        self.chunks().flatten().map(unpacked)
    }

    /// Its entries as they lie, some at a time.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &[Bytes]> {
        self.chunks.iter().map(|chunk| &chunk[..]).chain([&self.tail[..]])
    }
}

/// The hash of an entry.
#[inline]
pub(super) fn hash_of(entry: &Bytes) -> u64 {
    unpacked(entry).0
}

#[inline]
fn packed(hash: u64, value: Packed) -> Bytes {
    let mut bytes = [0; 14];
    bytes[..8].copy_from_slice(&hash.to_le_bytes());
    bytes[8..].copy_from_slice(&value);
    bytes
}

#[inline]
fn unpacked(bytes: &Bytes) -> (u64, Packed) {
    let [a, b, c, d, e, f, g, h, value @ ..] = *bytes;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), value)
}
