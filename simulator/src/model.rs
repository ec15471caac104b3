//! The served model: how requests become token ids, and what made-up output looks like.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use hashbrown::HashMap;
use serde_json::Value;
use warmpath_core::definition::{ModelDefinition, vocab_size};
use warmpath_core::model::Model;
use warmpath_core::pass::{Pass, PassReason};
use warmpath_core::request::{self, Api, Prompt, Request};
use warmpath_core::tokenizer::{HfTokenizer, Limits, pipeline};

use crate::engine::Lora;

/// Words that output is made of, where the tokenizer has each as one token (with its leading space): then the text
/// of an answer, sent back as part of the next prompt, encodes to the very tokens that the engine has cached.
const WORDS: &str = "the of and to in is that it for was on are as with they be at this have from or one had by word \
    but not what all were we when your can said there use an each which she do how their if will up other about out \
    many then them these so some her would make like him into time has look two more write go see number no way could \
    people my than first water been call who its now find long down day did get come made may part";

/// What a model is loaded from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelConfig {
    /// Name in requests and answers.
    pub name: String,
    /// Hugging Face `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// `tokenizer_config.json`: class and special tokens, and the chat template where there is no file for it.
    pub tokenizer_config: Option<PathBuf>,
    /// `config.json`: the model type, which decides with the class what is made of the tokenizer's file.
    pub config: Option<PathBuf>,
    /// Jinja chat template.
    pub chat_template: Option<PathBuf>,
    /// LoRA adapters, in load order.
    pub lora_adapters: Vec<String>,
    /// Longest prompt and output together, in tokens.
    pub max_model_len: u32,
}

/// A loaded model.
pub struct PodModel {
    /// What it was loaded from.
    pub config: ModelConfig,
    model: Model,
    output_vocabulary: Arc<[u32]>,
    output_text: HashMap<u32, String>,
}

impl PodModel {
    /// Reads and loads the assets. Errors name the file.
    pub fn load(config: ModelConfig) -> anyhow::Result<Self> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let optional = |path: &Option<PathBuf>| path.as_ref().map(read).transpose();
        let settings = optional(&config.tokenizer_config)?;
        let of_model = optional(&config.config)?;
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        let pipeline = pipeline::effective(&pipeline::Files {
            tokenizer: read(&config.tokenizer)?.as_bytes(),
            tokenizer_config: bytes(&settings).as_deref(),
            config: bytes(&of_model).as_deref(),
            ..pipeline::Files::default()
        })
        .with_context(|| format!("the files of {}", config.tokenizer.display()))?;
        let chat_template = match &config.chat_template {
            Some(path) => Some(read(path)?),
            None => settings.and_then(|text| {
                let settings: Value = serde_json::from_str(&text).ok()?;
                settings["chat_template"].as_str().map(str::to_owned)
            }),
        };
        let mut definition = definition(&config, pipeline.special_tokens);
        let of_model: Option<Value> = of_model.and_then(|text| serde_json::from_str(&text).ok());
        definition.vocab_size = of_model.as_ref().and_then(vocab_size);
        let hf = HfTokenizer::from_json(&pipeline.tokenizer_json)
            .map_err(|message| anyhow::anyhow!("{}: {message}", config.tokenizer.display()))?;
        let model =
            Model::load(definition, Box::new(hf), chat_template.as_deref())?.with_limits(Limits::NONE);
        let output_text = output_text(&model);
        anyhow::ensure!(!output_text.is_empty(), "{} encodes nothing", config.tokenizer.display());
        let mut output_vocabulary: Vec<u32> = output_text.keys().copied().collect();
        output_vocabulary.sort_unstable();
        Ok(Self { config, model, output_vocabulary: output_vocabulary.into(), output_text })
    }

    /// Token ids that output is made of.
    pub fn output_vocabulary(&self) -> Arc<[u32]> {
        self.output_vocabulary.clone()
    }

    /// Text of an output token.
    pub fn text(&self, token: u32) -> &str {
        self.output_text.get(&token).map_or("", String::as_str)
    }

    /// The adapter that the `model` field names.
    pub fn lora(&self, name: Option<&str>) -> Result<Option<Lora>, Pass> {
        let adapter = self.model.definition().adapter_for(name)?;
        Ok(adapter.map(|name| {
            let at = self.config.lora_adapters.iter().position(|adapter| adapter == name).unwrap_or(0);
            Lora { id: at as u32 + 1, name: name.to_owned(), path: format!("/adapters/{name}") }
        }))
    }

    /// Token ids of a body's prompt. What `core` does not model is answered all the same: from the body's raw
    /// text, which also follows the part of a prompt that is keyed before its first image. A model server serves such
    /// requests, and so does this one.
    pub fn tokens(&self, api: Api, body: &Value) -> Result<Vec<u32>, Pass> {
        let parsed = request::parse(api, &serde_json::to_vec(body).unwrap_or_default());
        match parsed.and_then(|request| self.model.tokens(&request, unix_seconds())) {
            Err(pass) if !is_client_error(pass.reason) => self.raw_tokens(raw_text(body)),
            result => {
                let mut encoded = result?;
                if !encoded.complete {
                    encoded.ids.extend(self.raw_tokens(raw_text(body))?);
                }
                Ok(encoded.ids)
            }
        }
    }

    /// Token ids of plain text, without special tokens.
    pub fn raw_tokens(&self, text: String) -> Result<Vec<u32>, Pass> {
        encode(&self.model, text)
    }
}

/// Whether vLLM answers such a request with an error, too.
fn is_client_error(reason: PassReason) -> bool {
    use PassReason::{EmptyPrompt, InvalidField, MalformedJson, PromptTooLong, UnknownModel};
    matches!(reason, MalformedJson | InvalidField | EmptyPrompt | PromptTooLong | UnknownModel)
}

/// The time for chat templates that print it.
fn unix_seconds() -> Option<i64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

fn encode(model: &Model, text: String) -> Result<Vec<u32>, Pass> {
    let encoded = model.tokens(
        &Request {
            model: None,
            prompt: Prompt::Text { text, add_special_tokens: false, beside_empty: false },
            truncation: None,
            cache_salt: None,
            output_tokens_max: None,
        },
        None,
    )?;
    Ok(encoded.ids)
}

/// Something to tokenize for a body that is not modelled: its prompt, or its messages as JSON.
fn raw_text(body: &Value) -> String {
    match (&body["prompt"], &body["messages"]) {
        (Value::String(text), _) => text.clone(),
        (Value::Null, Value::Null) => body.to_string(),
        (Value::Null, messages) => messages.to_string(),
        (prompt, _) => prompt.to_string(),
    }
}

fn definition(config: &ModelConfig, special_tokens: BTreeMap<String, String>) -> ModelDefinition {
    ModelDefinition {
        name: config.name.clone(),
        served_names: vec![config.name.clone()],
        default: true,
        lora_adapters: config.lora_adapters.clone(),
        // Seed, block size and digest decide Warmpath's keys, of which a model server has none.
        block_tokens: 1,
        max_model_len: Some(config.max_model_len),
        special_tokens,
        ..ModelDefinition::default()
    }
}

/// Output tokens with their text: words that are one token each, or else whatever tokens those words consist of.
fn output_text(model: &Model) -> HashMap<u32, String> {
    let mut whole = HashMap::new();
    let mut parts = HashMap::new();
    for word in WORDS.split_whitespace() {
        let text = format!(" {word}");
        let Ok(tokens) = encode(model, text.clone()) else { continue };
        match tokens[..] {
            [token] => {
                whole.insert(token, text);
            }
            _ => parts.extend(tokens.into_iter().map(|token| (token, text.clone()))),
        }
    }
    if whole.is_empty() { parts } else { whole }
}
