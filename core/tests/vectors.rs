//! Keys and prompts that other code computed (`data/make.py`), natively and in Wasm: both must mean the same by a key.
//!
//! In Wasm: `cargo test -p warmpath-core --target wasm32-unknown-unknown --test vectors`, with the runner of wasm-bindgen.

mod common;

use serde_json::Value;
use warmpath_core::block::{self, BlockKey, KeySpace};
use warmpath_core::model::Model;
use warmpath_core::request::{self, Api};
use wasm_bindgen_test::wasm_bindgen_test;

fn vectors() -> Value {
    serde_json::from_str(include_str!("data/vectors.json")).unwrap()
}

fn key(value: &Value) -> BlockKey {
    BlockKey(u64::from_str_radix(value.as_str().unwrap(), 16).unwrap())
}

fn keys(value: &Value) -> Vec<BlockKey> {
    value.as_array().unwrap().iter().map(key).collect()
}

#[wasm_bindgen_test(unsupported = test)]
fn block_keys_equal_the_reference() {
    let vectors = vectors();
    let vectors = vectors["blocks"].as_array().unwrap();
    assert_eq!(vectors.len(), 7);
    for vector in vectors {
        let space = KeySpace {
            seed: key(&vector["seed"]).0,
            model: vector["model"].as_str().unwrap(),
            lora: vector["lora"].as_str(),
            salt: vector["salt"].as_str(),
        };
        let tokens: Vec<u32> = serde_json::from_value(vector["tokens"].clone()).unwrap();
        let block_tokens = vector["block_tokens"].as_u64().unwrap() as usize;
        assert_eq!(space.root(), key(&vector["root"]), "{space:?}");
        assert_eq!(block::chain(space.root(), &tokens, block_tokens), keys(&vector["keys"]), "{space:?}");
    }
}

/// The whole way, from a body to keys: Python's tokenizers, jinja2 and xxhash say what comes out.
#[wasm_bindgen_test(unsupported = test)]
fn prompts_equal_the_reference() {
    let model = common::small_model();
    let vectors = vectors();
    let vectors = vectors["prompts"].as_array().unwrap();
    assert_eq!(vectors.len(), 12);
    for vector in vectors {
        let name = &vector["name"];
        let api = Api::from_path(vector["path"].as_str().unwrap()).unwrap();
        let request = request::parse(api, vector["body"].to_string().as_bytes()).unwrap();
        let tokens: Vec<u32> = serde_json::from_value(vector["tokens"].clone()).unwrap();
        assert_eq!(model.tokens(&request, None).unwrap().ids, tokens, "{name}");
        let prompt = model.keys(&request, None).unwrap();
        assert_eq!(prompt.token_count, tokens.len(), "{name}");
        assert_eq!(prompt.keys, keys(&vector["keys"]), "{name}");
    }
}

/// What a Wasm build could get wrong on its own: pointer width, panics in libraries, the tokenizer's regular expressions.
#[wasm_bindgen_test(unsupported = test)]
fn bad_input_passes() {
    let model = common::small_model();
    for (body, reason) in [
        ("", "malformed_json"),
        (r#"{"prompt": "\ud800"}"#, "malformed_json"),
        (r#"{"prompt": 1e999}"#, "malformed_json"),
        (r#"{"prompt": [4294967296]}"#, "invalid_field"),
        (r#"{"prompt": [18446744073709551616]}"#, "invalid_field"),
        (r#"{"prompt": [400]}"#, "invalid_field"),
        (r#"{"prompt": "x", "max_tokens": 18446744073709551615}"#, "invalid_field"),
    ] {
        let outcome =
            request::parse(Api::Completions, body.as_bytes()).and_then(|request| model.keys(&request, None));
        assert_eq!(outcome.unwrap_err().reason.label(), reason, "{body}");
    }
}

/// A model that no request with a wrong name reaches.
#[wasm_bindgen_test(unsupported = test)]
fn the_adapter_is_part_of_the_key_and_an_unknown_model_passes() {
    let model: Model = common::small_model();
    assert_eq!(model.definition().adapter_for(None).unwrap(), None);
    assert_eq!(model.definition().adapter_for(Some("")).unwrap(), None);
    assert_eq!(model.definition().adapter_for(Some("demo")).unwrap(), None);
    assert_eq!(model.definition().adapter_for(Some("sql-adapter")).unwrap(), Some("sql-adapter"));
    assert_eq!(model.definition().adapter_for(Some("Demo")).unwrap_err().reason.label(), "unknown_model");
}
