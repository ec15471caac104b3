//! Bodies of `/v1/messages`, `/v1/responses` and vLLM's generate endpoint, and what a real vLLM 0.32 made of them:
//! identical ids, or a refusal. The data's own script, `data/apis/capture.py`, tells how it came about.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use warmpath_core::definition::ChatRules;
use warmpath_core::model::Model;
use warmpath_core::pass::Pass;
use warmpath_core::request::{self, Api, Prompt};
use warmpath_core::template::{LocalTime, Template};

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

/// Runs all rows. `passed`: those that vLLM takes and that pass here. `taken`: those that vLLM refuses and that have
/// ids here, which costs nothing.
fn run(api: Api, rows: &str, passed: &[&str], taken: &[&str]) {
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
    assert_eq!(ids("passed"), listed(passed), "passes although vLLM takes it");
    assert_eq!(ids("taken"), listed(taken), "has ids although vLLM refuses it");
    println!("{api:?}: {} equal, {} refused by both", ids("equal").len(), ids("refused by both").len());
}

#[test]
fn messages_equal_vllms() {
    let passed = [
        // A header's line is removed from the message that it starts, which depends on the template.
        "billing header in system, then inline system",
        "inline system message starts like a billing header",
        // Ids instead of the chat.
        "forwarded ids",
        // Printed as Python prints a list.
        "tool result list of the assistant",
        // Named after the time of day.
        "tool use without id",
    ];
    // The served model sees no images.
    let taken = ["image", "tool result with image"];
    run(Api::Messages, include_str!("data/apis/messages.jsonl"), &passed, &taken);
}

#[test]
fn responses_equal_vllms() {
    let passed = [
        "assistant output message without type, whole",
        "forwarded ids",
        // Has an effect on other models only.
        "previous_input_messages",
    ];
    let taken = [
        // Needs a server that stores responses.
        "background",
        "function call output with image",
        "image",
        "truncation auto, too long, no output limit",
    ];
    run(Api::Responses, include_str!("data/apis/responses.jsonl"), &passed, &taken);
}

#[test]
fn generate_equals_vllms() {
    let passed = [
        "features of nothing",
        "ids floats",
        "ids padded vocabulary",
        "ids strings",
        "max_tokens above the model's length",
        // The engine does not read its cache for these.
        "prompt_logprobs",
        "skip_reading_prefix_cache",
    ];
    // There is no room for a token more.
    let taken = ["exactly the model's length"];
    run(Api::Generate, include_str!("data/apis/generate.jsonl"), &passed, &taken);
}

/// A body of `/v1/messages` with a system message among the others, as a template prints it.
fn system_in_the_middle(source: &str) -> Result<String, String> {
    let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let template = Template::new(source, &tokens, &ChatRules::default())?;
    let body = json!({"model": "demo", "max_tokens": 1, "messages": [
        {"role": "user", "content": "one"}, {"role": "system", "content": "two"}, {"role": "user", "content": "three"},
    ]});
    let request = request::parse(Api::Messages, body.to_string().as_bytes()).unwrap();
    let Prompt::Chat(chat) = request.prompt else { panic!("no chat") };
    let rendered = template.render(&chat, Some(LocalTime::at(0, 0)));
    rendered.map(|rendered| rendered.text).map_err(|fail| fail.to_string())
}

/// The outcomes are those of vLLM's own `AnthropicServingMessages._detect_merge_inline_system`.
#[test]
fn system_messages_go_first_where_vllms_probe_raises() {
    let cases = [
        ("", false),
        ("{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}", false),
        ("{{ strftime_now('%Y') }}", true),
        ("{{ bos_token }}", false),
        ("{{ bos_token + 'x' }}", true),
        ("{%- generation %}{% endgeneration %}", true),
        ("{% if tools is not none %}{{ tools | length }}{% endif %}", false),
        ("{% if messages[-2].role == 'system' %}{{ raise_exception('x') }}{% endif %}", true),
    ];
    for (start, first) in cases {
        let source = format!("{start}{{% for message in messages %}} {{{{ message.role }}}}{{% endfor %}}");
        let printed = system_in_the_middle(&source).unwrap();
        let wanted = if first { " system user user" } else { " user system user" };
        assert!(printed.ends_with(wanted), "{start}: {printed}");
    }
    let published = [
        ("GLM-4.6", false),
        ("Qwen-Qwen2.5-7B-Instruct", false),
        ("Qwen-Qwen3-0.6B", false),
        ("meta-llama-Llama-3.1-8B-Instruct", false),
        ("meta-llama-Llama-3.2-3B-Instruct", false),
        ("microsoft-Phi-3.5-mini-instruct", false),
        ("openai-gpt-oss-120b", true),
    ];
    for (name, first) in published {
        let Some(path) = common::shared(&format!("golden/templates/{name}.jinja")) else { return };
        let printed = system_in_the_middle(&std::fs::read_to_string(path).unwrap()).unwrap();
        let (one, two) = (printed.rfind("one").unwrap(), printed.rfind("two"));
        assert_eq!(two.is_some_and(|two| two < one), first, "{name}: {printed}");
    }
}
