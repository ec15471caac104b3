//! The file, as far as serde reads it.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::{CompileError, unsupported};

#[derive(Deserialize)]
pub(super) struct File {
    version: Option<String>,
    #[serde(default)]
    pub(super) added_tokens: Vec<AddedEntry>,
    #[serde(default)]
    pub(super) normalizer: Value,
    #[serde(default)]
    pub(super) pre_tokenizer: Value,
    #[serde(default)]
    pub(super) post_processor: Value,
    pub(super) model: ModelFile,
}

/// An added token. Its `id` is not here: the crate `tokenizers` does not use it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub(super) struct AddedEntry {
    pub(super) content: String,
    pub(super) single_word: bool,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    pub(super) normalized: bool,
    pub(super) special: bool,
}

#[derive(Deserialize)]
pub(super) struct ModelFile {
    pub(super) dropout: Option<f32>,
    pub(super) unk_token: Option<String>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    pub(super) fuse_unk: Option<bool>,
    pub(super) byte_fallback: Option<bool>,
    pub(super) ignore_merges: Option<bool>,
    pub(super) vocab: HashMap<String, u32>,
    pub(super) merges: MergesFile,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum MergesFile {
    Pairs(Vec<(String, String)>),
    /// Two tokens with a space between them.
    Lines(Vec<String>),
}

impl MergesFile {
    /// Pairs in the order of their ranks.
    pub(super) fn pairs(&self) -> Result<Vec<(&str, &str)>, CompileError> {
        match self {
            Self::Pairs(pairs) => Ok(pairs.iter().map(|(left, right)| (&**left, &**right)).collect()),
            Self::Lines(lines) => {
                let lines = lines.iter().filter(|line| !line.starts_with("#version"));
                let split = lines.map(|line| {
                    let pair = line.split_once(' ').filter(|(_, right)| !right.contains(' '));
                    pair.ok_or_else(|| {
                        CompileError::Invalid(format!("model.merges: {line:?} is not two tokens"))
                    })
                });
                split.collect()
            }
        }
    }
}

/// The model's kind alone: another kind has other fields.
#[derive(Deserialize)]
struct Head {
    model: Kind,
}

#[derive(Deserialize)]
struct Kind {
    r#type: Option<String>,
}

impl File {
    pub(super) fn read(json: &[u8]) -> Result<Self, CompileError> {
        let invalid = |error: serde_json::Error| CompileError::Invalid(error.to_string());
        let head: Head = serde_json::from_slice(json).map_err(invalid)?;
        match head.model.r#type.as_deref() {
            Some("BPE") => {}
            Some(kind) => return unsupported(format!("model.type {kind}; BPE is supported")),
            None => return unsupported("a model without a type"),
        }
        let file: Self = serde_json::from_slice(json).map_err(invalid)?;
        match file.version.as_deref() {
            None | Some("1.0") => Ok(file),
            Some(version) => Err(CompileError::Invalid(format!("version {version}"))),
        }
    }
}
