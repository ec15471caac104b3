//! The catalog: what filters are told about the models, and the files that go with it.
//!
//! Built from the configuration in one go, so that what is served is always one consistent state. Every model is
//! loaded once with the code that the filter runs: an asset that a filter could not load is refused here.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use warmpath_core::definition::{AssetRef, CATALOG_VERSION, Catalog, Mode, ModelDefinition};
use warmpath_core::model::Model;
use warmpath_core::tokenizer::HfTokenizer;

use crate::config::{Config, ConfigError, ModelConfig};
use crate::index::KeyRules;

mod tokenizer_config;

use tokenizer_config::TokenizerConfig;

/// The models of one configuration, loaded and checked.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// Definitions, in the order of the configuration.
    pub models: Vec<ModelDefinition>,
    /// File contents by their SHA-256 in hex.
    pub assets: HashMap<String, Bytes>,
}

/// Files that decide what the catalog says, the configuration file first.
pub fn files<'a>(config: &'a Config, file: &'a Path) -> Vec<&'a Path> {
    let models = config.models.iter().flat_map(|model| {
        [Some(&model.tokenizer), model.tokenizer_config.as_ref(), model.chat_template.as_ref()]
    });
    let assets = models.flatten().map(PathBuf::as_path);
    std::iter::once(file).chain(config.seed_file()).chain(assets).collect()
}

impl Library {
    /// Reads and checks every model of `config`, which was read from `file`.
    ///
    /// A definition that `known` holds already is not loaded again. Cost: loading a tokenizer of 150,000 entries
    /// takes about a quarter of a second; call it off the runtime's own threads.
    pub fn load(config: &Config, file: &Path, known: &Library) -> Result<Self, ConfigError> {
        let seed = config.seed(file)?;
        let mut library = Self::default();
        for (position, model) in config.models.iter().enumerate() {
            let at = format!("models[{position}]");
            let limit = config.assets.file_bytes_max.as_u64();
            let loaded = LoadedModel::read(model, seed, limit, file, &at)?;
            if !known.models.contains(&loaded.definition) {
                loaded.check(file, &at)?;
            }
            library.models.push(loaded.definition);
            library.assets.extend(loaded.assets);
        }
        Ok(library)
    }

    /// What filters are told while `mode` is set.
    pub fn catalog(&self, mode: Mode) -> Catalog {
        let mut catalog =
            Catalog { version: CATALOG_VERSION, digest: String::new(), mode, models: self.models.clone() };
        catalog.digest = digest(&catalog);
        catalog
    }

    /// How each model's keys are made, for the index.
    pub fn key_rules(&self) -> HashMap<Arc<str>, KeyRules> {
        let rules = |model: &ModelDefinition| KeyRules {
            seed: model.seed,
            salt: model.cache_salt,
            block_tokens: model.block_tokens,
        };
        self.models.iter().map(|model| (Arc::from(model.name.as_str()), rules(model))).collect()
    }
}

struct LoadedModel {
    definition: ModelDefinition,
    tokenizer: Bytes,
    chat_template: Option<Bytes>,
    assets: Vec<(String, Bytes)>,
}

impl LoadedModel {
    fn read(model: &ModelConfig, seed: u64, limit: u64, file: &Path, at: &str) -> Result<Self, ConfigError> {
        let read = |key: &str, path: &Path| {
            read_limited(path, limit)
                .map_err(|message| ConfigError::new(file, format!("{at}.{key}"), message))
        };
        let tokenizer = read("tokenizer", &model.tokenizer)?;
        let settings = match &model.tokenizer_config {
            Some(path) => TokenizerConfig::parse(&read("tokenizer_config", path)?)
                .map_err(|message| ConfigError::new(path, "", message))?,
            None => TokenizerConfig::default(),
        };
        let chat_template = match &model.chat_template {
            Some(path) => Some(read("chat_template", path)?),
            None => settings.chat_template.map(Bytes::from),
        };
        let mut definition = ModelDefinition {
            name: model.name.clone(),
            served_names: model.served_names(),
            default: model.default,
            lora_adapters: model.lora_adapters.clone(),
            seed,
            block_tokens: model.block_tokens,
            cache_salt: model.cache_salt,
            max_model_len: model.max_model_len,
            special_tokens: settings.special_tokens,
            tokenizer: asset_ref(&tokenizer),
            chat_template: chat_template.as_ref().map(asset_ref),
            digest: String::new(),
        };
        definition.digest = digest(&definition);
        let refs = std::iter::once(&definition.tokenizer).chain(&definition.chat_template);
        let bytes = std::iter::once(&tokenizer).chain(&chat_template);
        let assets = refs.zip(bytes).map(|(asset, bytes)| (asset.sha256.clone(), bytes.clone())).collect();
        Ok(Self { definition, tokenizer, chat_template, assets })
    }

    /// Loads it as a filter would.
    fn check(&self, file: &Path, at: &str) -> Result<(), ConfigError> {
        let template = self.chat_template.as_deref().map(std::str::from_utf8).transpose();
        let template = template.map_err(|error| {
            ConfigError::new(file, format!("{at}.chat_template"), format!("is not UTF-8: {error}"))
        })?;
        let name = &self.definition.name;
        let loaded = HfTokenizer::from_json(&self.tokenizer)
            .map_err(|message| format!("model {name}: tokenizer.json: {message}"))
            .and_then(|tokenizer| {
                Model::load(self.definition.clone(), Box::new(tokenizer), template)
                    .map_err(|error| error.to_string())
            });
        loaded.map(drop).map_err(|error| {
            let message = format!("{error}; give the files that the engine serves the model with");
            ConfigError::new(file, at, message)
        })
    }
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
    AssetRef { sha256: hex::encode(Sha256::digest(bytes)), bytes: bytes.len() as u64 }
}

/// SHA-256 over the JSON form of `value`, whose own digest is still empty.
fn digest(value: &impl serde::Serialize) -> String {
    // Neither definition nor catalog has a map with keys other than strings: writing them cannot fail.
    let json = serde_json::to_vec(value).unwrap_or_default();
    hex::encode(Sha256::digest(json))
}

/// Special tokens by the names under which chat templates know them.
type SpecialTokens = BTreeMap<String, String>;
