//! A small tokenizer of each kind and what Python's package makes with it (`data/golden/make.py`), natively and in Wasm.
//!
//! In Wasm: `cargo test -p warmpath-core --target wasm32-unknown-unknown --test tokens`, with the runner of wasm-bindgen.

use serde_json::Value;
use warmpath_core::tokenizer::check::compare;
use warmpath_core::tokenizer::strings::Strings;
use warmpath_core::tokenizer::{HfTokenizer, Limits, Runtime, Tokenizer, compile};
use wasm_bindgen_test::wasm_bindgen_test;

/// `tokenizer.json` and rows of a kind.
macro_rules! kinds {
    ($($name:literal),*) => {
        [$(($name,
            include_str!(concat!("data/golden/tokenizers/", $name, ".json")),
            include_str!(concat!("data/golden/tokens/", $name, ".jsonl")))),*]
    };
}

const KINDS: [(&str, &str, &str); 8] =
    kinds!("gpt2", "qwen", "llama3", "o200k", "tekken", "deepseek", "mistral_v1", "metaspace");

fn equals_the_recording(tokenizer: &dyn Tokenizer, name: &str, rows: &str) {
    let mut compared = 0;
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let text = row["text"].as_str().unwrap();
        for (add_special_tokens, key) in [(false, "ids"), (true, "ids_sp")] {
            let wanted = row.get(key).unwrap_or(&row["ids"]);
            let wanted: Vec<u32> = serde_json::from_value(wanted.clone()).unwrap();
            let encoded = tokenizer.encode(text, add_special_tokens, &Limits::NONE).unwrap();
            assert!(encoded.complete);
            assert_eq!(encoded.ids, wanted, "{name}, row {}, {key}: {text:?}", row["id"]);
        }
        compared += 1;
    }
    assert_eq!(compared, 64, "{name}");
}

#[wasm_bindgen_test(unsupported = test)]
fn the_crate_makes_the_ids_of_the_python_package() {
    for (name, json, rows) in KINDS {
        equals_the_recording(&HfTokenizer::from_json(json.as_bytes()).unwrap(), name, rows);
    }
}

/// The generator must make the same strings everywhere, or a report from one place would mean nothing in another.
#[wasm_bindgen_test(unsupported = test)]
fn generated_strings_are_the_same_everywhere() {
    let strings = Strings::of(KINDS[1].1.as_bytes(), 11);
    let all: Vec<u8> = (0..640).flat_map(|at| strings.at(at).1.into_bytes()).collect();
    let hash = all.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    assert_eq!(hash, 4_740_486_034_725_466_994, "{} bytes", all.len());
}

#[wasm_bindgen_test(unsupported = test)]
fn our_runtime_makes_the_ids_of_the_python_package() {
    for (name, json, rows) in KINDS {
        let runtime = Runtime::load(compile(json.as_bytes()).unwrap()).unwrap();
        equals_the_recording(&runtime, name, rows);
    }
}

/// As many as take a few seconds; `cargo xtask differ` takes as many as one likes.
#[wasm_bindgen_test(unsupported = test)]
fn our_runtime_makes_the_crates_ids_of_generated_strings() {
    for (name, json, _) in KINDS {
        let oracle = HfTokenizer::from_json(json.as_bytes()).unwrap();
        let runtime = Runtime::load(compile(json.as_bytes()).unwrap()).unwrap();
        let compared = compare(&oracle, &runtime, &Strings::of(json.as_bytes(), 3), 0..640);
        assert_eq!(compared.unwrap_or_else(|mismatch| panic!("{name}: {mismatch}")), 640);
    }
}
