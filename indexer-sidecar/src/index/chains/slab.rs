//! Values by small number, in chunks: nothing moves, and memory grows by one chunk.

use std::mem::size_of;

/// Values of one chunk.
const CHUNK: usize = 256;

/// The values; freed ones are used again before a chunk is added.
pub(super) struct Slab<T> {
    chunks: Vec<Box<[T]>>,
    free: Vec<u32>,
    used: u32,
    max: u32,
}

impl<T: Default> Slab<T> {
    /// A slab with numbers below `max`.
    pub(super) fn new(max: u32) -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), used: 0, max }
    }

    /// Stores a value; `None`: all numbers are taken.
    pub(super) fn add(&mut self, value: T) -> Option<u32> {
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.used < self.max => {
                if self.used as usize == self.chunks.len() * CHUNK {
                    self.chunks.push((0..CHUNK).map(|_| T::default()).collect());
                }
                self.used += 1;
                self.used - 1
            }
            None => return None,
        };
        self[id] = value;
        Some(id)
    }

    /// Takes a value out.
    pub(super) fn take(&mut self, id: u32) -> T {
        self.free.push(id);
        if self.free.capacity() > 1024 && self.free.len() < self.free.capacity() / 4 {
            self.free.shrink_to(self.free.len() * 2);
        }
        std::mem::take(&mut self[id])
    }

    /// Numbers ever used: all valid ones are below.
    pub(super) fn end(&self) -> u32 {
        self.used
    }

    /// Values in it.
    pub(super) fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }

    /// Bytes on the heap, without what the values themselves own.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>()
            + self.chunks.capacity() * size_of::<Box<[T]>>()
            + self.free.capacity() * size_of::<u32>()
    }

    /// Bytes by which the next [`Slab::add`] may grow it.
    pub(super) fn growth(&self) -> usize {
        if self.free.is_empty() && self.used as usize == self.chunks.len() * CHUNK {
            CHUNK * size_of::<T>() + self.chunks.capacity() * size_of::<Box<[T]>>()
        } else {
            0
        }
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, id: u32) -> &T {
        &self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut T {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }
}
