//! Prompts that repeat or resemble earlier ones have the keys that a model without a past gives them.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use proptest::prelude::*;
use serde_json::{Value, json};
use warmpath_core::model::{Model, PromptKeys};
use warmpath_core::pass::Pass;
use warmpath_core::request::{Api, parse};

/// Prints all that a chat brings: keys of JSON in their order, and the time where it is asked for.
const TEMPLATE: &str = "{%- if tools %}{{ tools | tojson }}{% endif -%}
{%- if clock %}{{ strftime_now('%H:%M:%S') }}{% endif -%}
{%- for message in messages %}<{{ message.role }} {{ message.name }}>{{ message.content }}{{ message.tool_calls }}{% endfor -%}
{{ variable }}{% if add_generation_prompt %}<assistant>{% endif %}";

fn model() -> Model {
    let mut definition = common::small_model().definition().clone();
    definition.chat.trust_request_chat_template = true;
    definition.max_model_len = Some(1 << 20);
    Model::load(definition, common::small_tokenizer(), Some(TEMPLATE)).unwrap()
}

fn keys(model: &Model, body: &Value, now: i64) -> Result<PromptKeys, Pass> {
    let api = if body.get("messages").is_some() { Api::ChatCompletions } else { Api::Completions };
    model.keys(&parse(api, body.to_string().as_bytes())?, Some(now))
}

/// A text long enough to be kept.
fn long() -> String {
    "All of it again, and again. ".repeat(60)
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

/// A body of few kinds, so that many are equal or almost equal.
fn body() -> impl Strategy<Value = Value> {
    let few = |values: &'static [&'static str]| prop::sample::select(values);
    let extras = few(&[
        "{}",
        r#"{"cache_salt": "a"}"#,
        r#"{"model": "sql-adapter"}"#,
        r#"{"add_generation_prompt": false}"#,
        r#"{"chat_template_kwargs": {"variable": 0.0}}"#,
        r#"{"chat_template_kwargs": {"variable": -0.0}}"#,
        r#"{"chat_template_kwargs": {"variable": 0}}"#,
        r#"{"chat_template_kwargs": {"clock": true}}"#,
        r#"{"chat_template": "{{ messages[0].content }}{{ strftime_now('%S') }}"}"#,
        r#"{"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 1, "b": 2}}}]}"#,
        r#"{"tools": [{"type": "function", "function": {"name": "f", "parameters": {"b": 2, "a": 1}}}]}"#,
        r#"{"max_tokens": 10000000}"#,
        r#"{"truncate_prompt_tokens": 40}"#,
        r#"{"truncate_prompt_tokens": 41}"#,
    ]);
    let names = few(&[r#"{}"#, r#"{"name": "ab"}"#, r#"{"role": "system"}"#]);
    (any::<bool>(), extras, names, few(&["", "x", "Hi"])).prop_map(|(chat, extra, name, end)| {
        let mut body = match chat {
            true => json!({"messages": [user(&long()), user(end)]}),
            false => json!({"prompt": long() + end}),
        };
        let merge = |to: &mut Value, more: &str| {
            let more: Value = serde_json::from_str(more).unwrap();
            to.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        };
        merge(&mut body, extra);
        if chat {
            merge(&mut body["messages"][1], name);
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_past_changes_no_keys(bodies in prop::collection::vec((body(), 0..3_i64), 1..40)) {
        let model = model();
        for (body, now) in &bodies {
            prop_assert_eq!(keys(&model, body, *now), keys(&self::model(), body, *now), "{}", body);
        }
    }
}

#[test]
fn a_repeat_is_found_and_counted() {
    let length = long().len() as u64;
    let body = json!({"messages": [user(&long()), user("Hi")]});
    for (model, hit_later) in [(common::small_model(), true), (self::model(), false)] {
        let first = keys(&model, &body, 1).unwrap();
        assert_eq!(model.stats().segment_hit_bytes, 0);
        assert!(model.stats().cache_bytes > length);
        assert_eq!(keys(&model, &body, 1).unwrap(), first);
        let hits = model.stats().segment_hit_bytes;
        assert!(hits > length, "{hits}");
        // A template without a clock has no time; another one may print it.
        assert_eq!(keys(&model, &body, 2).unwrap(), first);
        assert_eq!(model.stats().segment_hit_bytes > hits, hit_later);
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let model = model();
    for number in 0..200 {
        keys(&model, &json!({"prompt": format!("{number} {}", long().repeat(10))}), 1).unwrap();
        assert!(model.stats().cache_bytes <= 512 << 10);
    }
    let before = model.stats();
    keys(&model, &json!({"prompt": long().repeat(200)}), 1).unwrap();
    assert_eq!(
        model.stats().cache_bytes,
        before.cache_bytes,
        "one that would take more than half is not kept"
    );
    keys(&model, &json!({"prompt": format!("199 {}", long().repeat(10))}), 1).unwrap();
    assert!(model.stats().segment_hit_bytes > before.segment_hit_bytes, "the latest is");
}
