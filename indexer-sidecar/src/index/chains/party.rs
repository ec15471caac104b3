//! Who holds which part of a segment.
//!
//! Nearly all holders hold the leading blocks of a segment, each up to a depth of its own: one number per holder, the
//! **cut**. What lies behind a hole is an **island**. A segment with one holder and no islands has its cut inside;
//! others have a [`Party`]: a list of (holder, cut), or when many hold it, cuts by slot, which a lookup goes through
//! at several per instruction.

use std::mem::size_of;

use prefetch_index::prefetch_index;

use super::Holder;

/// Blocks from `from` up to `to`, behind a hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Island {
    holder: u16,
    from: u16,
    to: u16,
}

/// Cuts of 1 and more.
enum Cuts {
    Few(Vec<(u16, u16)>),
    /// By slot; 0: none.
    Dense(Box<[u16]>),
}

/// Holders of a segment that has several, or islands.
pub(super) struct Party {
    cuts: Cuts,
    islands: Vec<Island>,
}

impl Default for Party {
    fn default() -> Self {
        Self { cuts: Cuts::Few(Vec::new()), islands: Vec::new() }
    }
}

/// In four bytes: nobody, one holder with its cut, or the number of a [`Party`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Holding(u32);

/// What a [`Holding`] says.
pub(super) enum Held {
    Nobody,
    One(Holder, usize),
    Party(u32),
}

const PARTY: u32 = 1 << 31;

impl Holding {
    /// One holder of the first `cut` (1 to 4096) blocks.
    pub(super) fn one(holder: Holder, cut: usize) -> Self {
        Self(u32::from(holder.0) << 13 | cut as u32)
    }

    /// Several, under the number of their party.
    pub(super) fn party(id: u32) -> Self {
        Self(PARTY | id)
    }

    #[inline]
    pub(super) fn held(self) -> Held {
        if self.0 & PARTY != 0 {
            Held::Party(self.0 & !PARTY)
        } else if self.0 == 0 {
            Held::Nobody
        } else {
            Held::One(Holder((self.0 >> 13) as u16), self.0 as usize & 0x1fff)
        }
    }
}

/// Fewest slots of dense cuts.
const DENSE_MIN: usize = 32;
/// A list turns dense when a slot in so many has a cut: 4 bytes per entry against 2 per slot.
const DENSE_SHARE: usize = 4;

impl Party {
    /// Leading blocks that `holder` holds.
    pub(super) fn cut(&self, holder: Holder) -> usize {
        usize::from(match &self.cuts {
            Cuts::Few(few) => few.iter().find(|(slot, _)| *slot == holder.0).map_or(0, |(_, cut)| *cut),
            Cuts::Dense(dense) => dense.get(usize::from(holder.0)).copied().unwrap_or(0),
        })
    }

    /// Asks memory for what [`Party::extend_matches`] reads first.
    #[inline]
    pub(super) fn touch(&self) {
        match &self.cuts {
            Cuts::Few(few) => prefetch_index(few, 0),
            Cuts::Dense(dense) => prefetch_index(dense, 0),
        }
    }

    /// Gives `holder` the blocks `from..to`.
    pub(super) fn add(&mut self, holder: Holder, from: usize, to: usize) {
        let cut = self.cut(holder);
        let (mut from, mut to) = (from as u16, to as u16);
        if usize::from(from) <= cut {
            (from, to) = (0, to.max(cut as u16));
        }
        // Islands that touch become one; what touches the cut goes into it.
        let touches =
            |other: &Island, from, to| other.holder == holder.0 && from <= other.to && other.from <= to;
        while let Some(at) = self.islands.iter().position(|other| touches(other, from, to)) {
            let other = self.islands.swap_remove(at);
            (from, to) = (from.min(other.from), to.max(other.to));
        }
        if from > 0 {
            self.islands.push(Island { holder: holder.0, from, to });
        } else if usize::from(to) != cut {
            self.set_cut(holder, usize::from(to));
        }
    }

    /// Takes the blocks `from..to` from `holder`; returns how many it held.
    pub(super) fn take(&mut self, holder: Holder, from: usize, to: usize) -> usize {
        let cut = self.cut(holder);
        let mut taken = 0;
        if from < cut {
            taken += to.min(cut) - from;
            self.set_cut(holder, from);
            if to < cut {
                self.islands.push(Island { holder: holder.0, from: to as u16, to: cut as u16 });
                return taken;
            }
        }
        if self.islands.is_empty() {
            return taken;
        }
        let (from, to) = (from as u16, to as u16);
        let mut rest = Vec::new();
        self.islands.retain(|island| {
            let apart = island.holder != holder.0 || island.to <= from || to <= island.from;
            if !apart {
                taken += usize::from(island.to.min(to) - island.from.max(from));
                rest.extend(
                    [(island.from, from), (to, island.to)].into_iter().filter(|(from, to)| from < to),
                );
            }
            apart
        });
        self.islands.extend(rest.into_iter().map(|(from, to)| Island { holder: holder.0, from, to }));
        if self.islands.is_empty() {
            self.islands = Vec::new();
        }
        taken
    }

    /// Appends to `parts` what `holder` holds within `from..to`.
    pub(super) fn parts(&self, holder: Holder, from: usize, to: usize, parts: &mut Vec<(usize, usize)>) {
        let islands = self.islands.iter().filter(|island| island.holder == holder.0);
        let islands = islands.map(|island| (usize::from(island.from), usize::from(island.to)));
        let held = std::iter::once((0, self.cut(holder))).chain(islands);
        parts.extend(
            held.map(|(start, end)| (start.max(from), end.min(to))).filter(|(start, end)| start < end),
        );
    }

    /// End of the last block that anybody holds. Cost: all entries, eight or more per instruction when dense.
    pub(super) fn end(&self) -> usize {
        let cuts = match &self.cuts {
            Cuts::Few(few) => few.iter().map(|(_, cut)| *cut).max(),
            Cuts::Dense(dense) => dense.iter().copied().max(),
        };
        usize::from(cuts.max(self.islands.iter().map(|island| island.to).max()).unwrap_or(0))
    }

    /// The single holder that is left with its cut, if it has no islands.
    pub(super) fn single(&self) -> Option<(Holder, usize)> {
        match (&self.cuts, self.islands.is_empty()) {
            (Cuts::Few(few), true) if few.len() == 1 => {
                few.first().map(|(slot, cut)| (Holder(*slot), usize::from(*cut)))
            }
            _ => None,
        }
    }

    /// Lengthens the matches of the holders that have `base` already, by their cut or by `matched` blocks; returns
    /// whether any of them holds all `matched`. Shorter `lengths` than slots leave the others out.
    #[inline]
    pub(super) fn extend_matches(&self, lengths: &mut [u32], base: u32, matched: u32) -> bool {
        match &self.cuts {
            Cuts::Few(few) => {
                let mut all = false;
                for (slot, cut) in few {
                    if let Some(length) =
                        lengths.get_mut(usize::from(*slot)).filter(|length| **length == base)
                    {
                        *length = base + u32::from(*cut).min(matched);
                        all |= u32::from(*cut) >= matched;
                    }
                }
                all
            }
            Cuts::Dense(dense) => {
                let mut all = 0;
                for (length, cut) in lengths.iter_mut().zip(dense) {
                    // Without branches, so that it is done several slots at a time.
                    let alive = u32::from(*length == base);
                    let more = u32::from(*cut).min(matched) * alive;
                    all |= u32::from(more >= matched);
                    *length += more;
                }
                all != 0
            }
        }
    }

    /// Bytes on the heap, without the party itself.
    pub(super) fn bytes(&self) -> usize {
        let cuts = match &self.cuts {
            Cuts::Few(few) => few.capacity() * size_of::<(u16, u16)>(),
            Cuts::Dense(dense) => dense.len() * size_of::<u16>(),
        };
        cuts + self.islands.capacity() * size_of::<Island>()
    }

    fn set_cut(&mut self, holder: Holder, cut: usize) {
        let slot = usize::from(holder.0);
        match &mut self.cuts {
            Cuts::Few(few) => match few.iter().position(|(slot, _)| *slot == holder.0) {
                Some(at) if cut == 0 => {
                    few.swap_remove(at);
                    if few.capacity() > 2 * few.len() + 8 {
                        few.shrink_to(few.len() + few.len() / 4);
                    }
                }
                Some(at) => few[at].1 = cut as u16,
                None if cut == 0 => {}
                None => {
                    if few.len() == few.capacity() {
                        few.reserve_exact((few.len() / 4).max(1));
                    }
                    few.push((holder.0, cut as u16));
                    self.turn_dense();
                }
            },
            Cuts::Dense(dense) => {
                if slot >= dense.len() {
                    let mut longer = Vec::with_capacity(slot + 1 + slot / 8);
                    longer.extend_from_slice(dense);
                    longer.resize(slot + 1 + slot / 8, 0);
                    *dense = longer.into_boxed_slice();
                }
                let counted = cut == 0 && dense[slot] != 0;
                dense[slot] = cut as u16;
                if counted {
                    self.turn_few();
                }
            }
        }
    }

    fn turn_dense(&mut self) {
        let Cuts::Few(few) = &self.cuts else { return };
        if few.len() < DENSE_MIN {
            return;
        }
        let slots = few.iter().map(|(slot, _)| usize::from(*slot) + 1).max().unwrap_or(0);
        if slots <= few.len() * DENSE_SHARE {
            let mut dense = vec![0; slots];
            few.iter().for_each(|(slot, cut)| dense[usize::from(*slot)] = *cut);
            self.cuts = Cuts::Dense(dense.into_boxed_slice());
        }
    }

    /// Back to a list when hardly anybody is left. Cost: all slots.
    fn turn_few(&mut self) {
        let Cuts::Dense(dense) = &self.cuts else { return };
        let left = dense.iter().filter(|cut| **cut != 0).count();
        if left * DENSE_SHARE * 4 < dense.len() {
            let entries = dense.iter().enumerate().filter(|(_, cut)| **cut != 0);
            self.cuts = Cuts::Few(entries.map(|(slot, cut)| (slot as u16, *cut)).collect());
        }
    }
}
