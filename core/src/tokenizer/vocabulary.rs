//! Tokens that a whole word can be, by their text: a hash table used in place.
//!
//! Without `ignore_merges` only those are in it whose text merges to the token itself, so a word found here needs no
//! merging; with it, all of them, as there the vocabulary decides before any merge.

use super::pairs::{IDS_MAX, PROBES_MAX};
use super::text;

const ID_BITS: u32 = 21;

/// The table, as the asset holds it.
#[derive(Clone, Copy)]
pub(super) struct Vocabulary<'a> {
    /// High bits of the text's hash, and id + 1; 0 is empty.
    pub(super) slots: &'a [[u8; 4]],
    /// Where the text of each id starts in `bytes`, and after the last one where it ends.
    pub(super) offsets: &'a [[u8; 4]],
    /// Texts of all ids in the table, by id.
    pub(super) bytes: &'a [u8],
}

fn tag(hash: u64) -> u32 {
    (hash >> (64 - (32 - ID_BITS))) as u32
}

fn home(hash: u64, slots: usize) -> usize {
    let homes = (slots as u64).saturating_sub(PROBES_MAX as u64);
    (((hash & 0xffff_ffff) * homes) >> 32) as usize
}

impl Vocabulary<'_> {
    /// The token whose text this is. Cost: two to four slots in one cache line; for a hit two loads more and comparing.
    /// `hash` is the word's [`text::token_hash`].
    pub(super) fn id(&self, word: &[u8], hash: u64) -> Option<u32> {
        for slot in self.slots.iter().skip(home(hash, self.slots.len())).take(PROBES_MAX) {
            let slot = u32::from_le_bytes(*slot);
            if slot == 0 {
                return None;
            }
            let id = (slot & IDS_MAX).wrapping_sub(1);
            if slot >> ID_BITS == tag(hash) && self.text(id).is_some_and(|text| text::same(text, word)) {
                return Some(id);
            }
        }
        None
    }

    fn text(&self, id: u32) -> Option<&[u8]> {
        let offset = |at: usize| self.offsets.get(at).map(|bytes| u32::from_le_bytes(*bytes) as usize);
        self.bytes.get(offset(id as usize)?..offset(id as usize + 1)?)
    }
}

/// The three sections of the table: slots, offsets, bytes. `tokens` are ids with their texts, by id, without empty texts.
pub(super) fn build(tokens: &[(u32, &[u8])]) -> [Vec<u8>; 3] {
    let mut offsets = Vec::new();
    let mut bytes: Vec<u8> = Vec::new();
    for (id, text) in tokens {
        // Ids without a text in the table are empty.
        while offsets.len() <= *id as usize {
            offsets.push(bytes.len() as u32);
        }
        bytes.extend_from_slice(text);
    }
    offsets.push(bytes.len() as u32);
    let mut homes = tokens.len() * 10 / 6 + 1;
    let slots = loop {
        match lay(tokens, homes) {
            Some(slots) => break slots,
            None => homes += homes / 4 + 1,
        }
    };
    let bytes_of = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    [bytes_of(&slots), bytes_of(&offsets), bytes]
}

fn lay(tokens: &[(u32, &[u8])], homes: usize) -> Option<Vec<u32>> {
    let mut slots = vec![0_u32; homes + PROBES_MAX];
    for (id, text) in tokens {
        let hash = text::token_hash(text);
        let probe = slots.iter_mut().skip(home(hash, homes + PROBES_MAX)).take(PROBES_MAX);
        let free = probe.into_iter().find(|slot| **slot == 0)?;
        *free = tag(hash) << ID_BITS | (id + 1);
    }
    Some(slots)
}
