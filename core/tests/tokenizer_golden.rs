//! The runtime beside the crate `tokenizers` and the recorded ids, on every string of the shared corpus.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use warmpath_core::tokenizer::{HfTokenizer, Limits, Runtime, Tokenizer, compile};

fn run(name: &str) {
    let Some(rows) = common::shared(&format!("golden/tokens/{name}.jsonl.gz")) else { return };
    let Some(file) = common::shared(&format!("tokenizers/{name}.json.gz")) else { return };
    let json = common::gunzip(&file);
    let runtime = Runtime::load(compile(&json).unwrap()).unwrap();
    let hf = HfTokenizer::from_json(&json).unwrap();
    assert_eq!(runtime.vocab_size(), hf.vocab_size());
    let (mut rows_seen, mut recorded, mut different) = (0, 0, Vec::new());
    for row in common::json_lines(&rows) {
        let text = row["text"].as_str().unwrap();
        rows_seen += 1;
        for specials in [false, true] {
            let ids = runtime.encode(text, specials, &Limits::NONE).unwrap();
            assert!(ids.complete);
            let count = row[if specials { "n_sp" } else { "n" }].as_u64().or(row["n"].as_u64()).unwrap();
            assert_eq!(hf.encode(text, specials, &Limits::NONE).unwrap().ids.len() as u64, count, "{text:?}");
            if ids != hf.encode(text, specials, &Limits::NONE).unwrap() {
                different.push(row["id"].to_string());
            }
        }
        if let Some(wanted) = row["ids"].as_array() {
            recorded += 1;
            let ids = runtime.encode(text, false, &Limits::NONE).unwrap().ids;
            assert_eq!(serde_json::json!(ids).as_array().unwrap(), wanted, "{text:?}");
        }
    }
    assert!(different.is_empty(), "{name}: {} differ: {}", different.len(), different.join(" "));
    assert_eq!((rows_seen, recorded), (1620, 300));
}

#[test]
fn qwen3_equals_the_reference() {
    run("qwen3");
}

#[test]
fn gpt2_equals_the_reference() {
    run("gpt2");
}

#[test]
fn deepseek_equals_the_reference() {
    run("deepseek");
}

#[test]
fn mistral_equals_the_reference() {
    run("mistral_v1");
}
