//! How many leading keys each holder holds.

use warmpath_core::block::BlockKey;

use super::holders::Holder;
use super::party::Held;
use super::segment::touch_marks;
use super::shard::Shard;

/// Match lengths by holder: dense, and reused from lookup to lookup.
#[derive(Clone, Default, Debug)]
pub struct Matches {
    blocks: Vec<u32>,
}

impl Matches {
    /// Leading blocks that `holder` holds.
    pub fn of(&self, holder: Holder) -> u32 {
        self.blocks.get(usize::from(holder.0)).copied().unwrap_or(0)
    }

    /// Sets them to 0 for `slots` holders.
    pub(super) fn clear(&mut self, slots: usize) -> &mut [u32] {
        self.blocks.clear();
        self.blocks.resize(slots, 0);
        &mut self.blocks
    }

    /// All of them, by slot; holders beyond the end hold nothing.
    pub fn as_slice(&self) -> &[u32] {
        &self.blocks
    }
}

impl Shard {
    /// Writes match lengths into `lengths`, which are all 0, by slot.
    ///
    /// Segment by segment along the chain: where the next one begins is found by its key, how far it is the same by
    /// its last key, or by a search in it. A holder goes on if it holds all that was matched so far, which its length
    /// alone tells: no set of those alive is kept. Ends with the keys, where no segment follows, or when nobody is left.
    pub(super) fn lookup(&self, keys: &[BlockKey], lengths: &mut [u32]) {
        let mut matched = 0;
        touch_marks(keys);
        while let Some((id, blocks)) = keys.get(matched..).and_then(|keys| self.begins(keys)) {
            let segment = &self.segments[id];
            let (base, more) = (matched as u32, blocks as u32);
            let alive = match segment.holding.held() {
                Held::Nobody => false,
                Held::One(holder, cut) => match lengths.get_mut(usize::from(holder.0)) {
                    Some(length) if *length == base => {
                        *length = base + more.min(cut as u32);
                        cut >= blocks
                    }
                    _ => false,
                },
                Held::Party(party) => self.parties[party].extend_matches(lengths, base, more),
            };
            if !alive || segment.children() == 0 {
                return;
            }
            matched += blocks;
        }
    }
}
