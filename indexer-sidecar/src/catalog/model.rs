//! One model, from the files that the configuration names to a definition with its assets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use warmpath_core::definition::{self, AssetRef, ModelDefinition, Overflow, Tokenize};
use warmpath_core::model::Model;
use warmpath_core::renderer::{self, TokenizerMode};
use warmpath_core::tokenizer::Limits;
use warmpath_core::tokenizer::pipeline::{self, Pipeline};

use super::engine::{self, SharedEngine};
use super::{Library, digest, templates};
use crate::config::{AssetsConfig, ConfigError, ModelConfig, TokenizeMode};
use crate::metrics::ModelInfoLabels;

/// A model that is loaded and checked.
pub(super) struct LoadedModel {
    pub(super) entry: Entry,
    pub(super) assets: Vec<(String, Bytes)>,
}

/// What the sidecar keeps of a model.
#[derive(Clone)]
pub struct Entry {
    /// What filters are told.
    pub definition: ModelDefinition,
    /// The model, where prompts are tokenized here.
    pub native: Option<Arc<Model>>,
    /// The class that the engine makes of the tokenizer's files.
    pub class: String,
    /// What its tokenizer was compared on before it was given out; empty if it was not.
    pub checked: String,
    /// SHA-256 of the effective `tokenizer.json`, and what was prepared from it.
    pub(super) engine: Option<(String, SharedEngine)>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// Mistral's own tokenizer, beside `tokenizer`.
const TEKKEN: &str = "tekken.json";
/// What older models have beside `tokenizer_config`.
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";

/// Files that count without being named in the configuration, whether they are there or not.
pub(super) fn beside(model: &ModelConfig) -> Vec<PathBuf> {
    let settings = model.tokenizer_config.as_deref();
    let mut paths = vec![model.tokenizer.with_file_name(TEKKEN)];
    let of_settings = [SPECIAL_TOKENS_MAP, ADDED_TOKENS];
    paths.extend(settings.into_iter().flat_map(|path| of_settings.map(|name| path.with_file_name(name))));
    paths.extend(model.chat_template.as_deref().into_iter().flat_map(templates::beside));
    paths
}

/// The files of a model, read.
struct Files<'a> {
    model: &'a ModelConfig,
    /// The configuration file, and the model's place in it.
    file: &'a Path,
    at: &'a str,
    tokenizer: Bytes,
    tokenizer_config: Option<Bytes>,
    config: Option<Bytes>,
    special_tokens_map: Option<Bytes>,
    added_tokens: Option<Bytes>,
    chat_template: Option<Bytes>,
    tekken: Option<Bytes>,
}

impl<'a> Files<'a> {
    fn read(model: &'a ModelConfig, limit: u64, file: &'a Path, at: &'a str) -> Result<Self, ConfigError> {
        let read = |key: &str, path: &Path| {
            read_limited(path, limit)
                .map_err(|message| ConfigError::new(file, format!("{at}.{key}"), message))
        };
        let optional =
            |key, path: &Option<std::path::PathBuf>| path.as_deref().map(|path| read(key, path)).transpose();
        let beside = |name: &str| {
            let path = model.tokenizer_config.as_deref().map(|path| path.with_file_name(name));
            let path = path.filter(|path| path.is_file());
            path.map(|path| read("tokenizer_config", &path)).transpose()
        };
        let tekken = Some(model.tokenizer.with_file_name(TEKKEN)).filter(|path| path.is_file());
        Ok(Self {
            tekken: tekken.map(|path| read("tokenizer", &path)).transpose()?,
            special_tokens_map: beside(SPECIAL_TOKENS_MAP)?,
            added_tokens: beside(ADDED_TOKENS)?,
            tokenizer: read("tokenizer", &model.tokenizer)?,
            tokenizer_config: optional("tokenizer_config", &model.tokenizer_config)?,
            config: optional("config", &model.config)?,
            chat_template: optional("chat_template", &model.chat_template)?,
            model,
            file,
            at,
        })
    }

    fn error(&self, message: impl Into<String>) -> ConfigError {
        ConfigError::new(self.file, self.at, message)
    }

    /// `config.json` as JSON.
    fn config(&self) -> Result<Option<Value>, ConfigError> {
        let path = self.model.config.as_deref().unwrap_or(Path::new(""));
        let parse = |json: &Bytes| {
            serde_json::from_slice(json)
                .map_err(|error| ConfigError::new(path, "", format!("is not JSON: {error}")))
        };
        self.config.as_ref().map(parse).transpose()
    }

    fn pipeline(&self, mode: TokenizerMode) -> Result<Pipeline, ConfigError> {
        let pipeline = match (mode, &self.tekken) {
            (TokenizerMode::Mistral, Some(tekken)) => pipeline::of_tekken(tekken),
            (TokenizerMode::Mistral, None) => pipeline::of_sentencepiece(&self.tokenizer),
            _ => pipeline::effective(&self.of_transformers()),
        };
        pipeline.map_err(|error| {
            let model = self.model;
            let tekken = model.tokenizer.with_file_name(TEKKEN);
            let path = match error.file {
                "tokenizer_config.json" => model.tokenizer_config.as_deref(),
                "config.json" => model.config.as_deref(),
                TEKKEN => Some(tekken.as_path()),
                _ => Some(model.tokenizer.as_path()),
            };
            match path {
                Some(path) => ConfigError::new(path, error.key, error.message),
                None => self.error(error.to_string()),
            }
        })
    }

    fn of_transformers(&self) -> pipeline::Files<'_> {
        pipeline::Files {
            tokenizer: &self.tokenizer,
            tokenizer_config: self.tokenizer_config.as_deref(),
            config: self.config.as_deref(),
            special_tokens_map: self.special_tokens_map.as_deref(),
            added_tokens: self.added_tokens.as_deref(),
        }
    }

    /// The chat templates, from their own files or from `tokenizer_config.json`.
    fn template(&self) -> Result<Option<Bytes>, ConfigError> {
        if let (Some(template), Some(path)) = (&self.chat_template, &self.model.chat_template) {
            let list = templates::with_file(path, template).map_err(|message| self.error(message))?;
            return Ok(Some(list.map_or_else(|| template.clone(), Bytes::from)));
        }
        let (Some(json), Some(path)) = (&self.tokenizer_config, &self.model.tokenizer_config) else {
            return Ok(None);
        };
        let template = templates::in_settings(json).map_err(|message| ConfigError::new(path, "", message))?;
        Ok(template.map(Bytes::from))
    }
}

impl LoadedModel {
    /// Reads a model's files, decides which tokenizer its engine runs, and prepares that. What `known` has prepared from
    /// the same file is taken over.
    pub(super) fn load(
        model: &ModelConfig,
        seed: u64,
        assets: &AssetsConfig,
        (file, at): (&Path, &str),
        known: &Library,
    ) -> Result<Self, ConfigError> {
        let files = Files::read(model, assets.file_bytes_max.as_u64(), file, at)?;
        let config = files.config()?;
        let mode = model
            .tokenizer_mode
            .resolve(config.as_ref(), renderer::has_mistral_files(&names_beside(&model.tokenizer)));
        let pipeline = files.pipeline(mode)?;
        let chat_refused = mode.own_renderer(config.as_ref());
        let template = if chat_refused.is_some() { None } else { files.template()? };
        let json = Bytes::from(pipeline.tokenizer_json);
        let engine = match mode.own_tokenizer() {
            Some(_) => None,
            None => Some(prepare(&json, assets.self_check_strings, known).map_err(|message| {
                let message = format!("{message}; give the files that the engine serves the model with");
                files.error(format!("model {}: tokenizer.json: {message}", model.name))
            })?),
        };
        let (tokenize, asset) = tokenize(model, mode, &json, engine.as_ref().map(|(_, engine)| engine));
        let mut definition = ModelDefinition {
            name: model.name.clone(),
            served_names: model.served_names(),
            default: model.default,
            lora_adapters: model.lora_adapters.clone(),
            seed,
            block_tokens: model.block_tokens,
            cache_salt: model.cache_salt,
            max_model_len: model.max_model_len,
            vocab_size: config.as_ref().and_then(definition::vocab_size),
            tokenize,
            overflow: model.overflow,
            limits: model.limits(),
            special_tokens: pipeline.special_tokens,
            chat_template: template.as_ref().map(asset_ref),
            chat_refused: chat_refused.map(str::to_owned),
            chat: model.chat_rules(),
            digest: String::new(),
        };
        definition.digest = digest(&definition);
        let native = native(&files, &definition, &json, template.as_ref(), engine.as_ref(), known)?;
        let checked = engine.as_ref().map_or_else(String::new, |(_, engine)| engine.checked.clone());
        let assets = [asset, template].into_iter().flatten();
        let assets = assets.map(|bytes| (asset_ref(&bytes).sha256, bytes)).collect();
        let entry = Entry { definition, native, class: pipeline.class, checked, engine };
        entry.log();
        Ok(Self { entry, assets })
    }
}

/// What was prepared from the same file before, or else anew.
fn prepare(json: &Bytes, strings: usize, known: &Library) -> Result<(String, SharedEngine), String> {
    let sha256 = hex::encode(Sha256::digest(json));
    let same = |entry: &&Entry| entry.engine.as_ref().is_some_and(|(known, _)| *known == sha256);
    if let Some(engine) = known.models.iter().find(same).and_then(|entry| entry.engine.clone()) {
        return Ok(engine);
    }
    let engine = Arc::new(engine::prepare(json, strings)?);
    Ok((sha256, engine))
}

/// Who tokenizes, and the asset that this takes.
fn tokenize(
    model: &ModelConfig,
    mode: TokenizerMode,
    json: &Bytes,
    engine: Option<&SharedEngine>,
) -> (Tokenize, Option<Bytes>) {
    let Some(engine) = engine else {
        return (Tokenize::Refused(mode.own_tokenizer().unwrap_or_default().to_owned()), None);
    };
    match (model.tokenize, &engine.asset) {
        (TokenizeMode::InlineHf, _) => (Tokenize::Inline(asset_ref(json)), Some(json.clone())),
        (TokenizeMode::Sidecar, _) => (Tokenize::Sidecar, None),
        (TokenizeMode::Inline, Ok(asset)) => (Tokenize::Inline(asset_ref(asset)), Some(asset.clone())),
        (TokenizeMode::Inline, Err(why)) => (Tokenize::Refused(why.clone()), None),
    }
}

/// Loads it as a filter would, and keeps it where this sidecar tokenizes. A template that does not parse is an error of
/// the configuration: it would be one for the engine as well.
fn native(
    files: &Files<'_>,
    definition: &ModelDefinition,
    json: &Bytes,
    template: Option<&Bytes>,
    engine: Option<&(String, SharedEngine)>,
    known: &Library,
) -> Result<Option<Arc<Model>>, ConfigError> {
    if let Some(same) = known.models.iter().find(|entry| entry.definition == *definition) {
        return Ok(same.native.clone());
    }
    let Some((_, engine)) = engine else { return Ok(None) };
    let template = template.map(|bytes| std::str::from_utf8(bytes)).transpose();
    let template = template.map_err(|error| files.error(format!("chat_template is not UTF-8: {error}")))?;
    let tokenizer = engine::native(json, engine).map_err(|message| files.error(message))?;
    let model = Model::load(definition.clone(), tokenizer, template).map_err(|error| {
        files.error(format!("{error}; give the files that the engine serves the model with"))
    })?;
    let here = definition.tokenize == Tokenize::Sidecar || definition.overflow == Overflow::Sidecar;
    // Here a prompt holds up no worker of Envoy: it is encoded whole.
    Ok(here.then(|| Arc::new(model.with_limits(Limits::NONE))))
}

impl Entry {
    /// How it is served, for metrics.
    pub fn labels(&self) -> ModelInfoLabels {
        let definition = &self.definition;
        let tokenize = match definition.tokenize {
            Tokenize::Inline(_) => "inline",
            Tokenize::Sidecar => "sidecar",
            Tokenize::Refused(_) => "refused",
        };
        let chat = match (&definition.chat_template, &definition.chat_refused) {
            (_, Some(_)) => "refused",
            (Some(_), None) => "template",
            (None, None) => "none",
        };
        ModelInfoLabels { model: definition.name.clone(), tokenize, chat }
    }

    /// How it is served and why, for the admin port.
    pub fn shown(&self) -> Value {
        let ModelInfoLabels { model, tokenize, chat } = self.labels();
        let definition = &self.definition;
        let (asset, refused) = match &definition.tokenize {
            Tokenize::Inline(asset) => (Some(asset), None),
            Tokenize::Sidecar => (None, None),
            Tokenize::Refused(why) => (None, Some(why)),
        };
        json!({
            "model": model,
            "class": self.class,
            "tokenize": tokenize,
            "refused": refused,
            "tokenizer": asset,
            "checked": self.checked,
            "chat": chat,
            "chat_refused": definition.chat_refused,
            "digest": definition.digest,
        })
    }

    fn log(&self) {
        let definition = &self.definition;
        let name = definition.name.as_str();
        if let Tokenize::Refused(why) = &definition.tokenize {
            log::warn!(model = name, class = self.class.as_str(), why = why.as_str(); "model is not keyed: its requests pass unsteered");
        }
        if let Some(why) = &definition.chat_refused {
            log::warn!(model = name, why = why.as_str(); "chats are not keyed: they pass unsteered, completions do not");
        }
    }
}

/// Names of the files in the model's own folder.
fn names_beside(tokenizer: &Path) -> Vec<String> {
    let entries = tokenizer.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

fn read_limited(path: &Path, limit: u64) -> Result<Bytes, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("{shown} cannot be read: {error}");
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > limit {
        return Err(format!("{shown} has {bytes} bytes, more than assets.file_bytes_max ({limit})"));
    }
    std::fs::read(path).map(Bytes::from).map_err(unreadable)
}

fn asset_ref(bytes: &Bytes) -> AssetRef {
    AssetRef::new(hex::encode(Sha256::digest(bytes)), bytes)
}
