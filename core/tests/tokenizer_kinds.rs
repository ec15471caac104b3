//! Odd `tokenizer.json` files of every kind, with what Python's `tokenizers` made of strings (`data/kinds/make.py`): what
//! our runtime or the crate take is exact, and what they would not be exact for is refused.
//! `WARMPATH_KINDS` names another file of `make.py`.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use std::path::{Path, PathBuf};

use serde_json::Value;
use warmpath_core::tokenizer::{CompileError, HfTokenizer, Limits, Runtime, Tokenizer, compile};

/// Ids, or that there are none.
fn ids(value: &Value) -> Option<Vec<u32>> {
    Some(value.as_array()?.iter().map(|id| id.as_u64().unwrap() as u32).collect())
}

/// The first string that is encoded otherwise.
fn difference(tokenizer: &dyn Tokenizer, rows: &[Value]) -> Option<String> {
    for row in rows {
        let text = row[0].as_str().unwrap();
        let special = row.get(2).unwrap_or(&row[1]);
        for (add_special_tokens, expected) in [(false, &row[1]), (true, special)] {
            let found = tokenizer.encode(text, add_special_tokens, &Limits::NONE).ok();
            let found = found.filter(|encoded| encoded.complete).map(|encoded| encoded.ids);
            if found != ids(expected) {
                return Some(format!("{text:?}, {add_special_tokens}: {found:?}, not {expected}"));
            }
        }
    }
    None
}

#[test]
fn every_kind_is_exact_or_refused() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kinds/cases.jsonl.gz");
    // Of another file, what is not taken is printed.
    let other = std::env::var_os("WARMPATH_KINDS").map(PathBuf::from);
    let cases = other.clone().unwrap_or(here);
    let lines = String::from_utf8(common::gunzip(&cases)).unwrap();
    let (mut runtimes, mut crates, mut wrong) = (0, 0, Vec::new());
    for (number, line) in lines.lines().enumerate() {
        let case: Value = serde_json::from_str(line).unwrap();
        let json = case["file"].as_str().unwrap().as_bytes();
        let runtime = match compile(json) {
            Ok(asset) => Some(Runtime::load(asset).unwrap()),
            Err(error @ (CompileError::Unsupported(_) | CompileError::Invalid(_))) => {
                if other.is_some() {
                    println!("{number}: {error}");
                }
                None
            }
        };
        let hf = HfTokenizer::from_json(json).ok();
        let Some(rows) = case["rows"].as_array() else {
            if runtime.is_some() || hf.is_some() {
                wrong.push(format!("{number}: is taken, and Python refuses it: {}", case["error"]));
            }
            continue;
        };
        runtimes += usize::from(runtime.is_some());
        crates += usize::from(hf.is_some());
        let runtime = runtime.and_then(|runtime| difference(&runtime, rows));
        wrong.extend(runtime.map(|difference| format!("{number}: runtime: {difference}")));
        let hf = hf.and_then(|hf| difference(&hf, rows));
        wrong.extend(hf.map(|difference| format!("{number}: crate: {difference}")));
    }
    assert!(wrong.is_empty(), "{} files:\n{}", wrong.len(), wrong.join("\n"));
    println!("{runtimes} in the runtime, {crates} in the crate");
    assert!(
        other.is_some() || runtimes >= 35 && crates >= 94,
        "{runtimes} in the runtime, {crates} in the crate"
    );
}
