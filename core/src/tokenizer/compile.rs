//! The compiler: a `tokenizer.json` to an asset that [`super::Runtime`] uses in place.
//!
//! It knows what it can do exactly and refuses the rest: every part of the file is either read in full here or named in
//! the error. What it takes a file to mean is what the crate `tokenizers` 0.23 does with it, oddities included.

mod added;
mod alternatives;
mod atoms;
mod automata;
mod cuts;
mod expression;
mod file;
mod model;
mod normalizer;
mod post;
mod pretokenizer;
mod unicode;

use super::asset;
use super::classes::Classes;
use super::meta::Meta;
use super::rules::{Main, Rules};
use automata::Automata;
use file::File;

/// Why a `tokenizer.json` has no asset.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CompileError {
    /// No tokenizer can be made of it: the crate `tokenizers` would not read it either.
    #[error("invalid: {0}")]
    Invalid(String),
    /// A kind, or a detail, that our own runtime does not know. The file works through the crate `tokenizers`.
    #[error("not supported by this tokenizer runtime: {0}")]
    Unsupported(String),
}

fn unsupported<T>(message: impl Into<String>) -> Result<T, CompileError> {
    Err(CompileError::Unsupported(message.into()))
}

/// Makes an asset of a `tokenizer.json`. Truncation and padding of the file are left out: vLLM sets both per call, to
/// none. Cost: about 0.3 s for 150,000 entries, natively; five times the file's size in memory.
///
/// # Errors
/// When the file is not a tokenizer, or not one that can be done exactly; the message names the part.
pub fn compile(tokenizer_json: &[u8]) -> Result<Vec<u8>, CompileError> {
    let file = File::read(tokenizer_json)?;
    let mut normalizer = normalizer::read(&file.normalizer)?;
    let mut cut = pretokenizer::read(&file.pre_tokenizer, &mut normalizer)?;
    let model = model::Model::read(&file.model, &mut cut)?;
    let table = unicode::table(&cut.isolated, &normalizer.steps);
    let [blocks, entries] = unicode::sections(&table);
    let ascii = std::array::from_fn(|at| table.get(at).copied().unwrap_or(0));
    let classes = Classes {
        ascii: &ascii,
        plain_letters: false,
        blocks: blocks.as_chunks().0,
        entries: entries.as_chunks().0,
    };
    let added = added::read(&file.added_tokens, &model, &normalizer, &classes, cut.metaspace)?;
    let cuts = cuts::cuts(&cut, &normalizer.steps, &added);
    let (stages, [atom_blocks, atom_entries, atom_bytes]) =
        cut.automata.map(Automata::into_parts).unwrap_or_default();
    let meta = Meta {
        vocab_size: added.vocab_size,
        symbols: model.symbols.clone(),
        cuts,
        steps: normalizer.steps,
        metaspace: cut.metaspace,
        prefix: cut.prefix,
        rules: cut.rules,
        added: added.raw,
        added_normalized: added.normalized,
        specials: post::read(&file.post_processor)?,
        stages,
    };
    let [slots, records] = model.vocabulary(&meta)?;
    let [fold_blocks, fold_entries] = model.folds;
    let sections = [
        meta.write(),
        blocks,
        entries,
        slots,
        records,
        model.pairs,
        model.merged,
        model.pair_bytes,
        model.characters,
        fold_blocks,
        fold_entries,
        atom_blocks,
        atom_entries,
        atom_bytes,
    ];
    match asset::build(sections) {
        Some(asset) => Ok(asset),
        None => unsupported(format!("an asset of more than {} bytes", asset::ASSET_BYTES_MAX)),
    }
}

/// How text is cut, and what its first symbols are.
struct Cut {
    rules: Rules,
    /// Byte-level: symbols are bytes.
    bytes: bool,
    metaspace: bool,
    prefix: super::meta::Prefix,
    /// Character sets of the stages before the main expression, as inclusive ranges of code points.
    isolated: Vec<Vec<(u32, u32)>>,
    /// Instead of all these.
    automata: Option<Automata>,
}

impl Rules {
    const fn of(main: Main) -> Self {
        Self {
            main,
            contractions: false,
            marks: false,
            sign_marks: true,
            numbers_max: 1,
            slash: false,
            isolated_max: [0; 3],
        }
    }
}
