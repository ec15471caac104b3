//! Entries one after the other, as they came: a hash and what is kept for it, in 12 to 14 bytes.
//!
//! The last bits of a hash are **cut** where they are known from elsewhere: none, 8 or 16 of them. In chunks, so that
//! adding an entry never copies the others. There are no holes: whoever takes one out moves the last one there.

use prefetch_index::prefetch_index;

/// What is kept for a hash: place, 5 bytes | copies and flags, 1 byte.
pub(super) type Packed = [u8; 6];

const VALUE: usize = size_of::<Packed>();
/// Most bits of a hash that are cut.
pub(super) const CUT_MAX: u32 = 16;
/// Entries of one chunk: 3 KiB, of which half are to spare on average.
const CHUNK: usize = 256;
/// Entries that the first chunk begins with.
const FIRST: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Log {
    /// All but the last, each full.
    chunks: Vec<Box<[u8]>>,
    /// Where entries are added; never full.
    tail: Box<[u8]>,
    /// Bytes of it that are in use.
    end: usize,
    len: usize,
    cut: u32,
}

impl Log {
    /// Without entries; `cut` is 0, 8 or 16.
    pub(super) fn new(cut: u32) -> Self {
        Self { cut, ..Self::default() }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bits of a hash that are not kept.
    #[inline]
    pub(super) fn cut(&self) -> u32 {
        self.cut
    }

    /// Bytes of an entry: what is left of the hash, and [`Packed`].
    #[inline]
    fn size(&self) -> usize {
        size_of::<u64>() + VALUE - self.cut as usize / 8
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        let chunks = self.chunks.len() * CHUNK * self.size() + self.tail.len();
        chunks + self.chunks.capacity() * size_of::<Box<[u8]>>()
    }

    /// Asks memory for where the next entry goes.
    #[inline]
    pub(super) fn touch(&self) {
        prefetch_index(&self.tail, self.end);
    }

    /// The entry at a position and what lies behind it.
    #[inline]
    fn entry(&self, position: usize) -> &[u8] {
        let chunk = self.chunks.get(position / CHUNK).unwrap_or(&self.tail);
        chunk.get(position % CHUNK * self.size()..).unwrap_or_default()
    }

    /// The hash of the entry at a position, with zeros for what is cut. It must be there.
    #[inline]
    pub(super) fn hash(&self, position: usize) -> u64 {
        let bytes = self.entry(position).first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        // What of these bytes is kept for it goes here.
        bytes << self.cut
    }

    /// The hash as [`Self::hash`], and what is kept for it.
    #[inline]
    pub(super) fn at(&self, position: usize) -> (u64, Packed) {
        let value = self.entry(position).get(self.size() - VALUE..).and_then(|bytes| bytes.first_chunk());
        (self.hash(position), value.copied().unwrap_or_default())
    }

    /// Sets the entry at a position. One must be there.
    #[inline]
    pub(super) fn set(&mut self, position: usize, hash: u64, value: Packed) {
        let (size, cut) = (self.size(), self.cut);
        let chunk = self.chunks.get_mut(position / CHUNK).unwrap_or(&mut self.tail);
        let at = position % CHUNK * size;
        if let Some(entry) = chunk.get_mut(at..at + size) {
            write(entry, hash >> cut, value);
        }
    }

    /// Adds an entry; its position is the length before.
    #[inline]
    pub(super) fn push(&mut self, hash: u64, value: Packed) {
        let size = self.size();
        if self.end == self.tail.len() {
            self.extend();
        }
        if let Some(entry) = self.tail.get_mut(self.end..self.end + size) {
            write(entry, hash >> self.cut, value);
        }
        self.end += size;
        self.len += 1;
        if self.end == CHUNK * size {
            self.begin();
        }
    }

    /// The first chunk grows by doubling, so that a table of a few hashes is small.
    #[cold]
    fn extend(&mut self) {
        let room = if self.chunks.is_empty() { (self.len * 2).clamp(FIRST, CHUNK) } else { CHUNK };
        let mut tail = vec![0; room * self.size()];
        for (byte, old) in tail.iter_mut().zip(&self.tail) {
            *byte = *old;
        }
        self.tail = tail.into_boxed_slice();
    }

    #[cold]
    fn begin(&mut self) {
        if self.chunks.len() == self.chunks.capacity() {
            self.chunks.reserve_exact((self.chunks.len() / 8).max(4));
        }
        self.chunks.push(std::mem::take(&mut self.tail));
        self.end = 0;
    }

    /// Takes out the last entry.
    pub(super) fn pop(&mut self) -> Option<(u64, Packed)> {
        let last = self.len.checked_sub(1)?;
        if self.end == 0 {
            self.tail = self.chunks.pop()?;
            self.end = self.tail.len();
            if self.chunks.capacity() > 2 * self.chunks.len() + 8 {
                self.chunks.shrink_to(self.chunks.len() + 4);
            }
        }
        self.len = last;
        self.end -= self.size();
        Some(self.at(last))
    }
}

/// An entry of 12 to 14 bytes: the last bytes of a `hash` that has zeros before them give way.
#[inline]
fn write(entry: &mut [u8], hash: u64, value: Packed) {
    if let Some(bytes) = entry.first_chunk_mut() {
        *bytes = hash.to_le_bytes();
    }
    if let Some(bytes) = entry.last_chunk_mut() {
        *bytes = value;
    }
}
