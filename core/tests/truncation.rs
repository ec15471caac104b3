//! `truncate_prompt_tokens`: which tokens of a prompt are kept, by the rules of vLLM 0.32 (`renderers/params.py`).
#![cfg(not(target_arch = "wasm32"))]

mod common;

use serde_json::{Value, json};
use warmpath_core::model::Model;
use warmpath_core::pass::{Pass, PassReason};
use warmpath_core::request::{Api, parse};
use warmpath_core::tokenizer::Limits;

const TEXT: &str = "the lazy dog looks at the quick brown fox";

/// A model of 32 tokens whose tokenizer puts a BOS token before texts.
fn with_bos() -> Model {
    let mut definition = common::small_model().definition().clone();
    definition.max_model_len = Some(32);
    let template = include_str!("data/chat_template.jinja");
    Model::load(definition, common::small_tokenizer(), Some(template)).unwrap()
}

fn ids(model: &Model, api: Api, body: Value) -> Result<Vec<u32>, Pass> {
    let tokens = model.tokens(&parse(api, body.to_string().as_bytes())?, None)?;
    assert!(tokens.complete);
    Ok(tokens.ids)
}

fn completion(fields: Value) -> Result<Vec<u32>, Pass> {
    let mut body = json!({"prompt": TEXT, "max_tokens": 1});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ids(&with_bos(), Api::Completions, body)
}

#[test]
fn the_tokenizer_keeps_the_end_and_its_own_tokens() {
    let whole = completion(json!({})).unwrap();
    let bos = whole[0];
    assert!(whole.len() > 8 && !whole[1..].contains(&bos));
    let kept = completion(json!({"truncate_prompt_tokens": 4})).unwrap();
    assert_eq!(kept, [&[bos], &whole[whole.len() - 3..]].concat());
    let bare = completion(json!({"truncate_prompt_tokens": 4, "add_special_tokens": false})).unwrap();
    assert_eq!(bare, whole[whole.len() - 4..]);
    assert_eq!(completion(json!({"truncate_prompt_tokens": whole.len()})).unwrap(), whole);
    // What is left where not even the special tokens fit is not known.
    let few = completion(json!({"truncate_prompt_tokens": 1})).unwrap_err();
    assert_eq!(few.reason, PassReason::UnsupportedField);
}

#[test]
fn a_named_side_cuts_the_ids_themselves() {
    let whole = completion(json!({})).unwrap();
    let cut = |side: &str| completion(json!({"truncate_prompt_tokens": 4, "truncation_side": side})).unwrap();
    assert_eq!(cut("left"), whole[whole.len() - 4..]);
    assert_eq!(cut("right"), whole[..4]);
    let tokens = |fields: Value| {
        let mut body = json!({"prompt": [5, 6, 7, 8]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ids(&with_bos(), Api::Completions, body)
    };
    assert_eq!(tokens(json!({"truncate_prompt_tokens": 2})).unwrap(), [7, 8]);
    assert_eq!(tokens(json!({"truncate_prompt_tokens": 2, "truncation_side": "right"})).unwrap(), [5, 6]);
    assert_eq!(tokens(json!({"truncate_prompt_tokens": 9})).unwrap(), [5, 6, 7, 8]);
    let nothing = tokens(json!({"truncate_prompt_tokens": 0})).unwrap_err();
    assert_eq!(nothing.reason, PassReason::EmptyPrompt);
}

#[test]
fn minus_one_keeps_what_the_model_takes() {
    let long = |fields: Value| {
        let mut body = json!({"prompt": (0..40).collect::<Vec<_>>(), "truncate_prompt_tokens": -1});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ids(&with_bos(), Api::Completions, body)
    };
    // One is left to answer with, unless no answer is asked for.
    assert_eq!(long(json!({})).unwrap(), (9..40).collect::<Vec<_>>());
    assert_eq!(long(json!({"max_tokens": 0})).unwrap(), (8..40).collect::<Vec<_>>());
    let more = completion(json!({"truncate_prompt_tokens": 33})).unwrap_err();
    assert_eq!(more.reason, PassReason::InvalidField);
}

#[test]
fn chats_are_cut_after_they_are_rendered() {
    let model = with_bos();
    let chat = |fields: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "the lazy dog"}]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ids(&model, Api::ChatCompletions, body)
    };
    let whole = chat(json!({})).unwrap();
    assert_eq!(chat(json!({"truncate_prompt_tokens": 3})).unwrap(), whole[whole.len() - 3..]);
    let media = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
    let messages = json!([{"role": "user", "content": "the lazy dog"}, {"role": "user", "content": media}]);
    let media = chat(json!({"truncate_prompt_tokens": 3, "messages": messages})).unwrap_err();
    assert_eq!(media.reason, PassReason::UnsupportedField);
}

/// Of a prompt whose end is not encoded the end cannot be kept.
#[test]
fn what_is_past_a_limit_passes() {
    let model = with_bos().with_limits(Limits { bytes_max: 8, ..Limits::default() });
    let body = json!({"prompt": TEXT, "truncate_prompt_tokens": 4});
    assert_eq!(ids(&model, Api::Completions, body).unwrap_err().reason, PassReason::UnsupportedField);
}
