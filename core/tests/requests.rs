//! What each body becomes: the prompt, or the reason why it passes.
#![cfg(not(target_arch = "wasm32"))]

use serde_json::{Value, json};
use warmpath_core::pass::{Pass, PassReason};
use warmpath_core::request::{Api, Prompt, Request, Side, Truncation, parse};

fn completion(fields: Value) -> Result<Request, Pass> {
    parse(Api::Completions, with(json!({"prompt": "hello"}), fields).to_string().as_bytes())
}

fn chat(fields: Value) -> Result<Request, Pass> {
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    parse(Api::ChatCompletions, with(body, fields).to_string().as_bytes())
}

fn with(mut body: Value, fields: Value) -> Value {
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn text(text: &str, add_special_tokens: bool) -> Prompt {
    Prompt::Text { text: text.to_owned(), add_special_tokens, beside_empty: false }
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
    assert_eq!(request.prompt, text("last", true));
}

#[test]
fn completion_prompts_take_every_form() {
    let prompt = |prompt: Value| completion(json!({"prompt": prompt})).map(|request| request.prompt);
    assert_eq!(prompt(json!("a")).unwrap(), text("a", true));
    assert_eq!(prompt(json!(["a", "b"])).unwrap(), text("a", true));
    assert_eq!(prompt(json!([1, 2])).unwrap(), Prompt::Tokens(vec![1, 2]));
    assert_eq!(prompt(json!([[1, 2], [3]])).unwrap(), Prompt::Tokens(vec![1, 2]));
    assert_eq!(prompt(json!([true, false])).unwrap(), Prompt::Tokens(vec![1, 0]));
    // Whether an empty text in a list is a prompt depends on the tokenizer.
    for list in [json!(["", "a"]), json!(["a", ""])] {
        let first = list[0].as_str().unwrap().to_owned();
        let expected = Prompt::Text { text: first, add_special_tokens: true, beside_empty: true };
        assert_eq!(prompt(list).unwrap(), expected);
    }
    for empty in [json!(""), json!(null), json!([]), json!([[]]), json!([[1], []])] {
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
    assert_eq!(request.prompt, text("hello", false));

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
