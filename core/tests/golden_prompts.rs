//! Request bodies and the prompt token ids that a running vLLM made of them: identical ids, or a refusal.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use std::collections::BTreeMap;

use serde_json::Value;
use warmpath_core::model::Model;
use warmpath_core::pass::Pass;
use warmpath_core::request::{self, Api};

fn load(name: &str) -> Option<Model> {
    let prompts = common::shared("golden/prompts")?.join(name);
    let tokenizer = common::gunzip(&common::shared(&format!("tokenizers/{name}.json.gz"))?);
    let config: Value =
        serde_json::from_slice(&std::fs::read(prompts.join("tokenizer_config.json")).unwrap()).unwrap();
    let template = std::fs::read_to_string(prompts.join("chat_template.jinja")).unwrap();
    let definition = common::definition("tiny", common::special_tokens(&config));
    Some(Model::load(definition, common::hf(&tokenizer), Some(&template)).unwrap())
}

fn tokens(model: &Model, row: &Value) -> Result<Vec<u32>, Pass> {
    let api = Api::from_path(row["endpoint"].as_str().unwrap()).unwrap();
    let request = request::parse(api, row["body"].to_string().as_bytes())?;
    model.adapter_for(request.model.as_deref())?;
    Ok(model.tokens(&request)?.ids)
}

/// Runs all rows of one model. Rows that vLLM refused must be refused as well: all that are recorded can be known here.
fn run(name: &str, equal_min: usize) {
    let Some(rows) = common::shared(&format!("golden/prompts/{name}.jsonl.gz")) else { return };
    let Some(model) = load(name) else { return };
    let mut outcomes = BTreeMap::<String, Vec<String>>::new();
    let mut different = Vec::new();
    for row in common::json_lines(&rows) {
        let id = row["id"].as_str().unwrap().to_owned();
        let outcome = match (tokens(&model, &row), row["status"].as_u64()) {
            (Ok(ids), Some(200)) => {
                let wanted: Vec<u32> = serde_json::from_value(row["token_ids"][0].clone()).unwrap();
                if ids != wanted {
                    different.push(format!("{id}: {ids:?}, vLLM {wanted:?}"));
                }
                "equal".to_owned()
            }
            (Ok(ids), _) => {
                different.push(format!("{id}: {ids:?}, vLLM refuses: {}", row["error"]["message"]));
                "taken, vLLM refuses".to_owned()
            }
            (Err(pass), Some(200)) => format!("passed, {}", pass.reason.label()),
            (Err(pass), _) => format!("refused by both, {}", pass.reason.label()),
        };
        outcomes.entry(outcome).or_default().push(id);
    }
    for (outcome, ids) in &outcomes {
        println!("{name}: {} {outcome}: {}", ids.len(), ids.join(" "));
    }
    assert!(different.is_empty(), "{} rows differ:\n{}", different.len(), different.join("\n"));
    let equal = outcomes.get("equal").map_or(0, Vec::len);
    assert!(equal >= equal_min, "{name}: only {equal} rows are equal");
}

#[test]
fn qwen3_prompts_equal_vllms() {
    run("qwen3", 30);
}

#[test]
fn mistral_prompts_equal_vllms() {
    run("mistral_v1", 28);
}
