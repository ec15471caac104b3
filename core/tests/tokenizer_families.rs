//! Our runtime beside the crate `tokenizers`, on small files of every family that the compiler takes
//! (`data/tokenizers/make.py`) and, where they are there, on the shared ones.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use std::path::Path;

use warmpath_core::tokenizer::check::compare;
use warmpath_core::tokenizer::strings::Strings;
use warmpath_core::tokenizer::{HfTokenizer, Runtime, compile};

/// Positions of strings per file: 100 of each category.
const STRINGS: usize = 1600;

fn differences(json: &[u8], seed: u64) -> Option<String> {
    let asset = match compile(json) {
        Ok(asset) => asset,
        Err(error) => return Some(error.to_string()),
    };
    let runtime = Runtime::load(asset).unwrap();
    let hf = HfTokenizer::from_json(json).unwrap();
    compare(&hf, &runtime, &Strings::of(json, seed), 0..STRINGS).err().map(|mismatch| mismatch.to_string())
}

#[test]
fn every_family_equals_the_reference() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    assert!(files.len() >= 30, "{} files", files.len());
    let mut failed = Vec::new();
    for file in files {
        if let Some(difference) = differences(&std::fs::read(&file).unwrap(), 7) {
            failed.push(format!("{}: {difference}", file.file_name().unwrap().display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A character without a token falls back to bytes, so those of UTF-8 beyond ASCII need tokens, and of ASCII those that
/// are no tokens themselves.
#[test]
fn bytes_that_a_text_can_fall_back_to_need_tokens() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tokenizers/gemma.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let without = |byte: &str| {
        let mut file = file.clone();
        let removed = file["model"]["vocab"].as_object_mut().unwrap().remove(byte);
        assert!(removed.is_some(), "{byte}");
        differences(&serde_json::to_vec(&file).unwrap(), 3)
    };
    for harmless in ["<0x61>", "<0x0A>", "<0xC1>", "<0xF5>"] {
        assert_eq!(without(harmless), None, "{harmless}");
    }
    for needed in ["<0x00>", "<0x7F>", "<0x80>", "<0xC3>", "<0xF4>"] {
        let refusal = without(needed).unwrap_or_default();
        assert!(
            refusal.contains("model.byte_fallback with tokens for some bytes only"),
            "{needed}: {refusal}"
        );
    }
}

#[test]
fn shared_tokenizers_equal_the_reference() {
    for name in ["qwen3", "deepseek", "gpt2", "mistral_v1"] {
        let Some(file) = common::shared(&format!("tokenizers/{name}.json.gz")) else { return };
        assert_eq!(differences(&common::gunzip(&file), 11), None, "{name}");
    }
}
