//! Recorded answers of vLLM through the module in Envoy: what it makes of a text or a chat is what vLLM made of it.
//!
//! A pod caches the recorded ids, sent as ids, in blocks of one token. Then the recorded bodies are sent: the filter's
//! keys must be found to the last one, and there must be as many as there are recorded tokens before the last (whose
//! block is never reused). Nothing else than the module in Envoy turns text into tokens on this way: the index hashes the
//! ids of the pod's events.
//!
//! Needs `../shared` beside the workspace (`WARMPATH_SHARED` names another place); skipped where it is missing.

mod common;

use std::io::Read;
use std::path::{Path, PathBuf};

use common::{Outcome, events_arrive, send, start};
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;
use warmpath_harness::client::whole;
use warmpath_harness::{ModelFiles, PodOptions, Stack, StackBuilder, Steer};

const COMPLETIONS: &str = "/v1/completions";
/// More than all recorded tokens of a model: nothing is evicted.
const GPU_BLOCKS: u32 = 60_000;
/// Of the recorded strings of a tokenizer every so many-th is sent; `cargo xtask golden` runs them all.
const EVERY: usize = 5;

/// A request and the ids that vLLM made of its first prompt; none when it answered an error.
struct Case {
    id: String,
    path: String,
    body: String,
    ids: Option<Vec<u32>>,
}

/// A row of `prompts/MODEL.jsonl.gz`.
#[derive(Deserialize)]
struct PromptRow {
    id: String,
    endpoint: String,
    body: Box<RawValue>,
    status: u16,
    token_ids: Option<Vec<Vec<u32>>>,
}

/// A row of `tokens/TOKENIZER.jsonl.gz`. `ids_sp` are there where special tokens make a difference.
#[derive(Deserialize)]
struct TokenRow {
    id: u64,
    text: String,
    ids: Option<Vec<u32>>,
    ids_sp: Option<Vec<u32>>,
}

/// The recorded data, or a line that says what is missing.
fn shared_or_skip(test: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WARMPATH_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if root.join("golden").is_dir() && root.join("tokenizers").is_dir() {
        return Some(root);
    }
    println!("skipped: {test}: {} has no golden and tokenizers", root.display());
    None
}

fn unpacked(path: &Path) -> Vec<u8> {
    let packed = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    bytes
}

fn rows<Row: DeserializeOwned>(path: &Path) -> Vec<Row> {
    let text = unpacked(path);
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn prompts(shared: &Path, name: &str) -> Vec<Case> {
    let rows: Vec<PromptRow> = rows(&shared.join(format!("golden/prompts/{name}.jsonl.gz")));
    rows.into_iter()
        .map(|row| Case {
            id: row.id,
            path: row.endpoint,
            body: row.body.get().to_owned(),
            ids: row.token_ids.filter(|_| row.status == 200).and_then(|prompts| prompts.into_iter().next()),
        })
        .collect()
}

fn strings(shared: &Path, name: &str) -> Vec<Case> {
    let rows: Vec<TokenRow> = rows(&shared.join(format!("golden/tokens/{name}.jsonl.gz")));
    let known = rows.into_iter().filter_map(|row| Some((row.id, row.text, row.ids_sp.or(row.ids)?)));
    known
        .filter(|(_, _, ids)| !ids.is_empty())
        .step_by(EVERY)
        .map(|(id, text, ids)| Case {
            id: format!("string {id}"),
            path: COMPLETIONS.to_owned(),
            body: json!({"model": "tiny", "prompt": text, "max_tokens": 1}).to_string(),
            ids: Some(ids),
        })
        .collect()
}

/// One pod with this tokenizer and blocks of one token. Without files of a model of that name, the tokenizer is what its
/// file says.
async fn stack(test: &str, shared: &Path, name: &str, directory: &Path) -> Option<Stack> {
    let tokenizer = directory.join("tokenizer.json");
    std::fs::write(&tokenizer, unpacked(&shared.join(format!("tokenizers/{name}.json.gz")))).unwrap();
    let of_model = shared.join("golden/prompts").join(name);
    let mut model = ModelFiles { tokenizer, ..ModelFiles::in_directory("tiny", &of_model) };
    model.block_tokens = 1;
    if !of_model.is_dir() {
        model.chat_template = ModelFiles::demo().chat_template;
        model.tokenizer_config = directory.join("tokenizer_config.json");
        model.config = directory.join("config.json");
        std::fs::write(&model.tokenizer_config, r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#).unwrap();
        std::fs::write(&model.config, "{}").unwrap();
    }
    let pod = PodOptions { gpu_blocks: GPU_BLOCKS, ..PodOptions::default() };
    start(test, Steer::Header, |builder: StackBuilder| builder.models(vec![model]).pods(1, pod)).await
}

async fn ask(stack: &Stack, path: &str, body: &str) -> Outcome {
    let client = stack.client();
    send(stack, &client, client.json_request(path), whole(body.to_owned())).await
}

/// Why a request that vLLM answers may pass unsteered: for no more than one of a model's recorded requests each.
const PASSED: [&str; 2] = ["empty_prompt", "invalid_field"];

async fn keys_are_those_of_the_recorded_ids(test: &str, name: &str, cases: fn(&Path, &str) -> Vec<Case>) {
    let Some(shared) = shared_or_skip(test) else { return };
    let directory = tempfile::tempdir().unwrap();
    let Some(stack) = stack(test, &shared, name, directory.path()).await else { return };
    let cases = cases(&shared, name);
    for ids in cases.iter().filter_map(|case| case.ids.as_ref()) {
        let body = json!({"model": "tiny", "prompt": ids, "max_tokens": 1}).to_string();
        let answer = ask(&stack, COMPLETIONS, &body).await.response;
        // An id that no token has is in some recorded prompts; a pod may refuse it.
        assert!(!answer.status.is_server_error(), "{}", answer.text());
    }
    events_arrive(&stack).await;
    let (mut found, mut refused, mut passed) = (0, 0, Vec::new());
    for case in &cases {
        let outcome = ask(&stack, &case.path, &case.body).await;
        match &case.ids {
            None => {
                assert_ne!(outcome.reason(), "steered", "{name}, {}: vLLM answers an error", case.id);
                refused += 1;
            }
            Some(_) if PASSED.contains(&outcome.reason()) => passed.push(case.id.as_str()),
            Some(ids) => {
                assert_eq!(outcome.reason(), "steered", "{name}, {}", case.id);
                let tokens = ids.len() - 1;
                assert_eq!(outcome.matched(), (tokens, tokens), "{name}, {}: {}", case.id, case.body);
                found += 1;
            }
        }
    }
    println!("{name}: {found} found to the last token, {refused} refused as vLLM does, passed: {passed:?}");
    assert!(passed.len() <= 1 && found >= 30, "{passed:?}");
    let metrics = common::metrics(&stack).await;
    assert_eq!(metrics.sum("warmpath_wrong_phase") + metrics.sum("warmpath_host_errors"), 0.0);
}

#[tokio::test]
async fn recorded_prompts_of_qwen3() {
    keys_are_those_of_the_recorded_ids("recorded_prompts_of_qwen3", "qwen3", prompts).await;
}

#[tokio::test]
async fn recorded_prompts_of_mistral_v1() {
    keys_are_those_of_the_recorded_ids("recorded_prompts_of_mistral_v1", "mistral_v1", prompts).await;
}

#[tokio::test]
async fn recorded_strings_of_deepseek() {
    keys_are_those_of_the_recorded_ids("recorded_strings_of_deepseek", "deepseek", strings).await;
}

#[tokio::test]
async fn recorded_strings_of_gpt2() {
    keys_are_those_of_the_recorded_ids("recorded_strings_of_gpt2", "gpt2", strings).await;
}
