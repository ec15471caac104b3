//! `prompts/MODEL.jsonl`: HTTP bodies and the prompt token ids that a running vLLM server made of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use warmpath_core::definition::{self, ModelDefinition};
use warmpath_core::model::Model;
use warmpath_core::pass::Pass;
use warmpath_core::request::{self, Api};
use warmpath_core::template::Templates;
use warmpath_core::tokenizer::{Encoded, pipeline};

use super::report::sides;
use super::{FileReport, Golden, Outcome, Report};
use crate::engine::Engine;
use crate::files;

/// `--max-model-len` of the servers that answered the recorded prompts.
pub const MAX_MODEL_LEN: u32 = 16_384;

/// A request.
#[derive(Deserialize)]
struct Row {
    id: String,
    /// Name of its tokenizer; without it, the file's name.
    tokenizer: Option<String>,
    endpoint: String,
    body: Box<RawValue>,
    /// HTTP status; `token_ids` are there with 200, `error` otherwise.
    status: u16,
    /// A list for each prompt of the request; the first one counts.
    token_ids: Option<Vec<Vec<u32>>>,
    error: Option<Value>,
}

pub(super) fn run(golden: &Golden, report: &mut Report) -> Result<()> {
    let directory = golden.directory.join("prompts");
    for (name, path) in files::list(&directory, "jsonl")? {
        let rows: Vec<Row> = files::rows(&path)?;
        let tokenizer = rows.first().and_then(|row| row.tokenizer.as_deref()).unwrap_or(&name);
        let served = served_name(&rows);
        let loaded = load(golden, &directory.join(&name), tokenizer, &served)?;
        let with = loaded.as_ref().map_or("-", |(_, engine)| engine.as_str());
        let mut file = FileReport::new(format!("prompts/{name}"), with);
        for row in &rows {
            let outcome = match &loaded {
                Ok((model, _)) => compare(row, tokens(model, row)),
                Err(why) => Outcome::Skipped(why.clone()),
            };
            file.add(&row.id, outcome);
        }
        report.files.push(file);
    }
    Ok(())
}

/// The name that most requests ask for: the server's.
fn served_name(rows: &[Row]) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for row in rows {
        let body: Option<Value> = serde_json::from_str(row.body.get()).ok();
        if let Some(name) = body.as_ref().and_then(|body| body.get("model")?.as_str()) {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map_or_else(|| "model".to_owned(), |(name, _)| name)
}

/// The model with its engine's name; or why there is none.
fn load(
    golden: &Golden,
    directory: &Path,
    tokenizer: &str,
    served: &str,
) -> Result<Result<(Model, String), String>> {
    let Some(path) = files::find(golden.tokenizers, tokenizer, "json") else {
        return Ok(Err(format!("{} has no {tokenizer}.json", golden.tokenizers.display())));
    };
    let config = optional(&directory.join("tokenizer_config.json"))?;
    let model_config = optional(&directory.join("config.json"))?;
    let json = files::read(&path)?;
    // Without its settings, a tokenizer is what its file says.
    let (special_tokens_map, added_tokens) = (
        optional(&directory.join("special_tokens_map.json"))?,
        optional(&directory.join("added_tokens.json"))?,
    );
    let files = pipeline::Files {
        tokenizer: &json,
        tokenizer_config: config.as_deref(),
        config: model_config.as_deref(),
        special_tokens_map: special_tokens_map.as_deref(),
        added_tokens: added_tokens.as_deref(),
    };
    let pipeline = match pipeline::effective(&files) {
        Ok(pipeline) => pipeline,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let settings: serde_json::Map<String, Value> =
        config.as_deref().map(serde_json::from_slice).transpose()?.unwrap_or_default();
    let template = match optional(&directory.join("chat_template.jinja"))? {
        Some(bytes) => Some(String::from_utf8(bytes).context("chat_template.jinja is not UTF-8")?),
        None => Templates::in_settings(&settings).map_err(anyhow::Error::msg)?,
    };
    let engine = match Engine::of(&pipeline.tokenizer_json) {
        Ok(engine) => engine,
        Err(error) => return Ok(Err(error)),
    };
    let model_config: Option<Value> = model_config.as_deref().map(serde_json::from_slice).transpose()?;
    let definition = ModelDefinition {
        vocab_size: model_config.as_ref().and_then(definition::vocab_size),
        ..definition(served, pipeline.special_tokens, golden.max_model_len)
    };
    let model = Model::load(definition, engine.tokenizer, template.as_deref());
    Ok(model.map(|model| (model, engine.name)).map_err(|error| error.to_string()))
}

fn optional(path: &Path) -> Result<Option<Vec<u8>>> {
    path.is_file().then(|| fs::read(path)).transpose().with_context(|| format!("reading {}", path.display()))
}

fn definition(served: &str, special_tokens: BTreeMap<String, String>, max_model_len: u32) -> ModelDefinition {
    ModelDefinition {
        name: served.to_owned(),
        served_names: vec![served.to_owned()],
        default: true,
        block_tokens: 16,
        max_model_len: Some(max_model_len),
        special_tokens,
        ..ModelDefinition::default()
    }
}

/// Ids of the request's first prompt, as the server would have them.
fn tokens(model: &Model, row: &Row) -> Result<Encoded, Pass> {
    let request = match Api::from_path(&row.endpoint) {
        Some(api) => request::parse(api, row.body.get().as_bytes())?,
        None => {
            let detail = format!("{} is not an endpoint that is keyed", row.endpoint);
            return Err(Pass::new(warmpath_core::pass::PassReason::UnsupportedField, detail));
        }
    };
    model.definition().adapter_for(request.model.as_deref())?;
    model.tokens(&request, Some(super::CLOCK))
}

fn compare(row: &Row, ours: Result<Encoded, Pass>) -> Outcome {
    let reference = row.token_ids.as_ref().filter(|_| row.status == 200).and_then(|prompts| prompts.first());
    match (ours, reference) {
        (Ok(Encoded { ids, complete: true }), Some(reference)) if ids == *reference => Outcome::Equal,
        (Ok(Encoded { ids, complete: false }), Some(reference)) if reference.starts_with(&ids) => {
            Outcome::Skipped(format!("only a prefix is keyed: {} of {} tokens", ids.len(), reference.len()))
        }
        (Ok(Encoded { ids, .. }), Some(reference)) => {
            Outcome::Different(sides(&format!("{ids:?}"), &format!("{reference:?}")))
        }
        (Ok(Encoded { ids, .. }), None) => {
            let error = row.error.as_ref().map(Value::to_string).unwrap_or_default();
            let status = row.status;
            Outcome::Different(format!("{} ids, vLLM answers {status}: {error}", ids.len()))
        }
        (Err(pass), Some(_)) => Outcome::Skipped(pass.to_string()),
        (Err(_), None) => Outcome::Equal,
    }
}
