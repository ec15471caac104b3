//! What is sent: the cases of the benchmark and their requests.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use warmpath_core::definition::ModelDefinition;
use warmpath_core::model::Model;
use warmpath_core::request::{self, Api};
use warmpath_core::tokenizer::{Limits, Runtime, compile, pipeline};
use warmpath_harness::load::Job;
use warmpath_harness::model::ModelFiles;

use super::pods::Shelf;
use crate::vocabulary::{common_words, prose};

/// Seed of the made-up vocabulary; prompts take the numbers after it.
pub const SEED: u64 = 1;
/// Seeds of shared prefixes start here: far from those of other prompts.
const SHARED_SEED: u64 = 1 << 32;

/// One kind of request.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    /// As figures name it.
    pub name: &'static str,
    /// A chat of one message, or a completion.
    pub chat: bool,
    /// Bytes of prose.
    pub bytes: usize,
    /// Prefixes that prompts share; 0: no prompt begins as another did.
    pub prefixes: usize,
    /// Requests per second of the open loop, for the gateway whose turn it is.
    pub rate: usize,
    /// Seconds of one turn.
    pub turn_s: usize,
}

/// Of a prompt that shares its prefix, how much of it does.
const SHARED_PART: f64 = 5.0 / 6.0;

/// All cases, in the order in which they are run.
pub const CASES: [Case; 5] = [
    Case { name: "chat_2kb", chat: true, bytes: 2048, prefixes: 0, rate: 100, turn_s: 1 },
    Case { name: "text_30kb_shared", chat: false, bytes: 30_000, prefixes: 8, rate: 100, turn_s: 1 },
    Case { name: "text_30kb_new", chat: false, bytes: 30_000, prefixes: 0, rate: 100, turn_s: 1 },
    Case { name: "text_400kb_shared", chat: false, bytes: 400_000, prefixes: 1, rate: 5, turn_s: 4 },
    Case { name: "text_400kb_new", chat: false, bytes: 400_000, prefixes: 0, rate: 5, turn_s: 4 },
];

/// Makes requests, each of them once, and tells the pods' shelf what tokens they have.
pub struct Prompts {
    next: u64,
    words: Vec<String>,
    prefixes: HashMap<(&'static str, u64), String>,
    model: Model,
    shelf: Shelf,
    tokens: (usize, usize),
}

impl Prompts {
    /// Requests to the demo's model with the tokenizer in `tokenizer`.
    ///
    /// # Errors
    /// When a file of the model cannot be used.
    pub fn new(tokenizer: &Path, shelf: Shelf) -> Result<Self> {
        Ok(Self {
            next: SEED,
            words: common_words(SEED),
            prefixes: HashMap::new(),
            model: native(tokenizer)?,
            shelf,
            tokens: (0, 0),
        })
    }

    /// So many requests of a case.
    ///
    /// # Errors
    /// When a prompt has no tokens.
    pub fn jobs(&mut self, case: &Case, count: usize) -> Result<Vec<Job>> {
        (0..count).map(|_| self.job(case)).collect()
    }

    /// Tokens of a prompt since this was asked last, on average.
    pub fn mean_tokens(&mut self) -> f64 {
        let (prompts, tokens) = std::mem::take(&mut self.tokens);
        tokens as f64 / prompts as f64
    }

    fn job(&mut self, case: &Case) -> Result<Job> {
        let text = self.text(case);
        let (api, body) = match case.chat {
            true => {
                let messages = json!([{"role": "user", "content": text}]);
                (Api::ChatCompletions, json!({"messages": messages, "max_tokens": 1}))
            }
            false => (Api::Completions, json!({"prompt": text, "max_tokens": 1})),
        };
        let bytes = body.to_string();
        let request = request::parse(api, bytes.as_bytes()).map_err(|pass| anyhow::anyhow!("{pass}"))?;
        let ids = self.model.tokens(&request, None).map_err(|pass| anyhow::anyhow!("{pass}"))?.ids;
        self.tokens = (self.tokens.0 + 1, self.tokens.1 + ids.len());
        self.shelf.put(bytes.as_bytes(), ids);
        Ok(Job { path: api.path(), body })
    }

    fn text(&mut self, case: &Case) -> String {
        self.next += 1;
        if case.prefixes == 0 {
            return prose(case.bytes, self.next, &self.words);
        }
        let shared = (case.bytes as f64 * SHARED_PART) as usize;
        let group = self.next % case.prefixes as u64;
        let words = &self.words;
        let prefix = self.prefixes.entry((case.name, group));
        let prefix = prefix.or_insert_with(|| prose(shared, SHARED_SEED + group + case.bytes as u64, words));
        format!("{prefix}{}", prose(case.bytes - shared, self.next, words))
    }
}

/// The model as the sidecar and the filter make it of the same files.
fn native(tokenizer: &Path) -> Result<Model> {
    let demo = ModelFiles::demo();
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let files = (read(tokenizer)?, read(&demo.tokenizer_config)?, read(&demo.config)?);
    let effective = pipeline::effective(&pipeline::Files {
        tokenizer: &files.0,
        tokenizer_config: Some(&files.1),
        config: Some(&files.2),
        ..pipeline::Files::default()
    })?;
    let runtime = Runtime::load(compile(&effective.tokenizer_json)?)?;
    let definition = ModelDefinition {
        name: demo.name.clone(),
        served_names: vec![demo.name],
        default: true,
        block_tokens: demo.block_tokens,
        special_tokens: effective.special_tokens,
        ..ModelDefinition::default()
    };
    let template = fs::read_to_string(&demo.chat_template).context("reading the chat template")?;
    Ok(Model::load(definition, Box::new(runtime), Some(&template))?.with_limits(Limits::NONE))
}

/// The sidecar's definition of the demo's model, with another tokenizer.
pub fn definition(tokenizer: &Path) -> Value {
    let demo = ModelFiles::demo();
    json!({
        "name": demo.name, "default": true, "block_tokens": demo.block_tokens, "tokenizer": tokenizer,
        "tokenizer_config": demo.tokenizer_config, "config": demo.config, "chat_template": demo.chat_template,
    })
}
