//! The template engine against recorded renderings of Python's jinja2 (`data/jinja.jsonl`, which `data/jinja.py` makes):
//! each snippet prints the same text or is refused, and what raises there prints nothing here.
#![cfg(not(target_arch = "wasm32"))]

use std::collections::BTreeMap;

use serde_json::Value;
use warmpath_core::definition::ChatRules;
use warmpath_core::request::{self, Api, Chat, Prompt};
use warmpath_core::template::{FailKind, LocalTime, Template};

const RECORDED: &str = include_str!("data/jinja.jsonl");

/// The clock of the recorded renderings: 2025-07-04 13:05:09.
const CLOCK: i64 = 1_751_634_309;

/// Snippets that jinja2 renders and that are refused here: letters whose case depends on Python's Unicode tables, and
/// HTML that is marked as safe.
const REFUSED: [&str; 2] = [
    "{{ s.upper() }} {{ s.lower() }} {{ s.title() }}",
    "{{ s | safe }} {{ '<b>' | e }} {{ '<b>' | safe | upper }}",
];

/// What a snippet does here.
#[derive(PartialEq, Eq, Debug)]
enum Outcome {
    Text(String),
    /// As an exception of jinja2.
    Raised(String),
    Refused(String),
}

/// The chat of all snippets. Its text is taken over as it is: the order of keys and the digits of numbers count.
/// None of the variables is null: vLLM leaves those out.
fn chat(variables: &str) -> Chat {
    let messages = r#"[{"role": "user", "content": "hi"}]"#;
    let body = format!(r#"{{"messages": {messages}, "chat_template_kwargs": {variables}}}"#);
    let request = request::parse(Api::ChatCompletions, body.as_bytes()).unwrap();
    let Prompt::Chat(chat) = request.prompt else { panic!("no chat: {body}") };
    *chat
}

fn render(source: &str, chat: &Chat) -> Outcome {
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let template = match Template::new(source, &tokens, &ChatRules::default()) {
        Ok(template) => template,
        Err(message) => return Outcome::Refused(message),
    };
    match template.render(chat, Some(LocalTime::at(CLOCK, 0))) {
        Ok(rendered) => Outcome::Text(rendered.text),
        Err(fail) if fail.kind == FailKind::Raised => Outcome::Raised(fail.message),
        Err(fail) => Outcome::Refused(fail.to_string()),
    }
}

#[test]
fn snippets_render_as_in_python_or_are_refused() {
    let (head, snippets) = RECORDED.split_once('\n').unwrap();
    let variables = head.strip_prefix(r#"{"variables": "#).and_then(|head| head.strip_suffix('}')).unwrap();
    let chat = chat(variables);
    let (mut wrong, mut refused, mut raised) = (Vec::new(), Vec::new(), 0);
    for line in snippets.lines() {
        let snippet: Value = serde_json::from_str(line).unwrap();
        let source = snippet["source"].as_str().unwrap();
        let outcome = render(source, &chat);
        match (snippet["text"].as_str(), &outcome) {
            (Some(expected), Outcome::Text(text)) if text == expected => {}
            (Some(_), Outcome::Refused(why)) => refused.push((source.to_owned(), why.clone())),
            (None, Outcome::Raised(_)) => raised += 1,
            (None, Outcome::Refused(_)) => {}
            _ => wrong.push(format!("{source}\n  jinja2: {snippet}\n  here: {outcome:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unlisted: Vec<_> = refused.iter().filter(|(source, _)| !REFUSED.contains(&source.as_str())).collect();
    assert!(unlisted.is_empty(), "refused, but not listed: {unlisted:#?}");
    assert_eq!(refused.len(), REFUSED.len(), "a snippet is listed that is not refused");
    assert!(raised > 50, "only {raised} snippets raise as in jinja2: the others that should are refused");
}
