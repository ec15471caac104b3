//! The chains that begin with blocks of one share of the keys: segments, who holds them, and where each is found.
//!
//! A shard knows no locks. Everything that changes it keeps three things true: every block is held by someone or has
//! a held block somewhere behind it; a segment is found by its first key; a child's parent exists.

use warmpath_core::block::BlockKey;

use super::Holder;
use super::party::{Held, Holding, Party};
use super::place::Place;
use super::segment::{BLOCKS_MAX, SEGMENTS_MAX, Segment};
use super::slab::Slab;
use crate::index::growing::Growing;

/// Where a segment is found: its number, and 16 bits of its first key to pass over others.
type Head = (u16, [u16; 2]);

/// To whom blocks are credited, and within what.
#[derive(Clone, Copy)]
pub(super) struct To {
    pub(super) holder: Holder,
    /// One above the highest slot in use.
    pub(super) slots: usize,
}

/// See the module.
pub(super) struct Shard {
    pub(super) segments: Slab<Segment>,
    pub(super) parties: Slab<Party>,
    heads: Growing<Head>,
    /// Bytes that segments and parties own on the heap.
    owned: usize,
    /// Bytes reserved in the budget and not used.
    pub(super) room: usize,
}

impl Default for Shard {
    fn default() -> Self {
        let (segments, parties) = (Slab::new(SEGMENTS_MAX), Slab::new(SEGMENTS_MAX));
        Self { segments, parties, heads: Growing::default(), owned: 0, room: 0 }
    }
}

impl Shard {
    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.segments.bytes() + self.parties.bytes() + self.heads.bytes() + self.owned
    }

    /// The segment that begins with the first of `keys`, and how many of them are in it.
    #[inline]
    pub(super) fn begins(&self, keys: &[BlockKey]) -> Option<(u32, usize)> {
        let key = keys.first()?.0;
        let tag = (key >> 48) as u16;
        let alike = self.heads.bucket(key).iter().filter(|head| head.0 == tag).map(number);
        // What it has in common with the keys also proves that it is the one: its first key need not be read for that.
        let common = |id| {
            let segment = &self.segments[id];
            if let Held::Party(party) = segment.holding.held() {
                // Whoever asks goes there next: both are waited for at once.
                self.parties[party].touch();
            }
            (id, segment.common(0, keys))
        };
        alike.map(common).find(|(_, blocks)| *blocks > 0)
    }

    /// Gives `keys` behind `parent` to a holder. `placed` hears of each part: segment, from, to, and what of it the
    /// holder held before. It ends
    /// early where it would grow by more than the room there is, or where no number is left for another segment; what was
    /// placed until then stays.
    pub(super) fn credit(
        &mut self,
        to: To,
        parent: Option<Place>,
        mut keys: &[BlockKey],
        mut placed: impl FnMut(u32, usize, usize, &[(usize, usize)]),
    ) {
        let mut last = parent;
        let mut before = Vec::new();
        let limit = self.bytes() + self.room;
        while !keys.is_empty() {
            if self.bytes() + self.part_growth(keys.len(), to.slots) > limit {
                return;
            }
            let (inside, leaf) = match last {
                Some((id, offset)) => {
                    let segment = &self.segments[id];
                    (segment.common(offset + 1, keys), segment.children() == 0)
                }
                None => (0, false),
            };
            let (id, offset, blocks) = match (last, inside) {
                (Some((id, offset)), 1..) => (id, offset + 1, inside),
                _ => match if leaf { None } else { self.begins(keys) } {
                    Some((id, blocks)) => (id, 0, blocks),
                    None => match self.extend(last, keys) {
                        Some(part) => part,
                        None => return,
                    },
                },
            };
            self.parts(id, to.holder, offset, offset + blocks, &mut before);
            if before.first() != Some(&(offset, offset + blocks)) {
                self.hold(id, to.holder, offset, offset + blocks);
            }
            placed(id, offset, offset + blocks, &before);
            last = Some((id, offset + blocks - 1));
            keys = &keys[blocks..];
        }
    }

    /// Makes room for `keys`, which are new, behind `last`: at the end of its segment, or in a new one.
    fn extend(&mut self, last: Option<Place>, keys: &[BlockKey]) -> Option<(u32, usize, usize)> {
        if let Some((id, offset)) = last {
            let segment = &mut self.segments[id];
            let room = BLOCKS_MAX - segment.len();
            if offset + 1 == segment.len() && room > 0 {
                let blocks = keys.len().min(room);
                self.owned += segment.append(&keys[..blocks]);
                return Some((id, offset + 1, blocks));
            }
        }
        let blocks = keys.len().min(BLOCKS_MAX);
        let segment = Segment::new(&keys[..blocks], last);
        let owned = segment.bytes();
        let id = self.segments.add(segment)?;
        self.owned += owned;
        if let Some((parent, _)) = last {
            self.segments[parent].add_child();
        }
        let first = keys[0].0;
        let segments = &self.segments;
        let head = ((first >> 48) as u16, [id as u16, (id >> 16) as u16]);
        self.heads.push(first, head, |head| first_key(segments, head));
        Some((id, 0, blocks))
    }

    /// Gives the blocks `from..to` of a segment to `holder`.
    pub(super) fn hold(&mut self, id: u32, holder: Holder, from: usize, to: usize) {
        let party = match self.segments[id].holding.held() {
            Held::Nobody if from == 0 => {
                self.segments[id].holding = Holding::one(holder, to);
                return;
            }
            Held::One(one, cut) if one == holder && from <= cut => {
                self.segments[id].holding = Holding::one(holder, cut.max(to));
                return;
            }
            Held::Party(party) => party,
            held => {
                let mut party = Party::default();
                if let Held::One(one, cut) = held {
                    party.add(one, 0, cut);
                }
                self.owned += party.bytes();
                // As many parties as segments are possible, and each has at most one.
                let Some(party) = self.parties.add(party) else { return };
                self.segments[id].holding = Holding::party(party);
                party
            }
        };
        self.owned -= self.parties[party].bytes();
        self.parties[party].add(holder, from, to);
        self.owned += self.parties[party].bytes();
    }

    /// Takes the blocks `from..to` of a segment from `holder`, and forgets blocks that nobody needs any more; returns
    /// how many it held.
    pub(super) fn take(&mut self, id: u32, holder: Holder, from: usize, to: usize) -> usize {
        let to = to.min(self.segments[id].len());
        if from >= to {
            return 0;
        }
        let taken = match self.segments[id].holding.held() {
            // From the end, as engines evict.
            Held::One(one, cut) if one == holder && to >= cut => {
                let left = from.min(cut);
                self.segments[id].holding =
                    if left == 0 { Holding::default() } else { Holding::one(holder, left) };
                cut - left
            }
            Held::One(one, cut) if one == holder => {
                self.hold_as_party(id, one, cut);
                self.take_from_party(id, holder, from, to)
            }
            Held::Party(_) => self.take_from_party(id, holder, from, to),
            Held::One(..) | Held::Nobody => 0,
        };
        if taken > 0 && to == self.segments[id].len() || self.segments[id].holding == Holding::default() {
            self.tidy(id);
        }
        taken
    }

    fn hold_as_party(&mut self, id: u32, holder: Holder, cut: usize) {
        let mut party = Party::default();
        party.add(holder, 0, cut);
        self.owned += party.bytes();
        if let Some(party) = self.parties.add(party) {
            self.segments[id].holding = Holding::party(party);
        }
    }

    fn take_from_party(&mut self, id: u32, holder: Holder, from: usize, to: usize) -> usize {
        let Held::Party(number) = self.segments[id].holding.held() else { return 0 };
        let party = &mut self.parties[number];
        let before = party.bytes();
        let taken = party.take(holder, from, to);
        self.owned = self.owned + party.bytes() - before;
        let holding = match (party.end(), party.single()) {
            (0, _) => Holding::default(),
            (_, Some((one, cut))) => Holding::one(one, cut),
            _ => return taken,
        };
        self.owned -= self.parties.take(number).bytes();
        self.segments[id].holding = holding;
        taken
    }

    /// Forgets the end of a segment that nobody holds, and the whole of it if that is all; then the same of its
    /// parent. What children hang on stays.
    fn tidy(&mut self, id: u32) {
        let mut next = Some(id);
        while let Some(id) = next {
            let segment = &self.segments[id];
            if segment.children() > 0 || segment.len() == 0 {
                return;
            }
            let end = match segment.holding.held() {
                Held::Nobody => 0,
                Held::One(_, cut) => cut,
                Held::Party(party) => self.parties[party].end(),
            };
            if end > 0 {
                self.owned -= self.segments[id].truncate(end);
                return;
            }
            next = self.free(id);
        }
    }

    /// Frees a segment without holders and children; returns its parent.
    fn free(&mut self, id: u32) -> Option<u32> {
        let segments = &self.segments;
        let key = segments[id].keys().first().copied()?;
        if let Some(index) = self.heads.bucket(key).iter().position(|head| number(head) == id) {
            self.heads.remove(key, index, |head| first_key(segments, head));
        }
        let segment = self.segments.take(id);
        self.owned -= segment.bytes();
        let (parent, _) = segment.parent()?;
        self.segments[parent].drop_child();
        Some(parent)
    }

    /// The blocks from `place` up to `blocks` blocks towards the root, as parts of segments: number, from, to.
    pub(super) fn path(&self, place: Place, blocks: u32) -> Vec<(u32, usize, usize)> {
        let mut parts = Vec::new();
        let (mut next, mut left) = (Some(place), blocks as usize);
        while let Some((id, offset)) = next.filter(|_| left > 0) {
            let from = (offset + 1).saturating_sub(left);
            parts.push((id, from, offset + 1));
            left -= offset + 1 - from;
            next = self.segments[id].parent();
        }
        parts
    }

    /// Writes to `parts` what `holder` holds of `from..to` of a segment.
    pub(super) fn parts(
        &self,
        id: u32,
        holder: Holder,
        from: usize,
        to: usize,
        parts: &mut Vec<(usize, usize)>,
    ) {
        parts.clear();
        match self.segments[id].holding.held() {
            Held::One(one, cut) if one == holder && from < cut => parts.push((from, to.min(cut))),
            Held::Party(party) => self.parties[party].parts(holder, from, to, parts),
            Held::One(..) | Held::Nobody => {}
        }
    }
}

fn number(head: &Head) -> u32 {
    u32::from(head.1[0]) | u32::from(head.1[1]) << 16
}

fn first_key(segments: &Slab<Segment>, head: &Head) -> u64 {
    segments[number(head)].keys().first().copied().unwrap_or(0)
}
