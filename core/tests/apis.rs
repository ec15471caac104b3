//! Bodies of `/v1/messages`, `/v1/responses` and vLLM's generate endpoint, and what a real vLLM 0.32 made of them:
//! identical ids, or a refusal. The data's own script, `data/apis/capture.py`, tells how it came about.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use warmpath_core::model::Model;
use warmpath_core::pass::Pass;
use warmpath_core::request::{self, Api};

/// The model that vLLM served: both templates over the small tokenizer.
fn models() -> [(&'static str, Model); 2] {
    let special_tokens = json!({"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"});
    let load = |template: &str| {
        let mut definition = common::definition("demo", common::special_tokens(&special_tokens));
        definition.max_model_len = Some(2048);
        Model::load(definition, common::small_tokenizer(), Some(template)).unwrap()
    };
    [
        ("anywhere", load(include_str!("data/apis/anywhere.jinja"))),
        ("leading", load(include_str!("data/apis/leading.jinja"))),
    ]
}

/// A request with its name; as it was sent, for some of its numbers would not survive a parser.
#[derive(serde::Deserialize)]
struct Sent {
    body: Box<serde_json::value::RawValue>,
}

fn tokens(model: &Model, api: Api, row: &str) -> Result<Vec<u32>, Pass> {
    let sent: Sent = serde_json::from_str(row).unwrap();
    let request = request::parse(api, sent.body.get().as_bytes())?;
    model.definition().adapter_for(request.model.as_deref())?;
    model.tokens(&request, None).map(|encoded| encoded.ids)
}

/// Runs all rows. `passed_max`: how many may pass here that vLLM takes. `taken`: those that vLLM refuses and that have
/// ids here, which costs nothing.
fn run(api: Api, rows: &str, passed_max: usize, taken: &[&str]) {
    let mut outcomes = BTreeMap::<&str, BTreeSet<String>>::new();
    let mut different = Vec::new();
    for (template, model) in models() {
        for line in rows.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let (id, answer) = (row["id"].as_str().unwrap().to_owned(), &row[template]);
            let outcome = match (tokens(&model, api, line), answer["status"].as_u64().unwrap()) {
                (Ok(ids), 200) => {
                    let wanted: Vec<u32> = serde_json::from_value(answer["token_ids"].clone()).unwrap();
                    if ids != wanted {
                        different.push(format!("{template}: {id}: {ids:?}, vLLM {wanted:?}"));
                    }
                    "equal"
                }
                (Ok(_), _) => "taken",
                (Err(pass), 200) => {
                    println!("{template}: {id}: passed: {pass}");
                    "passed"
                }
                (Err(_), _) => "refused by both",
            };
            outcomes.entry(outcome).or_default().insert(id);
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    let ids = |outcome: &str| outcomes.get(outcome).cloned().unwrap_or_default();
    let listed = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
    assert!(ids("passed").len() <= passed_max, "{} pass although vLLM takes them", ids("passed").len());
    assert_eq!(ids("taken"), listed(taken), "has ids although vLLM refuses it");
    println!("{api:?}: {} equal, {} refused by both", ids("equal").len(), ids("refused by both").len());
}

/// Refused by the recording's server: its model takes no images, and what `tool_choice` names or a truncated prompt leaves
/// room for is not looked at here.
const TAKEN_RESPONSES: [&str; 6] = [
    "background",
    "function call output with image",
    "image",
    "tool custom with grammar",
    "tool_choice named, unknown",
    "truncation auto, too long, no output limit",
];

#[test]
fn messages_equal_vllms() {
    run(Api::Messages, include_str!("data/apis/messages.jsonl"), 46, &["image", "tool result with image"]);
}

#[test]
fn responses_equal_vllms() {
    run(Api::Responses, include_str!("data/apis/responses.jsonl"), 56, &TAKEN_RESPONSES);
}

#[test]
fn generate_equals_vllms() {
    run(Api::Generate, include_str!("data/apis/generate.jsonl"), 7, &["exactly the model's length"]);
}
