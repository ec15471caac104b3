//! A segment: consecutive blocks of one chain, and where it hangs.
//!
//! 32 bytes beside its keys (a single key lies inside). A child may hang on any block, so a chain that diverges does
//! not cut the segment; and who holds which part of it is written beside it ([`super::party`]), so neither does a hole.

use std::mem::size_of;

use prefetch_index::prefetch_index;
use warmpath_core::block::BlockKey;

use super::party::Holding;
use super::place::Place;

/// Blocks of one segment: its offsets are 12 bits.
pub(super) const BLOCKS_MAX: usize = 1 << 12;
/// Segments of one shard: their numbers are 24 bits, and the last means "none".
pub(super) const SEGMENTS_MAX: u32 = (1 << 24) - 1;
/// Children that are counted; more than that many keep the segment for good. 28 bits.
const CHILDREN_MAX: u64 = (1 << 28) - 1;

/// Keys that are too many to be in a cache.
const LONG: usize = 256;
/// Each so many keys one is a **mark**: it is also kept beside the other marks, so that all of them are in a few lines.
pub(super) const MARKED: usize = 128;

/// The keys, at least one of them unless the segment is free.
enum Keys {
    One(u64),
    /// Marks, and behind them keys with room to grow: only the first `len` keys count, and the marks among them.
    Many(Box<[u64]>),
}

/// One segment; the default one is free.
pub(super) struct Segment {
    keys: Keys,
    /// Who holds which part.
    pub(super) holding: Holding,
    len: u16,
    /// Parent segment, 24 bits | offset of the parent block, 12 bits | children, 28 bits.
    tree: u64,
}

impl Default for Segment {
    fn default() -> Self {
        Self { keys: Keys::One(0), holding: Holding::default(), len: 0, tree: u64::MAX << 28 }
    }
}

impl Segment {
    /// A segment of `keys` (1 to [`BLOCKS_MAX`]) behind `parent`, held by nobody.
    pub(super) fn new(keys: &[BlockKey], parent: Option<Place>) -> Self {
        let (segment, offset) = parent.unwrap_or((SEGMENTS_MAX, 0));
        let tree = u64::from(segment) << 40 | (offset as u64) << 28;
        let stored = match keys {
            [key] => Keys::One(key.0),
            keys => many(keys.iter().map(|key| key.0), keys.len()),
        };
        Self { keys: stored, len: keys.len() as u16, tree, ..Self::default() }
    }

    /// Its keys in order.
    #[inline]
    pub(super) fn keys(&self) -> &[u64] {
        match &self.keys {
            Keys::One(key) => &std::slice::from_ref(key)[..usize::from(self.len).min(1)],
            Keys::Many(keys) => &keys[marks(keys)..][..usize::from(self.len)],
        }
    }

    /// Blocks in it; 0: it is free.
    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// The block it hangs on.
    pub(super) fn parent(&self) -> Option<Place> {
        let segment = (self.tree >> 40) as u32;
        (segment != SEGMENTS_MAX).then_some((segment, (self.tree >> 28) as usize & (BLOCKS_MAX - 1)))
    }

    /// How many segments hang on it.
    pub(super) fn children(&self) -> u64 {
        self.tree & CHILDREN_MAX
    }

    pub(super) fn add_child(&mut self) {
        self.tree += u64::from(self.children() < CHILDREN_MAX);
    }

    pub(super) fn drop_child(&mut self) {
        // One that has had the most children keeps itself: how many there were is not known.
        self.tree -= u64::from((1..CHILDREN_MAX).contains(&self.children()));
    }

    /// How many of `keys` it continues with from `offset` on.
    ///
    /// Keys are chained, so equal keys at a depth prove all before it: some are compared at a time, the last among them,
    /// and what is left is cut into as many parts. Cost: 1 to log(length) steps, each of which waits for memory once, as
    /// its reads do not depend on each other; so few of many reads where much is left, which is in no cache, and more of
    /// few where little is.
    #[inline]
    pub(super) fn common(&self, offset: usize, keys: &[BlockKey]) -> usize {
        let own = self.keys().get(offset..).unwrap_or_default();
        let most = own.len().min(keys.len());
        let (Some(own), Some(keys)) = (own.get(..most), keys.get(..most)) else { return 0 };
        match (own.last(), keys.last()) {
            _ if most > LONG && offset == 0 => self.search_long(own, keys),
            _ if most > LONG => search::<16>(own, keys),
            (Some(last), Some(key)) if *last == key.0 => most,
            _ => search::<4>(own, keys),
        }
    }

    /// As [`search`] for keys from the first one on, but its marks are compared first: they are in few lines, and what they
    /// are compared with [`touch_marks`] has asked for.
    fn search_long(&self, own: &[u64], keys: &[BlockKey]) -> usize {
        let theirs = keys.iter().skip(MARKED - 1).step_by(MARKED);
        let same: usize = self.marks().iter().zip(theirs).map(|(own, key)| usize::from(*own == key.0)).sum();
        if own.last().copied() == keys.last().map(|key| key.0) {
            return own.len();
        }
        let from = same * MARKED;
        // The next mark differs, or what is left is shorter.
        let to = (from + MARKED - 1).min(own.len());
        from + search::<16>(&own[from..to], &keys[from..to])
    }

    /// Its marks; those beyond its keys say nothing.
    fn marks(&self) -> &[u64] {
        match &self.keys {
            Keys::One(_) => &[],
            Keys::Many(keys) => &keys[..marks(keys)],
        }
    }

    /// Appends keys, at most up to [`BLOCKS_MAX`]; returns by how many bytes the heap grew.
    pub(super) fn append(&mut self, keys: &[BlockKey]) -> usize {
        let before = self.bytes();
        let len = usize::from(self.len);
        let needed = len + keys.len();
        let room = match &self.keys {
            Keys::One(_) => 1,
            Keys::Many(keys) => keys.len() - marks(keys),
        };
        if needed > room {
            // An eighth to spare: a chain that grows block by block is copied eight times per block on average.
            let room = (needed + (needed / 8).max(2)).min(BLOCKS_MAX);
            self.keys = many(self.keys().iter().copied(), room);
        }
        match &mut self.keys {
            Keys::One(one) => *one = keys.first().map_or(*one, |key| key.0),
            Keys::Many(own) => {
                let first = marks(own);
                own[first + len..first + needed].iter_mut().zip(keys).for_each(|(own, key)| *own = key.0);
                mark(own, len, needed);
            }
        }
        self.len = needed as u16;
        self.bytes() - before
    }

    /// Forgets the blocks from `len` (at least 1) on; returns by how many bytes the heap shrank.
    pub(super) fn truncate(&mut self, len: usize) -> usize {
        let before = self.bytes();
        self.len = self.len.min(len as u16);
        if let Keys::Many(keys) = &self.keys
            && keys.len() - marks(keys) > len + (len / 4).max(8)
        {
            self.keys = match self.keys() {
                [key] => Keys::One(*key),
                keys => many(keys.iter().copied(), keys.len()),
            };
        }
        before - self.bytes()
    }

    /// Bytes of the keys on the heap.
    pub(super) fn bytes(&self) -> usize {
        match &self.keys {
            Keys::One(_) => 0,
            Keys::Many(keys) => keys.len() * size_of::<u64>(),
        }
    }
}

/// Asks memory for those of `keys` that marks are compared with, in a segment that begins with the first of them or
/// a multiple of [`MARKED`] behind it.
#[inline]
pub(super) fn touch_marks(keys: &[BlockKey]) {
    for at in (MARKED - 1..keys.len()).step_by(MARKED) {
        prefetch_index(keys, at);
    }
}

/// `keys` with their marks, and room for `room` keys.
fn many(keys: impl ExactSizeIterator<Item = u64>, room: usize) -> Keys {
    let (len, first) = (keys.len(), room / MARKED);
    let mut all = Vec::with_capacity(first + room);
    all.resize(first, 0);
    all.extend(keys);
    all.resize(first + room, 0);
    mark(&mut all, 0, len);
    Keys::Many(all.into_boxed_slice())
}

/// How many of these are marks: there is one for each [`MARKED`] keys that they have room for.
#[inline]
fn marks(all: &[u64]) -> usize {
    all.len() / (MARKED + 1)
}

/// Writes the marks of the keys `from..to`.
fn mark(all: &mut [u64], from: usize, to: usize) {
    let (marks, keys) = all.split_at_mut(marks(all));
    for (mark, keys) in marks.iter_mut().zip(keys.chunks_exact(MARKED)).take(to / MARKED).skip(from / MARKED)
    {
        *mark = keys[MARKED - 1];
    }
}

/// How many leading keys are the same, of two runs of equal length. `PROBES` are compared at a time.
#[inline]
fn search<const PROBES: usize>(own: &[u64], keys: &[BlockKey]) -> usize {
    // All before `equal` are the same, and what lies at `differs` is not, or is beyond the end.
    let (mut equal, mut differs) = (0, own.len());
    while equal < differs {
        let step = (differs - equal).div_ceil(PROBES);
        let same = |nth: usize| {
            let at = (equal + nth * step).min(differs) - 1;
            usize::from(own[at] == keys[at].0)
        };
        // As equal keys prove those before them, their number says how far they go.
        let steps: usize = (1..=PROBES).map(same).sum();
        if steps == PROBES {
            return differs;
        }
        differs = differs.min(equal + (steps + 1) * step) - 1;
        equal += steps * step;
    }
    equal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length and every end of what is the same, in both ways to search.
    #[test]
    fn common_keys_are_as_many_as_counted_one_by_one() {
        for len in (1..=70).chain([255, 256, 257, 300, 1023, 2048, 2049, BLOCKS_MAX]) {
            let own: Vec<BlockKey> = (0..len as u64).map(BlockKey).collect();
            let segment = Segment::new(&own, None);
            for offset in [0, 1, len / 3] {
                for same in (0..=len - offset).step_by(if len > 300 { 7 } else { 1 }) {
                    let mut keys = own[offset..].to_vec();
                    keys.iter_mut().skip(same).for_each(|key| key.0 = !key.0);
                    assert_eq!(segment.common(offset, &keys), same, "{same} of {len} from {offset}");
                    // More are asked for than it has, or fewer.
                    keys.push(BlockKey(7 << 40));
                    assert_eq!(segment.common(offset, &keys), same);
                    keys.truncate(len / 2);
                    assert_eq!(segment.common(offset, &keys), same.min(keys.len()));
                }
            }
        }
    }

    /// Marks follow the keys, however these came and went.
    #[test]
    fn common_keys_are_as_many_in_a_segment_that_grew_and_shrank() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..30 {
            let mut own = vec![BlockKey(random.u64(..))];
            let mut segment = Segment::new(&own, None);
            for _ in 0..30 {
                let more: Vec<_> = (0..random.usize(1..=400)).map(|_| BlockKey(random.u64(..))).collect();
                let more = &more[..more.len().min(BLOCKS_MAX - own.len())];
                let bytes = segment.bytes();
                assert_eq!(bytes + segment.append(more), segment.bytes());
                own.extend_from_slice(more);
                if random.usize(..3) == 0 {
                    own.truncate(random.usize(1..=own.len()));
                    let bytes = segment.bytes();
                    assert_eq!(bytes - segment.truncate(own.len()), segment.bytes());
                }
                for same in [0, own.len() / 2, own.len() - 1, random.usize(..own.len()), own.len()] {
                    let mut keys = own.clone();
                    keys.iter_mut().skip(same).for_each(|key| key.0 = !key.0);
                    assert_eq!(segment.common(0, &keys), same, "of {}", own.len());
                    keys.truncate(random.usize(..=own.len()));
                    assert_eq!(segment.common(0, &keys), same.min(keys.len()));
                }
            }
        }
    }
}
