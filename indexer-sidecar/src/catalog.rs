//! The catalog: what filters are told about the models, and the files that go with it.
//!
//! Built from the configuration in one go, so that what is served is always one consistent state. Every model is
//! loaded once with the code that the filter runs: an asset that a filter could not load is refused here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use warmpath_core::definition::{CATALOG_VERSION, Catalog, Mode};

use crate::config::{Config, ConfigError};
use crate::index::KeyRules;

mod engine;
mod model;
mod templates;

pub use model::Entry;

use model::LoadedModel;

/// The models of one configuration, loaded and checked.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// In the order of the configuration.
    pub models: Vec<Entry>,
    /// File contents by their SHA-256 in hex.
    pub assets: HashMap<String, Bytes>,
}

/// Files that decide what the catalog says, the configuration file first. Some may not be there: it matters if they come.
pub fn files(config: &Config, file: &Path) -> Vec<PathBuf> {
    let named = config.models.iter().flat_map(|model| model.files().cloned());
    let beside = config.models.iter().flat_map(model::beside);
    let first = [Some(file), config.seed_file()].into_iter().flatten().map(Path::to_owned);
    first.chain(named).chain(beside).collect()
}

impl Library {
    /// Reads and checks every model of `config`, which was read from `file`.
    ///
    /// What `known` has prepared from the same files is taken over. Cost: preparing a tokenizer of 150,000 entries takes
    /// some seconds, most of them for comparing it with the oracle; call it off the runtime's own threads.
    pub fn load(config: &Config, file: &Path, known: &Library) -> Result<Self, ConfigError> {
        let seed = config.seed(file)?;
        let mut library = Self::default();
        for (position, model) in config.models.iter().enumerate() {
            let at = format!("models[{position}]");
            let loaded = LoadedModel::load(model, seed, &config.assets, (file, &at), known)?;
            library.models.push(loaded.entry);
            library.assets.extend(loaded.assets);
        }
        Ok(library)
    }

    /// The model of that name.
    pub fn model(&self, name: &str) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.definition.name == name)
    }

    /// What filters are told while `mode` is set.
    pub fn catalog(&self, mode: Mode) -> Catalog {
        let models = self.models.iter().map(|entry| entry.definition.clone()).collect();
        let mut catalog = Catalog { version: CATALOG_VERSION, digest: String::new(), mode, models };
        catalog.digest = digest(&catalog);
        catalog
    }

    /// How each model's keys are made, for the index.
    pub fn key_rules(&self) -> HashMap<Arc<str>, KeyRules> {
        let definitions = self.models.iter().map(|entry| &entry.definition);
        definitions
            .map(|model| {
                let rules =
                    KeyRules { seed: model.seed, salt: model.cache_salt, block_tokens: model.block_tokens };
                (Arc::from(model.name.as_str()), rules)
            })
            .collect()
    }
}

/// SHA-256 over the JSON form of `value`, whose own digest is still empty.
fn digest(value: &impl serde::Serialize) -> String {
    // Neither definition nor catalog has a map with keys other than strings: writing them cannot fail.
    let json = serde_json::to_vec(value).unwrap_or_default();
    hex::encode(Sha256::digest(json))
}
