//! The bodies of the fuzz targets, on stable Rust: proptest mixes bodies and templates from pieces.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use warmpath_core::fuzz;
use warmpath_core::model::Model;
use warmpath_core::tokenizer::compile;

/// Values that a field might hold, right and wrong ones.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u32..420).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        select(vec!["text", "image_url", "system", "user", "assistant", "tool", "developer", "none", "demo"])
            .prop_map(Value::from),
        Just(json!("x-anthropic-billing-header: a\nb")),
        "[ a-z<|_>]{100,400}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    let keys = [
        "model",
        "prompt",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "name",
        "cache_salt",
        "max_tokens",
        "max_completion_tokens",
        "add_special_tokens",
        "add_generation_prompt",
        "tools",
        "tool_choice",
        "tool_calls",
        "kv_transfer_params",
        "prompt_token_ids",
        "chat_template_kwargs",
        "continue_final_message",
        "cache_control",
    ];
    prop_oneof![9 => select(keys.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,8}"]
}

/// A prompt that most likely is one.
fn prompt() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => "\\PC{1,80}".prop_map(Value::from),
        2 => "[ a-z<|_>]{100,400}".prop_map(Value::from),
        2 => prop::collection::vec(0_u32..401, 1..80).prop_map(Value::from),
        2 => value(),
    ]
}

/// Content that most likely is text.
fn content() -> impl Strategy<Value = Value> {
    let part = "\\PC{0,20}".prop_map(|text| json!({"type": "text", "text": text}));
    prop_oneof![
        6 => "\\PC{0,80}".prop_map(Value::from),
        1 => any::<String>().prop_map(|text| format!("x-anthropic-billing-header{text}")).prop_map(Value::from),
        2 => prop::collection::vec(part, 0..4).prop_map(Value::from),
        1 => value(),
    ]
}

/// A message that is right but for one value at most.
fn message() -> impl Strategy<Value = Value> {
    let role = select(vec!["system", "user", "assistant", "tool"]);
    (role, content(), prop::option::weighted(0.1, (key(), value()))).prop_map(|(role, content, extra)| {
        let mut message = json!({"role": role, "content": content});
        if let Some((key, value)) = extra {
            message[key] = value;
        }
        message
    })
}

/// A block of `/v1/messages` or an item of `/v1/responses`, of a type that the API knows.
fn typed(kinds: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let names = [
        "text",
        "thinking",
        "id",
        "name",
        "arguments",
        "call_id",
        "tool_use_id",
        "summary",
        "output",
        "status",
    ];
    let fields = prop::collection::vec(
        (select(names.to_vec()), prop_oneof![3 => "\\PC{0,20}".prop_map(Value::from), 1 => value()]),
        0..6,
    );
    (select(kinds.to_vec()), fields, content(), prop::option::of(value())).prop_map(
        |(kind, fields, content, input)| {
            let mut typed =
                json!({"type": kind, "content": content, "role": "assistant", "summary": [], "input": input});
            for (name, value) in fields {
                typed[name] = value;
            }
            typed
        },
    )
}

/// Fields that only `/v1/messages`, `/v1/responses` or the generate endpoint have.
fn other_fields() -> impl Strategy<Value = Value> {
    let blocks = &["text", "image", "thinking", "tool_use", "tool_result", "tool_reference"];
    let items = &["message", "function_call", "function_call_output", "reasoning", "custom_tool_call"];
    let system = prop_oneof![content(), prop::collection::vec(typed(blocks), 0..3).prop_map(Value::from)];
    let items = prop::collection::vec(prop_oneof![message(), typed(items)], 0..5).prop_map(Value::from);
    let input = prop_oneof![content(), items];
    (prop::option::of(system), input, prompt(), prop::option::of(prop::collection::vec(typed(blocks), 0..5)))
        .prop_map(|(system, input, ids, blocks)| {
            let mut fields =
                json!({"max_tokens": 5, "sampling_params": {}, "input": input, "token_ids": ids});
            fields["system"] = system.unwrap_or_default();
            if let Some(blocks) = blocks {
                fields["messages"] =
                    json!([{"role": "user", "content": blocks}, {"role": "assistant", "content": "yes"}]);
            }
            fields
        })
}

/// A body that is right but for a few values.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let messages = prop::collection::vec(message(), 0..5);
    let extra = prop::option::weighted(0.3, (key(), value()));
    let fields =
        (prop::option::of(other_fields()), prop::option::of(prompt()), prop::option::of(messages), extra);
    let object = fields.prop_map(|(others, prompt, messages, extra)| {
        let mut body = others.unwrap_or_else(|| json!({}));
        body["model"] = json!("demo");
        if let Some(prompt) = prompt {
            body["prompt"] = prompt;
        }
        if let Some(messages) = messages {
            body["messages"] = Value::from(messages);
        }
        if let Some((key, value)) = extra {
            body[key] = value;
        }
        body.to_string().into_bytes()
    });
    prop_oneof![8 => object, 1 => value().prop_map(|value| value.to_string().into_bytes()), 1 => any::<Vec<u8>>()]
}

/// Template text from pieces of templates; some of it even parses.
fn template() -> impl Strategy<Value = String> {
    let pieces = [
        "{% for message in messages %}",
        "{% for part in message.content %}",
        "{% endfor %}",
        "{{ message.content }}",
        "{% if messages[0]['role'] == 'system' %}",
        "{% else %}",
        "{% endif %}",
        "{{ message['content'] | trim }}",
        "{{ messages | tojson }}",
        "{% set ns = namespace(x=messages[1:]) %}",
        "{% set messages = ns.x %}",
        "{% macro m(content) %}",
        "{% endmacro %}",
        "{{ m(message.content) }}",
        "{{ raise_exception('no') }}",
        "{{ message.content.split('a')[-1].strip('\\n') }}",
        "{{ strftime_now('%Y') }}",
        "{{ bos_token }}",
        "{{ 1 / 0 }}",
        "{% for a, b in message.items() %}",
        "{{ messages[-1].content[::-1] }}",
        "{{ loop.index0 % 2 }}",
        "{% break %}",
        "{{ message.content.splitlines() | join('-') | upper }}",
        "{%- generation %}",
        "{{",
        "%}",
        " \n",
        "日本語",
    ];
    prop::collection::vec(
        prop_oneof![9 => select(pieces.to_vec()).prop_map(str::to_owned), 1 => any::<String>()],
        0..10,
    )
    .prop_map(|pieces| pieces.concat())
}

#[test]
fn any_body_gives_keys_or_passes() {
    let model: Model = common::small_model();
    proptest!(ProptestConfig::with_cases(500), |(body in body())| fuzz::request_body(&model, &body));
}

#[test]
fn any_template_renders_or_fails() {
    proptest!(ProptestConfig::with_cases(500), |(source in template(), body in body())| {
        fuzz::chat_template(&source, &body);
    });
}

/// Assets of every kind of tokenizer, with some bytes changed; and any bytes.
#[test]
fn any_asset_is_refused_or_harmless() {
    let valid: Vec<Vec<u8>> = [
        include_bytes!("data/golden/tokenizers/qwen.json").as_slice(),
        include_bytes!("data/golden/tokenizers/llama3.json"),
        include_bytes!("data/golden/tokenizers/deepseek.json"),
        include_bytes!("data/golden/tokenizers/mistral_v1.json"),
        include_bytes!("data/tokenizers/falcon.json"),
    ]
    .map(|json| compile(json).unwrap())
    .to_vec();
    // Few changes leave most of the asset as it is; the last 64 bytes are text.
    let input = (any::<u8>(), prop::collection::vec(any::<u8>(), 64..100))
        .prop_map(|(kind, rest)| [vec![kind], rest].concat());
    proptest!(ProptestConfig::with_cases(400), |(of in 0..5_usize, input in input)| {
        fuzz::tokenizer_asset(&valid[of], &input);
    });
}

/// The bodies above are of use only if many of them come through.
#[test]
fn many_of_the_bodies_come_through() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use warmpath_core::request::{Api, parse};
    let mut runner = TestRunner::deterministic();
    let bodies = (0..1_000).map(|_| body().new_tree(&mut runner).unwrap().current());
    let bodies = bodies.collect::<Vec<_>>();
    for api in Api::ALL {
        let taken = bodies.iter().filter(|body| parse(api, body).is_ok()).count();
        assert!((20..900).contains(&taken), "{api:?} takes {taken} of 1000 bodies");
    }
}
