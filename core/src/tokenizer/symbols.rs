//! The symbols that merging starts with.

use super::encoder::Tables;
use super::folds::Symbol;
use super::meta::{Meta, NO_ID};

/// The symbols that a word starts as. What has no id is unknown, or left out when the file has no unknown token.
pub(super) fn push_symbols(tables: &Tables<'_>, word: &[u8], symbols: &mut Vec<u32>) {
    let Meta { symbols: rule, .. } = tables.meta;
    let of_byte = |byte: u8| rule.bytes.get(usize::from(byte)).copied().unwrap_or(NO_ID);
    let mut after_unknown = false;
    let mut push = |id: u32| {
        if id != NO_ID {
            symbols.push(id);
        } else if rule.unknown != NO_ID && !(rule.fuse_unknown && after_unknown) {
            symbols.push(rule.unknown);
        }
        after_unknown = id == NO_ID;
    };
    if !rule.characters {
        tables.folds.each(word, |symbol| match symbol {
            Symbol::Byte(byte) => push(of_byte(byte)),
            Symbol::Token(id) => push(id),
        });
        return;
    }
    for character in word.utf8_chunks().flat_map(|chunk| chunk.valid().chars()) {
        match of_character(tables.characters, character) {
            Some(id) => push(id),
            None if rule.bytes.is_empty() => push(NO_ID),
            None => character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push(of_byte(byte))),
        }
    }
}

fn of_character(characters: &[[u8; 8]], character: char) -> Option<u32> {
    let halves = |entry: &[u8; 8]| {
        let number = u64::from_le_bytes(*entry);
        (number as u32, (number >> 32) as u32)
    };
    let at = characters.binary_search_by_key(&u32::from(character), |entry| halves(entry).0).ok()?;
    characters.get(at).map(|entry| halves(entry).1)
}
