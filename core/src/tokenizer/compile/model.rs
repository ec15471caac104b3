//! The model of the file: vocabulary and merges.

use std::collections::HashMap;

use super::super::added::Matcher;
use super::super::automata::Atoms;
use super::super::classes::{BLOCK_CHARS, Classes};
use super::super::encoder::Tables;
use super::super::folds::{self, Folds};
use super::super::letters;
use super::super::merge::Merger;
use super::super::meta::{Meta, NO_ID, Symbols};
use super::super::pairs::{self, IDS_MAX, Merged, Pairs, RANKS_MAX};
use super::super::rules::Main;
use super::super::symbols::push_symbols;
use super::super::vocabulary::{self, Vocabulary};
use super::file::ModelFile;
use super::{CompileError, Cut, unsupported};

pub(super) struct Model<'a> {
    pub(super) file: &'a ModelFile,
    pub(super) symbols: Symbols,
    /// Sections of the asset.
    pub(super) pairs: Vec<u8>,
    pub(super) merged: Vec<u8>,
    pub(super) pair_bytes: Vec<u8>,
    pub(super) characters: Vec<u8>,
    pub(super) folds: [Vec<u8>; 2],
    /// Ids with the texts that words are compared to, by id. Tokens that no word can be are left out.
    tokens: Vec<(u32, Vec<u8>)>,
}

type Merge<'a> = (&'a str, &'a str, u32);

impl<'a> Model<'a> {
    /// Reads it; may make `cut` one word of it all, where cutting at spaces would not be exact.
    pub(super) fn read(file: &'a ModelFile, cut: &mut Cut) -> Result<Self, CompileError> {
        check(file)?;
        let tokens = tokens(file, cut);
        let merges = merges(file)?;
        let id = |token: &str| file.vocab.get(token).copied();
        let symbols = symbols(file, cut)?;
        // Where symbols are left out, those around them become neighbours.
        let drops = symbols.bytes.is_empty() && symbols.unknown == NO_ID;
        if cut.rules.main == Main::Spaces && (drops || spans_spaces(&merges) || id("\u{2581}").is_none()) {
            cut.rules.main = Main::Whole;
        }
        let mut ranked = HashMap::new();
        let mut merged = Vec::new();
        for (left, right, rank) in &merges {
            let ids = id(left).zip(id(right)).zip(id(&format!("{left}{right}")));
            let Some(((left, right), made)) = ids else {
                return Err(CompileError::Invalid(format!(
                    "model.merges: {left:?} and {right:?}, or both together, are not in the vocabulary"
                )));
            };
            // A pair that is there twice has its last rank.
            ranked.insert((left, right), *rank);
            merged.extend(made.to_le_bytes());
        }
        let mut ranked: Vec<_> =
            ranked.into_iter().map(|((left, right), rank)| (left, right, rank)).collect();
        ranked.sort_unstable();
        let characters = if cut.bytes { Vec::new() } else { characters(&tokens) };
        let pairs = pairs::build(&ranked);
        let table =
            Pairs { slots: pairs.as_chunks().0, merged: Merged::new(merged.as_chunks().0), bytes: &[] };
        let has_all = cut.bytes && !symbols.bytes.contains(&NO_ID);
        let pair_bytes = if has_all { pairs::build_bytes(&table, &symbols.bytes) } else { Vec::new() };
        // A stage behind `ByteLevel` makes words that are no whole characters.
        let cuts_bytes =
            cut.automata.as_ref().is_some_and(|automata| automata.stages.iter().any(|stage| stage.bytes));
        let folds = match has_all && !cuts_bytes {
            true => folds::build(&ranked, &table, &tokens, &symbols.bytes),
            false => Default::default(),
        };
        Ok(Self { file, symbols, pairs, merged, pair_bytes, characters, folds, tokens })
    }

    /// The vocabulary's sections: the tokens that a whole word can be.
    pub(super) fn vocabulary(&self, meta: &Meta) -> Result<[Vec<u8>; 2], CompileError> {
        let added_normalized = Matcher::new(Vec::new());
        let tables = Tables {
            meta,
            classes: Classes {
                ascii: &[0; 128],
                plain_letters: false,
                blocks: &[],
                entries: &[[0; BLOCK_CHARS]],
            },
            vocabulary: Vocabulary { slots: &[], records: &[] },
            pairs: Pairs {
                slots: self.pairs.as_chunks().0,
                merged: Merged::new(self.merged.as_chunks().0),
                bytes: &[],
            },
            characters: self.characters.as_chunks().0,
            // What merges to itself is found out from bytes.
            folds: Folds::default(),
            atoms: Atoms {
                characters: Classes { ascii: &[0; 128], plain_letters: false, blocks: &[], entries: &[] },
                bytes: &[],
            },
            added_normalized: &added_normalized,
        };
        let mut merger = Merger::default();
        let mut merges_to_itself = |id: u32, text: &[u8]| {
            merger.symbols.clear();
            push_symbols(&tables, text, &mut merger.symbols);
            merger.merge(&tables.pairs, text, &mut u64::MAX.clone()) && merger.symbols == [id]
        };
        let ignore_merges = self.file.ignore_merges == Some(true);
        let mut whole = Vec::with_capacity(self.tokens.len());
        for (id, text) in &self.tokens {
            if merges_to_itself(*id, text) {
                whole.push((*id, text.as_slice()));
            } else if ignore_merges && meta.rules.main == Main::Spaces {
                return unsupported("ignore_merges in a model that cuts no words");
            } else if ignore_merges {
                whole.push((*id, text.as_slice()));
            }
        }
        match vocabulary::build(&whole) {
            Some(sections) => Ok(sections),
            None => unsupported(format!(
                "model.vocab: more than {} bytes of tokens",
                vocabulary::RECORDS_BYTES_MAX
            )),
        }
    }
}

/// What of the model is not known here, or would not fit the asset.
fn check(file: &ModelFile) -> Result<(), CompileError> {
    if file.dropout.is_some_and(|dropout| dropout != 0.0) {
        return unsupported("model.dropout");
    }
    for (name, part) in [
        ("continuing_subword_prefix", &file.continuing_subword_prefix),
        ("end_of_word_suffix", &file.end_of_word_suffix),
    ] {
        if part.as_ref().is_some_and(|part| !part.is_empty()) {
            return unsupported(format!("model.{name}"));
        }
    }
    let mut ids: Vec<u32> = file.vocab.values().copied().collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| matches!(pair, [left, right] if left == right)) {
        return unsupported("model.vocab: two tokens of one id");
    }
    if ids.last().is_some_and(|id| *id >= IDS_MAX - 1) || file.vocab.contains_key("") {
        return unsupported(format!("model.vocab: an empty token, or an id over {IDS_MAX}"));
    }
    Ok(())
}

fn merges(file: &ModelFile) -> Result<Vec<Merge<'_>>, CompileError> {
    let pairs = file.merges.pairs()?;
    if pairs.len() >= RANKS_MAX as usize {
        return unsupported(format!("more than {RANKS_MAX} merges"));
    }
    Ok((0..).zip(pairs).map(|(rank, (left, right))| (left, right, rank)).collect())
}

/// Whether a merge makes a token with U+2581 behind something else: then words cannot be cut in front of it.
fn spans_spaces(merges: &[Merge<'_>]) -> bool {
    merges.iter().any(|(left, right, _)| {
        let token = format!("{left}{right}");
        token.trim_start_matches('\u{2581}').contains('\u{2581}')
    })
}

/// Texts of tokens as the runtime sees words: bytes of a byte-level model, spaces for U+2581.
fn tokens(file: &ModelFile, cut: &Cut) -> Vec<(u32, Vec<u8>)> {
    let alphabet = letters::bytes();
    let text = |token: &str| -> Option<Vec<u8>> {
        if cut.bytes {
            token.chars().map(|character| alphabet.get(&character).copied()).collect()
        } else if cut.metaspace {
            // A space never gets as far as the model.
            (!token.contains(' ')).then(|| token.replace('\u{2581}', " ").into_bytes())
        } else {
            Some(token.as_bytes().to_vec())
        }
    };
    let mut tokens: Vec<_> = file.vocab.iter().filter_map(|(token, id)| Some((*id, text(token)?))).collect();
    tokens.sort_unstable();
    tokens
}

/// Ids of characters, by character.
fn characters(tokens: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let single = tokens.iter().filter_map(|(id, text)| {
        let mut characters = std::str::from_utf8(text).ok()?.chars();
        characters.next().filter(|_| characters.next().is_none()).map(|character| (u32::from(character), *id))
    });
    let mut single: Vec<_> = single.collect();
    single.sort_unstable();
    single
        .into_iter()
        .flat_map(|(character, id)| (u64::from(character) | u64::from(id) << 32).to_le_bytes())
        .collect()
}

fn symbols(file: &ModelFile, cut: &Cut) -> Result<Symbols, CompileError> {
    let id = |token: &str| file.vocab.get(token).copied().unwrap_or(NO_ID);
    let fallback = file.byte_fallback == Some(true);
    let mut bytes = vec![NO_ID; 256];
    if cut.bytes {
        for (character, byte) in letters::bytes() {
            if let Some(entry) = bytes.get_mut(usize::from(byte)) {
                *entry = id(character.encode_utf8(&mut [0; 4]));
            }
        }
    } else if fallback {
        bytes = (0..=255_u8).map(|byte| id(&format!("<{byte:#04X}>"))).collect();
    }
    // Only characters without a token fall back to bytes. So the bytes of ASCII characters that are tokens are never asked
    // for (Gemma has a token for the tab and none for its byte), nor are those that UTF-8 does not use.
    let falls_back = |byte: u8| match byte {
        0..0x80 => id(char::from(byte).encode_utf8(&mut [0; 4])) == NO_ID,
        0xc0 | 0xc1 | 0xf5.. => false,
        _ => true,
    };
    let has_none = bytes.iter().all(|id| *id == NO_ID);
    let is_missing = |(byte, id): (u8, &u32)| *id == NO_ID && (cut.bytes || falls_back(byte));
    let some_missing = (0..=255).zip(&bytes).any(is_missing);
    if fallback && some_missing && (cut.bytes || !has_none) {
        return unsupported("model.byte_fallback with tokens for some bytes only");
    }
    let unknown = file.unk_token.as_deref().map_or(NO_ID, id);
    if file.unk_token.is_some() && unknown == NO_ID && some_missing {
        return unsupported("model.unk_token that is not in the vocabulary");
    }
    if !cut.bytes && has_none {
        bytes.clear();
    }
    Ok(Symbols { characters: !cut.bytes, bytes, unknown, fuse_unknown: file.fuse_unk == Some(true) })
}
