//! What a template gets of the messages and tools of a chat: vLLM's order, spelling and refusals.
#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use warmpath_core::definition::{ChatRules, ContentFormat};
use warmpath_core::pass::{Pass, PassReason};
use warmpath_core::request::{Api, Prompt, Request, parse};
use warmpath_core::template::Template;

fn chat(fields: Value) -> Result<Request, Pass> {
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    parse(Api::ChatCompletions, with(body, fields).to_string().as_bytes())
}

fn with(mut body: Value, fields: Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// A chat with one message, and what a template that takes parts gets.
fn message(message: Value) -> Result<String, Pass> {
    seen(json!({"messages": [message]}), ContentFormat::OpenAi)
}

/// The first message of a chat as a template gets it.
fn seen(body: Value, content_format: ContentFormat) -> Result<String, Pass> {
    let Prompt::Chat(chat) = chat(body)?.prompt else { panic!("no chat") };
    let settings = ChatRules { content_format, ..ChatRules::default() };
    let template = Template::new("{{ messages[0] | tojson }}", &BTreeMap::new(), &settings).unwrap();
    template.render(&chat, None).map(|rendered| rendered.text).map_err(|fail| fail.pass())
}
#[track_caller]
fn passes<T: std::fmt::Debug>(outcome: Result<T, Pass>, reason: PassReason, detail: &str) {
    let pass = outcome.unwrap_err();
    assert_eq!(pass.reason, reason, "{pass}");
    assert!(pass.detail.contains(detail), "{pass}, not {detail:?}");
}

#[test]
fn messages_keep_what_the_template_gets_in_vllms_order() {
    let text = json!([{"type": "text", "text": "c"}]).to_string().replace(',', ", ").replace(':', ": ");
    for (given, kept) in [
        (
            json!({"name": "n", "content": "c", "role": "user", "unknown": 1, "tool_call_id": "t"}),
            format!(r#"{{"role": "user", "content": {text}, "name": "n"}}"#),
        ),
        (
            json!({"tool_call_id": "t", "content": "c", "role": "tool"}),
            r#"{"role": "tool", "content": "c", "tool_call_id": "t"}"#.to_owned(),
        ),
        (
            json!({"role": "tool", "content": "c", "tool_call_id": null, "name": null}),
            r#"{"role": "tool", "content": "c", "tool_call_id": null}"#.to_owned(),
        ),
        (
            json!({"role": "assistant", "tool_calls": [], "reasoning": null}),
            r#"{"role": "assistant", "content": []}"#.to_owned(),
        ),
        (
            json!({"role": "assistant", "reasoning_content": "r", "reasoning": null, "content": null}),
            r#"{"role": "assistant", "content": [], "reasoning": "r", "reasoning_content": "r"}"#.to_owned(),
        ),
        (json!({"role": "developer", "content": "c"}), format!(r#"{{"role": "system", "content": {text}}}"#)),
        (
            json!({"role": "user", "content": "c", "task": "t", "reasoning": "r"}),
            format!(r#"{{"role": "user", "content": {text}, "task": "t"}}"#),
        ),
    ] {
        assert_eq!(message(given).unwrap(), kept);
    }
    let parts = json!([{"cache_control": {"type": "ephemeral"}, "text": "a", "type": "text"}, {"type": "text", "text": ""},
        {"type": "input_text", "text": "i"}, {"type": "thinking", "thinking": "t", "closed": true}, "bare",
        {"type": "refusal", "refusal": "r"}, {"type": "output_text", "text": "o"}, {"type": "text", "text": null}]);
    let body = json!({"messages": [{"role": "user", "content": parts}]});
    assert_eq!(
        seen(body.clone(), ContentFormat::OpenAi).unwrap(),
        concat!(
            r#"{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, "#,
            r#"{"type": "text", "text": ""}, {"type": "text", "text": "i"}, {"type": "text", "text": "t"}, "#,
            r#"{"type": "text", "text": "bare"}, {"type": "text", "text": "r"}, {"type": "text", "text": "o"}]}"#
        )
    );
    assert_eq!(
        seen(body, ContentFormat::String).unwrap(),
        r#"{"role": "user", "content": "a\ni\nt\nbare\nr\no"}"#
    );
}

#[test]
fn tool_calls_are_written_in_vllms_order_with_their_arguments_as_objects() {
    let call = |arguments: &str| {
        let call = json!({"index": 0, "type": "function", "function": {"name": "f", "x": 1, "arguments": arguments}, "id": "i"});
        let seen = message(json!({"role": "assistant", "tool_calls": [call]})).unwrap();
        let start =
            r#"{"role": "assistant", "content": [], "tool_calls": [{"id": "i", "function": {"arguments": "#;
        let end = r#", "name": "f", "x": 1}, "type": "function", "index": 0}]}"#;
        seen.strip_prefix(start).unwrap().strip_suffix(end).unwrap().to_owned()
    };
    // What Python's json.loads and json.dumps make of them.
    for (given, written) in [
        (
            r#"{"b": 1.0, "a": 1e5, "c": 12345678901234567890123}"#,
            r#"{"b": 1.0, "a": 100000.0, "c": 12345678901234567890123}"#,
        ),
        (r#"{"a": 1, "b": 2, "a": [true, null]}"#, r#"{"a": [true, null], "b": 2}"#),
        (
            r#"{"a": 1e300, "b": -0.0, "c": 1e-7, "d": NaN, "e": -Infinity}"#,
            r#"{"a": 1e+300, "b": -0.0, "c": 1e-07, "d": NaN, "e": -Infinity}"#,
        ),
        (r#" {"a": "\u00e9\ud83d\ude00\n"} "#, r#"{"a": "é😀\n"}"#),
        ("", "{}"),
        ("[1]", "{}"),
        ("nonsense", "{}"),
        (r#"{"a": 01}"#, "{}"),
        (r#"{"a": 1,}"#, "{}"),
        ("{\"a\": \"\n\"}", "{}"),
    ] {
        assert_eq!(call(given), written, "{given}");
    }
    for arguments in [r#"{"a": "\ud800"}"#.to_owned(), format!("{}1{}", "[".repeat(200), "]".repeat(200))] {
        let call = json!({"type": "function", "function": {"name": "f", "arguments": arguments}, "id": "i"});
        let outcome = message(json!({"role": "assistant", "tool_calls": [call]}));
        passes(outcome, PassReason::TemplateUnsupported, "not modelled");
    }
}

#[test]
fn tools_are_written_again_in_vllms_order() {
    let function = json!({"x": 1, "parameters": {"b": 1, "a": 2.0}, "strict": null, "name": "f"});
    let Prompt::Chat(read) = chat(json!({"tools": [{"y": 1, "function": function}]})).unwrap().prompt else {
        panic!()
    };
    assert_eq!(
        read.tools.unwrap().to_string(),
        r#"[{"type":"function","function":{"name":"f","description":null,"parameters":{"b":1,"a":2.0}}}]"#
    );
    let function = json!({"name": "f", "strict": true, "description": "d"});
    let Prompt::Chat(read) =
        chat(json!({"tools": [{"defer_loading": true, "function": function}]})).unwrap().prompt
    else {
        panic!()
    };
    assert_eq!(
        read.tools.unwrap().to_string(),
        r#"[{"type":"function","function":{"name":"f","description":"d","parameters":null,"strict":true,"defer_loading":true},"defer_loading":true}]"#
    );
    let tool = json!({"type": "function", "function": {"name": "f"}});
    for (field, value) in [
        ("tools", json!([])),
        ("tools", json!([{"type": "custom", "function": {"name": "f"}}])),
        ("tools", json!([{"type": "function", "function": {"name": 1}}])),
        ("tools", json!([{"type": "function", "function": {"name": "f", "parameters": []}}])),
        ("tool_choice", json!("any")),
        ("tool_choice", json!({"type": "function", "function": {"name": "g"}})),
    ] {
        passes(chat(with(json!({"tools": [tool]}), json!({field: value}))), PassReason::InvalidField, "tool");
    }
    for choice in [json!(null), json!("none"), json!("auto"), json!("required"), tool.clone()] {
        assert!(chat(json!({"tools": [tool], "tool_choice": choice})).is_ok());
    }
}

#[test]
fn messages_that_vllm_refuses_pass() {
    for part in [
        json!({"type": "text", "text": "a", "uuid": "u"}),
        json!({"type": "file", "file": {}}),
        json!({"type": "weird"}),
        json!({"text": "a"}),
        json!({"type": "text", "text": 1}),
        json!(1),
    ] {
        let body = json!({"role": "user", "content": [{"type": "text", "text": "a"}, part]});
        passes(message(body), PassReason::InvalidField, "messages[0].content[1]");
    }
    for body in [
        json!({"content": "c"}),
        json!({"role": 1, "content": "c"}),
        json!({"role": "tool", "content": null}),
        json!({"role": "user", "content": {"a": 1}}),
        json!({"role": "user", "content": "c", "name": 1}),
        json!({"role": "assistant", "tool_calls": [{"id": "i"}]}),
        // Lists that the role's own type reads, and does not know.
        json!({"role": "user", "content": ["a"]}),
        json!({"role": "user", "content": [{"type": "input_text", "text": "a"}]}),
        json!({"role": "assistant", "content": [{"type": "thinking"}]}),
    ] {
        passes(message(body), PassReason::InvalidField, "messages[0]");
    }
    // Other roles have no type of their own.
    assert!(message(json!({"role": "ipython", "content": ["a"]})).is_ok());
}

#[test]
fn the_billing_header_of_system_text_goes() {
    let header = "x-anthropic-billing-header: cch=1f3";
    let content = |role: &str, content: Value| {
        let seen =
            seen(json!({"messages": [{"role": role, "content": content}]}), ContentFormat::String).unwrap();
        let seen: Value = serde_json::from_str(&seen).unwrap();
        seen["content"].clone()
    };
    assert_eq!(content("system", json!(format!("{header}\nBe brief.\nDo."))), json!("Be brief.\nDo."));
    assert_eq!(content("system", json!(header)), json!(""));
    assert_eq!(content("system", json!(format!("{header}\n"))), json!(""));
    assert_eq!(content("system", json!(format!(" {header}\nx"))), json!(format!(" {header}\nx")));
    assert_eq!(content("user", json!(format!("{header}\nx"))), json!(format!("{header}\nx")));
    let parts = json!([{"type": "text", "text": header}, {"type": "text", "text": "kept"}]);
    assert_eq!(content("system", parts), json!("kept"));
}

/// Python keeps whole numbers of any length; so must what a template prints.
#[test]
fn numbers_beyond_64_bits_are_kept() {
    let body = r#"{"messages": [{"role": "user", "content": "\"123456789012345678901234567890\""}],
        "chat_template_kwargs": {"n": [18446744073709551616, -9223372036854775809, 1e30, 18446744073709551615, 1.5]}}"#;
    let request = parse(Api::ChatCompletions, body.as_bytes()).unwrap();
    let Prompt::Chat(chat) = request.prompt else { panic!("no chat") };
    let source = "{{ n }} {{ n | tojson }} {{ messages[0].content }}";
    let template = Template::new(source, &BTreeMap::new(), &ChatRules::default()).unwrap();
    let list = "[18446744073709551616, -9223372036854775809, 1e+30, 18446744073709551615, 1.5]";
    let wanted = format!("{list} {list} \"123456789012345678901234567890\"");
    assert_eq!(template.render(&chat, None).unwrap().text, wanted);
}
