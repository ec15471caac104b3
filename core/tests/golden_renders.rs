//! Twelve published chat templates, rendered by vLLM for the same chats: identical text, or a refusal.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use warmpath_core::pass::Pass;
use warmpath_core::request::{self, Api, Prompt};
use warmpath_core::template::Template;

fn render(template: &Template, body: &Value) -> Result<String, Pass> {
    let request = request::parse(Api::ChatCompletions, body.to_string().as_bytes())?;
    let Prompt::Chat(chat) = request.prompt else { panic!("a chat that is none: {body}") };
    template.render(&chat)
}

#[test]
fn renderings_equal_vllms() {
    let Some(golden) = common::shared("golden") else { return };
    let conversations = std::fs::read_to_string(golden.join("conversations.jsonl")).unwrap();
    let requests: BTreeMap<String, Value> = conversations
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|row| (row["id"].as_str().unwrap().to_owned(), row["request"].clone()))
        .collect();
    let mut equal = 0;
    let mut passed = BTreeMap::<(&str, &str), usize>::new();
    let mut different = Vec::new();
    let mut templates = 0;
    for file in std::fs::read_dir(golden.join("renders")).unwrap() {
        let rows = common::json_lines(&file.unwrap().path());
        let name = rows[0]["template"].as_str().unwrap();
        let source = std::fs::read_to_string(golden.join(format!("templates/{name}.jinja"))).unwrap();
        let special_tokens = serde_json::from_value(rows[0]["special_tokens"].clone()).unwrap();
        let template = Template::new(&source, &special_tokens).unwrap();
        templates += 1;
        for row in &rows {
            let case = row["case"].as_str().unwrap();
            match (render(&template, &requests[case]), &row["prompt"]) {
                (Ok(text), wanted) if json!(text) == *wanted => equal += 1,
                // A loop over None, mostly: an error in Python, none here. Steering a request that fails costs nothing.
                (Ok(_), Value::Null) => *passed.entry(("taken, vLLM refuses", "")).or_default() += 1,
                (Ok(text), wanted) => different.push(format!("{name}, {case}:\n{text:?}\n{wanted}")),
                (Err(pass), wanted) => {
                    let taken = if wanted.is_string() { "passed" } else { "refused by both" };
                    println!("{name}, {case}: {taken}: {pass}");
                    *passed.entry((taken, pass.reason.label())).or_default() += 1;
                }
            }
        }
    }
    println!("{templates} templates: {equal} equal, {passed:?}");
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    assert!(equal >= 200, "only {equal} renderings are equal");
}
