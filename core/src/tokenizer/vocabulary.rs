//! Tokens that a whole word can be, by their text: a hash table used in place.
//!
//! Without `ignore_merges` only those are in it whose text merges to the token itself, so a word found here needs no
//! merging; with it, all of them, as there the vocabulary decides before any merge.
//!
//! A slot has the high bits of the hash and says where the token's record lies; a record has length (2 bytes), id (3
//! bytes) and text in one place, so a hit is two places in memory. Records are in the order of ids: frequent tokens, which
//! were made first in training, lie close together.

use super::pairs::PROBES_MAX;
use super::text;

/// Records end before this: a slot has 24 bits for where one starts, stored one higher.
pub(super) const RECORDS_BYTES_MAX: usize = (1 << OFFSET_BITS) - 1;

const OFFSET_BITS: u32 = 24;
const HEAD_BYTES: usize = 5;

/// The table, as the asset holds it.
#[derive(Clone, Copy)]
pub(super) struct Vocabulary<'a> {
    /// High bits of the text's hash, and offset + 1; 0 is empty.
    pub(super) slots: &'a [[u8; 4]],
    pub(super) records: &'a [u8],
}

fn tag(hash: u64) -> u32 {
    (hash >> (64 - (32 - OFFSET_BITS))) as u32
}

fn home(hash: u64, slots: usize) -> usize {
    let homes = (slots as u64).saturating_sub(PROBES_MAX as u64);
    (((hash & 0xffff_ffff) * homes) >> 32) as usize
}

impl Vocabulary<'_> {
    /// The token whose text this is, by the word's [`text::token_hash`]. Cost: two to four slots in one cache line; for a
    /// hit one more place, and comparing.
    pub(super) fn id(&self, word: &[u8], hash: u64) -> Option<u32> {
        for slot in self.slots.iter().skip(home(hash, self.slots.len())).take(PROBES_MAX) {
            let slot = u32::from_le_bytes(*slot);
            if slot == 0 {
                return None;
            }
            if slot >> OFFSET_BITS == tag(hash) {
                let at = (slot as usize & RECORDS_BYTES_MAX).wrapping_sub(1);
                if let Some((id, text)) = self.record(at, word.len())
                    && text::same(text, word)
                {
                    return Some(id);
                }
            }
        }
        None
    }

    /// Id and text of the record at `at`, if its text is of this length.
    fn record(&self, at: usize, length: usize) -> Option<(u32, &[u8])> {
        let (head, texts) = self.records.get(at..)?.split_first_chunk::<HEAD_BYTES>()?;
        let [low, high, id @ ..] = *head;
        let [first, second, third] = id;
        let found = usize::from(u16::from_le_bytes([low, high]));
        (found == length).then_some(())?;
        Some((u32::from_le_bytes([first, second, third, 0]), texts.get(..length)?))
    }
}

/// The two sections of the table: slots and records. `tokens` are ids with their texts, by id. `None`: they are too many
/// or too long.
pub(super) fn build(tokens: &[(u32, &[u8])]) -> Option<[Vec<u8>; 2]> {
    let mut records: Vec<u8> = Vec::new();
    let mut placed = Vec::with_capacity(tokens.len());
    for (id, text) in tokens {
        placed.push((text::token_hash(text), records.len() as u32));
        records.extend(u16::try_from(text.len()).ok()?.to_le_bytes());
        records.extend(id.to_le_bytes().iter().take(3));
        records.extend_from_slice(text);
    }
    if records.len() >= RECORDS_BYTES_MAX {
        return None;
    }
    let mut homes = tokens.len() * 10 / 6 + 1;
    loop {
        match lay(&placed, homes) {
            Some(slots) => {
                return Some([slots.iter().flat_map(|slot| slot.to_le_bytes()).collect(), records]);
            }
            None => homes += homes / 4 + 1,
        }
    }
}

fn lay(placed: &[(u64, u32)], homes: usize) -> Option<Vec<u32>> {
    let mut slots = vec![0_u32; homes + PROBES_MAX];
    for (hash, offset) in placed {
        let probe = slots.iter_mut().skip(home(*hash, homes + PROBES_MAX)).take(PROBES_MAX);
        let free = probe.into_iter().find(|slot| **slot == 0)?;
        *free = tag(*hash) << OFFSET_BITS | (offset + 1);
    }
    Some(slots)
}
