//! The asset: what a compiled tokenizer is kept and sent as, one block of bytes that is used where it lies.
//!
//! ```text
//! magic 8 | version u32 | sections u32 | XXH3-64 of all that follows u64 | per section: offset u32, length u32 | sections
//! ```
//!
//! Numbers are little endian, offsets count from the asset's first byte, sections start at multiples of 8. The checksum
//! finds damage, not malice: whatever the sections hold, reading them is bounded and checked.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 8] = *b"warmtok\0";
/// Version of the format: an asset of another one is refused, and made again from its `tokenizer.json`.
pub const ASSET_VERSION: u32 = 3;
/// A vocabulary of 2 million tokens makes less; a length beyond it would not fit the offsets on their way.
pub const ASSET_BYTES_MAX: usize = 256 << 20;

const SECTIONS: usize = 14;
const CHECKED_FROM: usize = 24;
const HEADER_BYTES: usize = CHECKED_FROM + 8 * SECTIONS;

/// Why bytes are not an asset that can be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AssetError {
    /// Something else, or cut off in the header.
    #[error("not a tokenizer asset: compile the model's tokenizer.json")]
    NotAnAsset,
    /// Made by another version of the compiler.
    #[error(
        "tokenizer asset of version {found}, this build reads version {ASSET_VERSION}: compile tokenizer.json again"
    )]
    Version {
        /// The asset's version.
        found: u32,
    },
    /// Cut off, or changed.
    #[error("tokenizer asset is damaged ({0}): fetch or compile it again")]
    Damaged(&'static str),
}

/// The sections, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Section {
    /// [`super::meta::Meta`].
    Meta,
    /// Classes: block numbers.
    ClassBlocks,
    /// Classes: blocks.
    ClassEntries,
    /// Vocabulary: slots.
    TokenSlots,
    /// Vocabulary: records.
    TokenRecords,
    /// Merges: slots.
    PairSlots,
    /// Merges: merged ids by rank.
    PairMerged,
    /// Merges: ranks of pairs of bytes.
    PairBytes,
    /// Ids of characters.
    Characters,
    /// Folds: block numbers.
    FoldBlocks,
    /// Folds: blocks.
    FoldEntries,
    /// Atoms of characters: block numbers.
    AtomBlocks,
    /// Atoms of characters: blocks.
    AtomEntries,
    /// Atoms of bytes.
    AtomBytes,
}

/// An asset whose header holds.
pub(super) struct Asset {
    bytes: Vec<u8>,
    sections: [Range<usize>; SECTIONS],
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Whether this build reads the asset that begins with these bytes (12 are enough): whoever has an asset in use can tell
/// before giving it up for another.
///
/// # Errors
/// When it is something else, or of another version.
pub fn readable(start: &[u8]) -> Result<(), AssetError> {
    if start.first_chunk() != Some(&MAGIC) {
        return Err(AssetError::NotAnAsset);
    }
    match number(start, 8) {
        Some(ASSET_VERSION) => Ok(()),
        Some(found) => Err(AssetError::Version { found }),
        None => Err(AssetError::NotAnAsset),
    }
}

impl Asset {
    /// Checks header and checksum. Cost: one XXH3 over the bytes.
    pub(super) fn open(bytes: Vec<u8>) -> Result<Self, AssetError> {
        readable(&bytes)?;
        let checked = bytes.get(CHECKED_FROM..).unwrap_or_default();
        let checksum = bytes.get(16..).and_then(<[u8]>::first_chunk).map(|sum| u64::from_le_bytes(*sum));
        if number(&bytes, 12) != Some(SECTIONS as u32) || bytes.len() < HEADER_BYTES {
            return Err(AssetError::Damaged("header"));
        }
        if checksum != Some(xxh3_64(checked)) {
            return Err(AssetError::Damaged("checksum"));
        }
        let mut sections = [const { 0..0 }; SECTIONS];
        for (index, section) in sections.iter_mut().enumerate() {
            let at = CHECKED_FROM + 8 * index;
            let range = number(&bytes, at).zip(number(&bytes, at + 4));
            let range =
                range.map(|(start, length)| start as usize..(start as usize).saturating_add(length as usize));
            *section = range
                .filter(|range| bytes.get(range.clone()).is_some())
                .ok_or(AssetError::Damaged("sections"))?;
        }
        Ok(Self { bytes, sections })
    }

    /// A section's bytes.
    #[inline]
    pub(super) fn section(&self, section: Section) -> &[u8] {
        let range = self.sections.get(section as usize).cloned().unwrap_or_default();
        self.bytes.get(range).unwrap_or_default()
    }

    /// A section as entries of `N` bytes; bytes that do not fill an entry are left out.
    #[inline]
    pub(super) fn entries<const N: usize>(&self, section: Section) -> &[[u8; N]] {
        self.section(section).as_chunks().0
    }

    /// Bytes of the whole asset.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Makes the checksum fit the bytes, where there is room for one: fuzzing would hardly come past it otherwise.
pub(crate) fn set_checksum(asset: &mut [u8]) {
    let Some((header, checked)) = asset.split_at_mut_checked(CHECKED_FROM) else { return };
    if let Some(checksum) = header.get_mut(16..) {
        checksum.copy_from_slice(&xxh3_64(checked).to_le_bytes());
    }
}

/// Puts an asset together from its sections, in the order of [`Section`]. `None`: it would be over [`ASSET_BYTES_MAX`].
pub(super) fn build(sections: [Vec<u8>; SECTIONS]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.extend(MAGIC);
    bytes.extend(ASSET_VERSION.to_le_bytes());
    bytes.extend((SECTIONS as u32).to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    let mut at = HEADER_BYTES;
    for section in &sections {
        at = at.next_multiple_of(8);
        bytes.extend((at as u32).to_le_bytes());
        bytes.extend((section.len() as u32).to_le_bytes());
        at = at.checked_add(section.len()).filter(|at| *at <= ASSET_BYTES_MAX)?;
    }
    for section in sections {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(section);
    }
    let checksum = xxh3_64(bytes.get(CHECKED_FROM..)?);
    bytes.get_mut(16..CHECKED_FROM)?.copy_from_slice(&checksum.to_le_bytes());
    Some(bytes)
}
