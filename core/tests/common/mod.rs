//! Loading of models and of the shared golden data.
#![allow(dead_code, reason = "every test binary uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use warmpath_core::definition::{AssetRef, ModelDefinition, SaltRule, Tokenize};
use warmpath_core::model::Model;
use warmpath_core::tokenizer::{HfTokenizer, Tokenizer};

/// A model with the small tokenizer of this folder's data (385 entries, byte-level) and a template like ChatML.
pub(crate) fn small_model() -> Model {
    let mut definition = definition("demo", BTreeMap::new());
    definition.lora_adapters = vec!["sql-adapter".to_owned()];
    Model::load(definition, small_tokenizer(), Some(include_str!("../data/chat_template.jinja"))).unwrap()
}

/// The small tokenizer of this folder's data.
pub(crate) fn small_tokenizer() -> Box<dyn Tokenizer> {
    hf(include_bytes!("../data/tokenizer.json"))
}

/// A `tokenizer.json` through the crate `tokenizers`.
pub(crate) fn hf(json: &[u8]) -> Box<dyn Tokenizer> {
    Box::new(HfTokenizer::from_json(json).unwrap())
}

/// The folder of data that is too large for the repository: `WARMPATH_SHARED`, else `shared` beside the workspace.
pub(crate) fn shared(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WARMPATH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = root.join(part);
    if !path.exists() {
        println!("skipped: {} is missing", path.display());
        return None;
    }
    Some(path)
}

/// The bytes of a gzip file.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn gunzip(path: &Path) -> Vec<u8> {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(file), &mut bytes).unwrap();
    bytes
}

/// The rows of a gzip'ed file of JSON lines.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    gunzip(path)
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// A definition with test values; assets are handed to `Model::load` directly.
pub(crate) fn definition(name: &str, special_tokens: BTreeMap<String, String>) -> ModelDefinition {
    let asset = AssetRef::default();
    ModelDefinition {
        name: name.to_owned(),
        served_names: vec![name.to_owned()],
        default: true,
        lora_adapters: vec![],
        seed: 0x0123_4567_89ab_cdef,
        block_tokens: 16,
        cache_salt: SaltRule::Keyed,
        max_model_len: Some(16_384),
        tokenize: Tokenize::Inline(asset.clone()),
        special_tokens,
        chat_template: Some(asset),
        ..ModelDefinition::default()
    }
}

/// The named special tokens of a `tokenizer_config.json`: strings, or objects with `content`.
pub(crate) fn special_tokens(tokenizer_config: &serde_json::Value) -> BTreeMap<String, String> {
    let entries = tokenizer_config.as_object().unwrap().iter();
    let named = entries.filter(|(key, _)| key.ends_with("_token") && !key.starts_with("add_"));
    named
        .filter_map(|(key, value)| {
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            Some((key.clone(), text.to_owned()))
        })
        .collect()
}
