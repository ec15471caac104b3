//! What the scanners know of a character: one byte, from a two-stage table in the asset.
//!
//! The low four bits are a class: the general categories that the regular expressions of tokenizers tell apart. The
//! high four are flags that the compiler gives a meaning per file: characters that stand alone before anything else is
//! matched, and characters that the file's normalization form may change. The tables are Unicode 16's, those of
//! `regex-syntax` 0.8, which the crate `tokenizers` 0.23 matches with.

/// Unassigned, control, format and private-use characters.
pub(super) const OTHER: u8 = 0;
/// `\p{Lu}` and `\p{Lt}`.
pub(super) const UPPER: u8 = 1;
/// `\p{Ll}`.
pub(super) const LOWER: u8 = 2;
/// `\p{Lm}` and `\p{Lo}`: letters without case.
pub(super) const LETTER: u8 = 3;
/// `\p{M}`.
pub(super) const MARK: u8 = 4;
/// `\p{N}`.
pub(super) const NUMBER: u8 = 5;
/// `\p{P}`.
pub(super) const PUNCTUATION: u8 = 6;
/// `\p{S}`.
pub(super) const SYMBOL: u8 = 7;
/// `\s` without the two of [`NEWLINE`].
pub(super) const SPACE: u8 = 8;
/// `\r` and `\n`.
pub(super) const NEWLINE: u8 = 9;
/// The end of what is scanned.
pub(super) const END: u8 = 15;

/// Bits of the class.
pub(super) const CLASS_BITS: u8 = 0x0f;
/// Flag: normalization may change the character, or join it to the one before it.
pub(super) const UNSTABLE: u8 = 0x10;
/// Flags: characters that a stage before the main expression isolates; one stage each.
pub(super) const ISOLATED: [u8; 3] = [0x20, 0x40, 0x80];

/// A set of classes, as bits.
pub(super) type Mask = u16;
/// Letters with case.
pub(super) const CASED: Mask = 1 << UPPER | 1 << LOWER;
/// `\p{L}`.
pub(super) const LETTERS: Mask = 1 << UPPER | 1 << LOWER | 1 << LETTER;
/// `[\p{L}\p{M}]`.
pub(super) const LETTERS_AND_MARKS: Mask = LETTERS | 1 << MARK;
/// `\p{N}`.
pub(super) const NUMBERS: Mask = 1 << NUMBER;
/// `\s`.
pub(super) const SPACES: Mask = 1 << SPACE | 1 << NEWLINE;
/// `[^\s\p{L}\p{N}]`.
pub(super) const SIGNS: Mask = !(LETTERS | NUMBERS | SPACES | 1 << END);
/// `[\p{P}\p{S}]`.
pub(super) const PUNCTUATION_AND_SYMBOLS: Mask = 1 << PUNCTUATION | 1 << SYMBOL;
/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`.
pub(super) const UPPER_LIKE: Mask = 1 << UPPER | 1 << LETTER | 1 << MARK;
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`.
pub(super) const LOWER_LIKE: Mask = 1 << LOWER | 1 << LETTER | 1 << MARK;

/// Whether a class is in a set.
#[inline(always)]
pub(super) fn is_in(class: u8, mask: Mask) -> bool {
    mask >> (class & CLASS_BITS) & 1 != 0
}

/// Characters in one block of the second stage.
pub(super) const BLOCK_CHARS: usize = 128;

/// The table: block numbers (two bytes, little endian) by code point / 128, and the blocks.
#[derive(Clone, Copy)]
pub(super) struct Classes<'a> {
    pub(super) ascii: &'a [u8; 128],
    /// Whether no ASCII letter has a flag and each is upper or lower case, so that a run of them needs no look into
    /// the table. So it is for all files but those that isolate some.
    pub(super) plain_letters: bool,
    pub(super) blocks: &'a [[u8; 2]],
    pub(super) entries: &'a [[u8; BLOCK_CHARS]],
}

/// Whether [`Classes::plain_letters`].
pub(super) fn are_plain_letters(ascii: &[u8; 128]) -> bool {
    let mut letters = (0_u8..).zip(ascii).filter(|(byte, _)| byte.is_ascii_alphabetic());
    letters.all(|(_, entry)| *entry == UPPER || *entry == LOWER)
}

const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many of eight bytes, from the first, are ASCII.
#[inline(always)]
pub(super) fn leading_ascii(bytes: [u8; 8]) -> usize {
    (u64::from_le_bytes(bytes) & HIGH).trailing_zeros() as usize / 8
}

/// How many of eight bytes, from the first, are ASCII letters. Eight at a time: how long a word is no processor can guess.
#[inline(always)]
pub(super) fn leading_letters(bytes: [u8; 8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let bytes = u64::from_le_bytes(bytes);
    let small = (bytes | (0x20 * ONES)) & !HIGH;
    // No sum is over 255, so none runs into the next byte.
    let from_a = small + (0x80 - b'a' as u64) * ONES;
    let over_z = small + (0x7f - b'z' as u64) * ONES;
    let letters = from_a & !over_z & !bytes & HIGH;
    (letters ^ HIGH).trailing_zeros() as usize / 8
}

impl Classes<'_> {
    /// Class and flags of an ASCII byte.
    #[inline(always)]
    pub(super) fn ascii(&self, byte: u8) -> u8 {
        self.ascii.get(usize::from(byte & 127)).copied().unwrap_or(OTHER)
    }

    /// Class and flags of any character. Two loads.
    #[inline]
    pub(super) fn of(&self, code: u32) -> u8 {
        let block =
            self.blocks.get(code as usize / BLOCK_CHARS).map_or(0, |block| u16::from_le_bytes(*block));
        let entries = self.entries.get(usize::from(block));
        entries.and_then(|entries| entries.get(code as usize % BLOCK_CHARS)).copied().unwrap_or(OTHER)
    }
}

/// The character that starts at `at`, and its length in bytes. Of valid UTF-8 only; anything else gives some character.
#[inline]
pub(super) fn decode(bytes: &[u8], at: usize) -> (u32, usize) {
    let byte = |offset: usize| u32::from(bytes.get(at + offset).copied().unwrap_or(0));
    let more = |offset: usize| byte(offset) & 0x3f;
    match byte(0) {
        first @ 0..0xc0 => (first, 1),
        first @ 0xc0..0xe0 => ((first & 0x1f) << 6 | more(1), 2),
        first @ 0xe0..0xf0 => ((first & 0x0f) << 12 | more(1) << 6 | more(2), 3),
        first => ((first & 0x07) << 18 | more(1) << 12 | more(2) << 6 | more(3), 4),
    }
}

#[cfg(test)]
mod tests {
    use super::{leading_ascii, leading_letters};

    #[test]
    fn letters_and_ascii_are_counted_as_one_by_one() {
        let mut random = fastrand::Rng::with_seed(5);
        for round in 0..20_000_u32 {
            let mut bytes = [0; 8];
            // Mostly letters, and every byte at every place.
            bytes.fill_with(|| if random.u8(0..6) > 0 { random.alphabetic() as u8 } else { random.u8(..) });
            bytes[round as usize % 8] = (round / 8) as u8;
            let naive = bytes.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
            assert_eq!(leading_letters(bytes), naive, "{bytes:?}");
            let naive = bytes.iter().take_while(|byte| byte.is_ascii()).count();
            assert_eq!(leading_ascii(bytes), naive, "{bytes:?}");
        }
    }
}
