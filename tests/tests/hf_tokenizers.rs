//! The filter with the crate `tokenizers` inside (feature `hf-tokenizers`), on a kind of tokenizer that our own runtime does
//! not know. Run by `cargo xtask test --only hf-tokenizers`.

mod common;

use common::{ask, events_arrive, metrics, start};
use serde_json::{Value, json};
use warmpath_harness::{ModelFiles, StackBuilder, Steer};

/// A Unigram tokenizer of single letters and a few words.
fn unigram() -> Value {
    let letters = ('a'..='z').chain(['.', ',', '\u{2581}']).map(|letter| (letter.to_string(), -5.0));
    let words =
        ["\u{2581}the", "\u{2581}lamp", "\u{2581}window", "\u{2581}was", "\u{2581}still", "ing", "er"];
    let words = words.iter().map(|word| ((*word).to_owned(), -3.0));
    let unknown = [("<unk>".to_owned(), 0.0)];
    let vocabulary: Vec<(String, f64)> = unknown.into_iter().chain(letters).chain(words).collect();
    let metaspace =
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": metaspace, "post_processor": null, "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": false},
    })
}

/// The pods tokenize with the crate natively: their events must hold the keys that the filter makes with it in Wasm.
#[tokio::test]
#[ignore = "needs the filter with the feature hf-tokenizers; `cargo xtask test --only hf-tokenizers` runs it"]
async fn a_unigram_tokenizer_is_keyed_in_the_filter() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("tokenizer.json"), unigram().to_string()).unwrap();
    std::fs::write(path("tokenizer_config.json"), r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#)
        .unwrap();
    std::fs::write(path("config.json"), "{}").unwrap();
    let mut model = ModelFiles::in_directory("demo", directory.path());
    model.chat_template = ModelFiles::demo().chat_template;
    let entry = json!([{
        "name": "demo", "default": true, "block_tokens": 64, "max_model_len": 16_384, "tokenize": "inline-hf",
        "tokenizer": model.tokenizer, "tokenizer_config": model.tokenizer_config, "config": model.config,
        "chat_template": model.chat_template,
    }]);
    let change = |builder: StackBuilder| builder.models(vec![model]).sidecar(json!({ "models": entry }));
    let stack = start("a_unigram_tokenizer_is_keyed_in_the_filter", Steer::Header, change).await;
    let stack = stack.expect("WARMPATH_ENVOY is set");
    let text = "the lamp by the window was still burning, and they wondered over it. ".repeat(20);
    let chat = json!({"model": "demo", "messages": [{"role": "user", "content": text}], "max_tokens": 1});
    let completion = json!({"model": "demo", "prompt": text, "max_tokens": 1});
    for (path, body) in [("/v1/completions", completion), ("/v1/chat/completions", chat)] {
        let first = ask(&stack, path, &body).await;
        assert_eq!((first.reason(), first.matched().0), ("steered", 0), "{path}");
        events_arrive(&stack).await;
        let again = ask(&stack, path, &body).await;
        let (matched, keys) = again.matched();
        assert!(matched == keys && keys >= 5, "{path}: {matched} of {keys}");
        assert_eq!(again.pod(), first.pod());
    }
    assert_eq!(metrics(&stack).await.sum("warmpath_asset_errors"), 0.0);
    let module = std::fs::metadata(std::env::var_os("WARMPATH_FILTER").unwrap()).unwrap();
    println!("a module of {} bytes", module.len());
}
