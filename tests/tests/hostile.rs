//! Requests made to hurt: long runs of one thing, JSON that Python would read and we do not, templates that never end. All
//! are answered, and the VM that met them lives on. What the filter makes of a prompt does not depend on the wiring: one of
//! the two each.

mod common;

use common::{Outcome, ask, complete, ids, metrics, nothing_held, passes, send, start, still_steers};
use serde_json::json;
use warmpath_harness::client::whole;
use warmpath_harness::{ModelFiles, Stack, Steer};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
/// Bytes of a hostile text.
const BYTES: usize = 64 << 10;

async fn post(stack: &Stack, path: &str, body: impl Into<String>) -> Outcome {
    let client = stack.client();
    send(stack, &client, client.json_request(path), whole(body.into())).await
}

/// Texts of 64 KiB on which a careless scanner, merger or normalizer takes more than linear time.
fn texts() -> Vec<(&'static str, String)> {
    let repeated = |unit: &str| unit.repeat(BYTES / unit.len());
    vec![
        ("one letter", repeated("a")),
        ("one wide character", repeated("日")),
        ("punctuation", repeated("!?.,;:")),
        ("apostrophes", repeated("'")),
        ("contractions", repeated("'ll've're")),
        ("spaces", repeated(" ")),
        ("new lines", repeated("\n")),
        ("digits", repeated("1234567890")),
        ("combining marks", repeated("e\u{301}\u{323}\u{302}")),
        ("beginnings of special tokens", repeated("<|im_start")),
        ("special tokens", repeated("<|im_start|>")),
        ("zero-width joiners", repeated("\u{1f468}\u{200d}")),
    ]
}

#[tokio::test]
async fn long_runs_of_one_thing_are_keyed() {
    // Long enough a context that none of them is refused for its length.
    let mut model = ModelFiles::demo();
    model.max_model_len = 1 << 20;
    let Some(stack) =
        start("long_runs_of_one_thing_are_keyed", Steer::Header, |builder| builder.models(vec![model])).await
    else {
        return;
    };
    for (name, text) in texts() {
        let chat = json!({"model": "demo", "messages": [{"role": "user", "content": text}], "max_tokens": 1});
        let completion = json!({"model": "demo", "prompt": text, "max_tokens": 1});
        for (path, body) in [(COMPLETIONS, completion), (CHAT, chat)] {
            let outcome = ask(&stack, path, &body).await;
            assert_eq!(outcome.reason(), "steered", "{name}, {path}");
            assert!(outcome.matched().1 > 0, "{name}, {path}: no key");
            assert!(
                !outcome.response.status.is_server_error(),
                "{name}, {path}: {}",
                outcome.response.text()
            );
        }
    }
    still_steers(&stack).await;
}

/// A value in a value, so many levels deep.
fn nested(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

/// Bodies that only some readers of JSON take, or that say two things; with what becomes of them.
fn odd_bodies() -> Vec<(&'static str, String, &'static str)> {
    let field =
        |field: &str| format!(r#"{{"model": "demo", "prompt": "hello there", "max_tokens": 1, {field}}}"#);
    vec![
        ("lone surrogate", field(r#""user": "\ud800""#), "malformed_json"),
        ("lone surrogate in the prompt", field(r#""prompt": "a\udfff""#), "malformed_json"),
        ("surrogates the wrong way round", field(r#""user": "\udc00\ud800""#), "malformed_json"),
        ("NaN", field(r#""temperature": NaN"#), "malformed_json"),
        ("Infinity", field(r#""temperature": -Infinity"#), "malformed_json"),
        ("127 levels", field(&format!(r#""user": {}"#, nested(126))), "steered"),
        ("more than 128 levels", field(&format!(r#""user": {}"#, nested(129))), "malformed_json"),
        ("60,000 levels", field(&format!(r#""user": {}"#, nested(60_000))), "malformed_json"),
        ("a byte order mark", format!("\u{feff}{}", field(r#""n": 1"#)), "malformed_json"),
        ("a duplicate prompt", field(r#""prompt": "the last one counts""#), "steered"),
        ("a duplicate model", field(r#""model": "nobody""#), "unknown_model"),
        ("a number beyond a double", field(r#""temperature": 1e999"#), "malformed_json"),
    ]
}

#[tokio::test]
async fn odd_json_has_its_stated_outcome() {
    let Some(stack) = start("odd_json_has_its_stated_outcome", Steer::Header, |builder| builder).await else {
        return;
    };
    for (name, body, reason) in odd_bodies() {
        let outcome = post(&stack, COMPLETIONS, body).await;
        assert_eq!(outcome.reason(), reason, "{name}: {}", outcome.response.text());
        assert!(!outcome.response.status.is_server_error(), "{name}: {}", outcome.response.text());
    }
    // The same prompt, once as the last of two.
    let text = "The last of two prompts counts, as in Python. ".repeat(20);
    let twice =
        format!(r#"{{"model": "demo", "prompt": "other", "prompt": {}, "max_tokens": 1}}"#, json!(text));
    let first = post(&stack, COMPLETIONS, twice).await;
    common::events_arrive(&stack).await;
    let body = json!({"model": "demo", "prompt": text, "max_tokens": 1});
    let again = ask(&stack, COMPLETIONS, &body).await;
    let (matched, keys) = again.matched();
    assert!(matched == keys && keys > 0, "{matched} of {keys}");
    assert_eq!(again.pod(), first.pod());
    still_steers(&stack).await;
}

/// Templates that take too long or print too much, each in its own way.
const BOMBS: [(&str, &str); 4] = [
    (
        "loops in loops",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a * b %}{% endfor %}{% endfor %}",
    ),
    (
        "a text that doubles",
        "{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    ),
    ("a macro that calls itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
    ("a large product", "{{ 'abcdefgh' * 999999999 }}{{ 9 ** 9 ** 9 }}"),
];

#[tokio::test]
async fn template_bombs_end() {
    let directory = tempfile::tempdir().unwrap();
    let models: Vec<ModelFiles> = BOMBS
        .iter()
        .enumerate()
        .map(|(at, (_, source))| {
            let mut model = ModelFiles::demo();
            if at > 0 {
                model.name = format!("bomb-{at}");
            }
            model.chat_template = directory.path().join(format!("{at}.jinja"));
            std::fs::write(&model.chat_template, source).unwrap();
            model
        })
        .collect();
    let names: Vec<String> = models.iter().map(|model| model.name.clone()).collect();
    let Some(stack) = start("template_bombs_end", Steer::FilterState, |builder| builder.models(models)).await
    else {
        return;
    };
    let before = metrics(&stack).await;
    for ((name, _), model) in BOMBS.iter().zip(&names) {
        let body =
            json!({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1});
        let outcome = ask(&stack, CHAT, &body).await;
        let known = ["template_limit", "template_error", "template_unsupported"];
        assert!(known.contains(&outcome.reason()), "{name}: {}", outcome.reason());
        assert!(!outcome.response.status.is_server_error(), "{name}: {}", outcome.response.text());
    }
    let after = metrics(&stack).await;
    assert!(passes(&after, "template_limit") - passes(&before, "template_limit") >= 2.0);
    // Completions of the same model are not touched by it, and no VM was lost.
    assert_eq!(complete(&stack, &ids(1, 2)).await.reason(), "steered");
    nothing_held(&stack).await;
    let loads = metrics(&stack).await.sum("warmpath_asset_loads");
    assert_eq!(loads, 2.0 * BOMBS.len() as f64);
}
