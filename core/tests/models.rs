//! One model's limits, key spaces and loading.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use serde_json::{Value, json};
use warmpath_core::definition::{ModelDefinition, SaltRule};
use warmpath_core::model::{Model, PromptKeys};
use warmpath_core::pass::{Pass, PassReason};
use warmpath_core::request::{Api, parse};
use warmpath_core::tokenizer::{HfTokenizer, Limits};

/// The small model with a changed definition.
fn model(change: impl FnOnce(&mut ModelDefinition)) -> Model {
    let mut definition = common::small_model().definition().clone();
    change(&mut definition);
    let template = include_str!("data/chat_template.jinja");
    Model::load(definition, common::small_tokenizer(), Some(template)).unwrap()
}

fn completion(model: &Model, body: Value) -> Result<PromptKeys, Pass> {
    model.keys(&parse(Api::Completions, body.to_string().as_bytes())?, None)
}

#[track_caller]
fn passes(outcome: Result<PromptKeys, Pass>, reason: PassReason) {
    assert_eq!(outcome.unwrap_err().reason, reason);
}

#[test]
fn prompts_up_to_the_models_length_are_keyed() {
    let model = model(|definition| definition.max_model_len = Some(64));
    let ids = |count: usize| json!({"prompt": vec![5; count]});
    assert_eq!(completion(&model, ids(64)).unwrap().keys.len(), 3);
    passes(completion(&model, ids(65)), PassReason::PromptTooLong);
    passes(completion(&model, json!({"prompt": "x", "max_tokens": 65})), PassReason::InvalidField);
    assert!(completion(&model, json!({"prompt": "x", "max_tokens": 64})).is_ok());
    let unlimited = self::model(|definition| definition.max_model_len = None);
    assert_eq!(completion(&unlimited, ids(20_000)).unwrap().token_count, 20_000);
}

#[test]
fn salt_adapter_and_model_separate_keys() {
    let keys = |model: &Model, more: Value| {
        let mut body = json!({"prompt": vec![5; 40]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        completion(model, body).unwrap().keys
    };
    let keyed = model(|_| {});
    let plain = keys(&keyed, json!({}));
    assert_eq!(plain.len(), 2);
    assert_eq!(keys(&keyed, json!({"model": "demo"})), plain);
    assert_ne!(keys(&keyed, json!({"model": "sql-adapter"})), plain);
    let salted = keys(&keyed, json!({"cache_salt": "a"}));
    assert!(salted != plain && salted != keys(&keyed, json!({"cache_salt": "b"})));
    let ignored = model(|definition| definition.cache_salt = SaltRule::Ignored);
    assert_eq!(keys(&ignored, json!({"cache_salt": "a"})), plain);
    let other_seed = model(|definition| definition.seed += 1);
    assert_ne!(keys(&other_seed, json!({})), plain);
    let other_model = model(|definition| definition.name = "other".to_owned());
    assert_ne!(keys(&other_model, json!({})), plain);
}

#[test]
fn names_that_are_not_served_pass() {
    let model = model(|definition| definition.default = false);
    passes(completion(&model, json!({"prompt": "x"})), PassReason::UnknownModel);
    passes(completion(&model, json!({"prompt": "x", "model": "nope"})), PassReason::UnknownModel);
    assert!(completion(&model, json!({"prompt": "x", "model": "demo"})).is_ok());
}

#[test]
fn ids_beyond_the_vocabulary_pass() {
    let model = model(|_| {});
    assert!(completion(&model, json!({"prompt": [384]})).is_ok());
    passes(completion(&model, json!({"prompt": [0, 385]})), PassReason::InvalidField);
    // Where the model's own vocabulary is padded, ids of the padding are taken, and no others.
    let padded = self::model(|definition| definition.vocab_size = Some(400));
    assert!(completion(&padded, json!({"prompt": [0, 399]})).is_ok());
    passes(completion(&padded, json!({"prompt": [0, 400]})), PassReason::InvalidField);
    let smaller = self::model(|definition| definition.vocab_size = Some(300));
    assert!(completion(&smaller, json!({"prompt": [384]})).is_ok());
    let size = |config: Value| warmpath_core::definition::vocab_size(&config);
    assert_eq!(size(json!({"vocab_size": 7})), Some(7));
    assert_eq!(size(json!({"vocab_size": 9, "text_config": {"vocab_size": 7}})), Some(7));
    assert_eq!(size(json!({"model_type": "x"})), None);
}

/// What adds no token makes no prompt of an empty text, and then vLLM refuses all prompts of the body.
#[test]
fn an_empty_text_among_others_passes() {
    let model = model(|_| {});
    // This tokenizer puts one before every text.
    assert_eq!(completion(&model, json!({"prompt": ["a", ""]})).unwrap().token_count, 2);
    assert_eq!(completion(&model, json!({"prompt": ["", "a"]})).unwrap().token_count, 1);
    for prompt in [json!(["a", ""]), json!(["", "a"])] {
        let bare = json!({"prompt": prompt, "add_special_tokens": false});
        passes(completion(&model, bare), PassReason::EmptyPrompt);
    }
}

#[test]
fn a_chat_needs_a_template() {
    let definition = common::small_model().definition().clone();
    let model = Model::load(definition, common::small_tokenizer(), None).unwrap();
    let body = br#"{"messages": [{"role": "user", "content": "x"}]}"#;
    passes(model.keys(&parse(Api::ChatCompletions, body).unwrap(), None), PassReason::NoTemplate);
}

#[test]
fn truncation_and_padding_of_the_file_are_off() {
    let mut file: Value = serde_json::from_str(include_str!("data/tokenizer.json")).unwrap();
    file["truncation"] =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    file["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"});
    let definition = common::small_model().definition().clone();
    let model = Model::load(definition, common::hf(file.to_string().as_bytes()), None).unwrap();
    let body = json!({"prompt": "the lazy dog looks at the quick brown fox"});
    let expected = completion(&common::small_model(), body.clone()).unwrap();
    assert!(expected.token_count > 4 && expected.token_count < 64);
    assert_eq!(completion(&model, body).unwrap(), expected);
}

#[test]
fn an_empty_encoding_passes() {
    // White space that the template strips, with nothing else in it.
    let definition = common::small_model().definition().clone();
    let model = Model::load(definition, common::small_tokenizer(), Some("{{ messages[0].content | trim }}"));
    let body = br#"{"messages": [{"role": "user", "content": " \n "}]}"#;
    passes(model.unwrap().keys(&parse(Api::ChatCompletions, body).unwrap(), None), PassReason::EmptyPrompt);
}

#[test]
fn broken_assets_are_named() {
    let definition = common::small_model().definition().clone();
    assert!(HfTokenizer::from_json(b"{}").is_err());
    let error = Model::load(definition, common::small_tokenizer(), Some("{{")).err().unwrap();
    assert!(error.to_string().starts_with("model demo: chat template: syntax error"), "{error}");
}

/// Past a limit there are keys of a prefix, or none: never those of another prompt, and never a wrong refusal.
#[test]
fn a_prompt_past_a_limit_is_incomplete() {
    let limits = Limits { bytes_max: 16, ..Limits::default() };
    let model = common::small_model().with_limits(limits);
    let short = completion(&model, json!({"prompt": "a lazy dog"})).unwrap();
    assert!(short.complete && short.token_count > 0);
    let long = completion(&model, json!({"prompt": "a lazy dog looks at the fox"})).unwrap();
    assert_eq!((long.keys.len(), long.complete), (0, false));
}
