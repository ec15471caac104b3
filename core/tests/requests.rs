//! What each body becomes: the prompt, or the reason why it passes.
#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use warmpath_core::definition::{ChatRules, ContentFormat};
use warmpath_core::pass::{Pass, PassReason};
use warmpath_core::request::{Api, Prompt, Request, Side, Truncation, parse};
use warmpath_core::template::Template;

fn completion(fields: Value) -> Result<Request, Pass> {
    parse(Api::Completions, with(json!({"prompt": "hello"}), fields).to_string().as_bytes())
}

fn chat(fields: Value) -> Result<Request, Pass> {
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    parse(Api::ChatCompletions, with(body, fields).to_string().as_bytes())
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

fn with(mut body: Value, fields: Value) -> Value {
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

#[track_caller]
fn passes<T: std::fmt::Debug>(outcome: Result<T, Pass>, reason: PassReason, detail: &str) {
    let pass = outcome.unwrap_err();
    assert_eq!(pass.reason, reason, "{pass}");
    assert!(pass.detail.contains(detail), "{pass}, not {detail:?}");
}

#[test]
fn paths_without_their_query_name_the_api() {
    assert_eq!(Api::from_path("/v1/completions?trace=1"), Some(Api::Completions));
    for api in Api::ALL {
        assert_eq!(Api::from_path(api.path()), Some(api));
    }
    assert_eq!(Api::from_path("/v1/messages/count_tokens"), None);
    assert_eq!(Api::from_path("/v1/embeddings"), None);
    assert_eq!(Api::from_path("/v1/completions/"), None);
}

#[test]
fn bodies_that_are_no_json_object_pass() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for body in
        ["", "{", "[]", "null", "\"x\"", r#"{"prompt": NaN}"#, r#"{"prompt": "\ud800"}"#, "\u{feff}{}", &deep]
    {
        for api in Api::ALL {
            passes(parse(api, body.as_bytes()), PassReason::MalformedJson, "");
        }
    }
    passes(parse(Api::Completions, b"{\"prompt\": \"\xff\"}"), PassReason::MalformedJson, "line 1, column");
}

#[test]
fn the_last_of_duplicate_keys_counts() {
    let request = parse(Api::Completions, br#"{"prompt": "first", "prompt": "last"}"#).unwrap();
    assert_eq!(request.prompt, Prompt::Text { text: "last".to_owned(), add_special_tokens: true });
}

#[test]
fn completion_prompts_take_every_form() {
    let prompt = |prompt: Value| completion(json!({"prompt": prompt})).map(|request| request.prompt);
    let text = |text: &str| Prompt::Text { text: text.to_owned(), add_special_tokens: true };
    assert_eq!(prompt(json!("a")).unwrap(), text("a"));
    assert_eq!(prompt(json!(["a", "b"])).unwrap(), text("a"));
    assert_eq!(prompt(json!([1, 2])).unwrap(), Prompt::Tokens(vec![1, 2]));
    assert_eq!(prompt(json!([[1, 2], [3]])).unwrap(), Prompt::Tokens(vec![1, 2]));
    assert_eq!(prompt(json!([true, false])).unwrap(), Prompt::Tokens(vec![1, 0]));
    for empty in
        [json!(""), json!(null), json!([]), json!([""]), json!(["a", ""]), json!([[]]), json!([[1], []])]
    {
        passes(prompt(empty), PassReason::EmptyPrompt, "prompt");
    }
    for wrong in [json!(1), json!({}), json!(["a", [1]]), json!([[1], "a"]), json!([[1], 2]), json!(["a", 1])]
    {
        passes(prompt(wrong), PassReason::InvalidField, "prompt");
    }
    passes(prompt(json!([1, -1])), PassReason::InvalidField, "prompt[1]: not a token id");
    passes(prompt(json!([[1], [2, 1.5]])), PassReason::InvalidField, "prompt[1][1]: not a token id");
    passes(prompt(json!([4_294_967_296_u64])), PassReason::InvalidField, "prompt[0]: not a token id");
}

#[test]
fn settings_of_both_apis_are_read() {
    let fields = json!({"model": "m", "cache_salt": "s", "max_tokens": 7, "add_special_tokens": false});
    let request = completion(fields.clone()).unwrap();
    assert_eq!((request.model.as_deref(), request.cache_salt.as_deref()), (Some("m"), Some("s")));
    assert_eq!(request.output_tokens_max, Some(7));
    assert_eq!(request.prompt, Prompt::Text { text: "hello".to_owned(), add_special_tokens: false });

    let request = chat(with(fields, json!({"add_generation_prompt": false}))).unwrap();
    assert_eq!((request.model.as_deref(), request.cache_salt.as_deref()), (Some("m"), Some("s")));
    assert_eq!(request.output_tokens_max, Some(7));
    let Prompt::Chat(prompt) = request.prompt else { panic!("no chat") };
    assert!(!prompt.add_generation_prompt && !prompt.add_special_tokens);

    // Defaults, where the field is absent or null.
    for nothing in [json!({}), json!({"model": null, "cache_salt": null, "max_tokens": null})] {
        let request = completion(nothing.clone()).unwrap();
        assert_eq!((request.model, request.cache_salt, request.output_tokens_max), (None, None, Some(16)));
        let request = chat(nothing).unwrap();
        assert_eq!((request.model, request.cache_salt, request.output_tokens_max), (None, None, None));
        let Prompt::Chat(prompt) = request.prompt else { panic!("no chat") };
        assert!(prompt.add_generation_prompt && !prompt.add_special_tokens);
    }
    let both = chat(json!({"max_tokens": 7, "max_completion_tokens": 9})).unwrap();
    assert_eq!(both.output_tokens_max, Some(9));
}

#[test]
fn wrong_settings_pass() {
    for (field, value) in [
        ("model", json!(1)),
        ("cache_salt", json!("")),
        ("cache_salt", json!("a/b")),
        ("cache_salt", json!("x".repeat(129))),
        ("cache_salt", json!(["x"])),
        ("max_tokens", json!(-1)),
        ("max_tokens", json!("16")),
        ("add_special_tokens", json!(null)),
        ("add_special_tokens", json!(1)),
    ] {
        passes(completion(json!({field: value})), PassReason::InvalidField, field);
        passes(chat(json!({field: value})), PassReason::InvalidField, field);
    }
    for (field, value) in [
        ("max_completion_tokens", json!(1.5)),
        ("add_generation_prompt", json!("true")),
        ("continue_final_message", json!(null)),
        ("tool_choice", json!("auto")),
        ("messages", json!("hello")),
        ("messages", json!(["hello"])),
    ] {
        passes(chat(json!({field: value})), PassReason::InvalidField, field);
    }
    passes(chat(json!({"messages": null})), PassReason::EmptyPrompt, "messages");
    passes(chat(json!({"messages": []})), PassReason::EmptyPrompt, "messages");
    assert_eq!(completion(json!({"cache_salt": "é".repeat(128)})).unwrap().cache_salt.unwrap().len(), 256);
}

#[test]
fn fields_that_change_the_prompt_pass_by_name_unless_they_are_null() {
    for field in ["prompt_embeds", "suffix"] {
        passes(completion(json!({field: "x"})), PassReason::UnsupportedField, field);
        assert!(completion(json!({field: null})).is_ok(), "{field}");
    }
    for field in ["prompt_embeds", "functions"] {
        passes(chat(json!({field: ["x"]})), PassReason::UnsupportedField, field);
        assert!(chat(json!({field: null})).is_ok(), "{field}");
    }
    let kwargs = json!({"chat_template_kwargs": {"chat_template": "x"}});
    passes(chat(kwargs), PassReason::UnsupportedField, "chat_template_kwargs.chat_template");
    let forwarded = json!({"kv_transfer_params": {"prompt_token_ids": [1]}});
    passes(chat(forwarded.clone()), PassReason::UnsupportedField, "kv_transfer_params.prompt_token_ids");
    passes(completion(forwarded), PassReason::UnsupportedField, "kv_transfer_params.prompt_token_ids");
}

#[test]
fn truncation_is_read() {
    let read = |fields: Value| {
        let both = [completion(fields.clone()), chat(fields)]
            .map(|request| request.map(|request| request.truncation));
        assert_eq!(both[0], both[1]);
        both[0].clone()
    };
    assert_eq!(read(json!({"truncation_side": "left"})), Ok(None));
    let kept = |tokens, side| Ok(Some(Truncation { tokens, side }));
    assert_eq!(read(json!({"truncate_prompt_tokens": 3})), kept(Some(3), None));
    assert_eq!(
        read(json!({"truncate_prompt_tokens": -1, "truncation_side": "left"})),
        kept(None, Some(Side::Left))
    );
    assert_eq!(
        read(json!({"truncate_prompt_tokens": 0, "truncation_side": "right"})),
        kept(Some(0), Some(Side::Right))
    );
    passes(read(json!({"truncate_prompt_tokens": -2})), PassReason::InvalidField, "truncate_prompt_tokens");
    passes(read(json!({"truncation_side": "middle"})), PassReason::InvalidField, "truncation_side");
}

#[test]
fn requests_that_do_not_read_the_cache_pass() {
    passes(completion(json!({"prompt_logprobs": 1})), PassReason::CacheNotRead, "prompt_logprobs");
    passes(chat(json!({"prompt_logprobs": 0})), PassReason::CacheNotRead, "prompt_logprobs");
    passes(completion(json!({"echo": true, "logprobs": 1})), PassReason::CacheNotRead, "prompt_logprobs");
    passes(chat(json!({"echo": true})), PassReason::CacheNotRead, "prompt_logprobs");
    assert!(completion(json!({"echo": null, "logprobs": 1, "prompt_logprobs": null})).is_ok());
}

#[test]
fn fields_that_leave_the_prompt_alone_are_ignored() {
    let fields = json!({"stream": true, "temperature": 0.5, "n": 2, "truncation_side": "left", "user": "u",
        "unknown_to_vllm": {"a": 1}, "kv_transfer_params": {"do_remote_decode": true, "prompt_token_ids": null},
        "response_format": {"type": "json_object"}});
    assert_eq!(completion(fields.clone()), completion(json!({})));
    assert_eq!(chat(fields), chat(json!({"chat_template_kwargs": {}, "tool_choice": "none"})));
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

/// Details go to logs: they name places, never text.
#[test]
fn details_hold_nothing_of_the_prompt() {
    let secret = "SECRET";
    for outcome in [
        completion(json!({"prompt": [secret, 1]})),
        completion(json!({"model": [secret]})),
        completion(json!({"cache_salt": format!("{secret}/")})),
        chat(json!({"messages": [{"role": "user", "content": {"a": secret}}]})),
        chat(json!({"messages": [{"role": "user", "content": [{"type": secret}]}]})),
        chat(json!({"tool_choice": secret})),
        parse(Api::Completions, br#"{"prompt": "SECRET"#),
    ] {
        let pass = outcome.unwrap_err();
        assert!(!pass.to_string().contains(secret), "{pass}");
    }
}

fn of(api: Api, body: Value) -> Result<Request, Pass> {
    parse(api, body.to_string().as_bytes())
}

#[test]
fn a_response_that_goes_on_from_a_stored_one_passes() {
    let body = |previous: Value| json!({"input": "hello", "previous_response_id": previous});
    passes(
        of(Api::Responses, body(json!("resp_1"))),
        PassReason::UnsupportedField,
        "previous_response_id: changes the prompt",
    );
    assert!(of(Api::Responses, body(Value::Null)).is_ok());
}

#[test]
fn token_ids_are_taken_as_they_are() {
    let body = |fields: Value| {
        with(json!({"model": "demo", "token_ids": [5, 6], "sampling_params": {"max_tokens": 3}}), fields)
    };
    let request = of(Api::Generate, body(json!({"cache_salt": "s"}))).unwrap();
    assert_eq!((request.prompt, request.model.as_deref()), (Prompt::Tokens(vec![5, 6]), Some("demo")));
    assert_eq!((request.cache_salt.as_deref(), request.output_tokens_max), (Some("s"), Some(3)));
    let generate = |fields: Value| of(Api::Generate, body(fields));
    passes(generate(json!({"features": {}})), PassReason::UnsupportedContent, "features");
    passes(generate(json!({"content_parts": [{}]})), PassReason::UnsupportedContent, "content_parts");
    passes(generate(json!({"token_ids": []})), PassReason::EmptyPrompt, "token_ids");
    let sampling = |params: Value| generate(json!({"sampling_params": params}));
    passes(sampling(json!({"prompt_logprobs": 0})), PassReason::CacheNotRead, "prompt_logprobs");
    passes(sampling(json!({"skip_reading_prefix_cache": true})), PassReason::CacheNotRead, "skip_reading");
}

#[test]
fn messages_and_responses_keep_what_the_pick_needs() {
    let message = json!({"model": "demo", "max_tokens": 7, "cache_salt": "s",
        "messages": [{"role": "user", "content": "hello"}]});
    let response = json!({"model": "demo", "max_output_tokens": 7, "cache_salt": "s", "input": "hello"});
    for (api, body) in [(Api::Messages, message), (Api::Responses, response)] {
        let request = of(api, body).unwrap();
        assert_eq!((request.model.as_deref(), request.cache_salt.as_deref()), (Some("demo"), Some("s")));
        assert_eq!(request.output_tokens_max, Some(7));
    }
}
