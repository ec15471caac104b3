//! What the sidecar tells the filter about its models: the catalog, as JSON over the asset port.
//!
//! `GET /v1/catalog` answers a [`Catalog`]; `GET /v1/assets/{sha256}` answers the bytes of an [`AssetRef`]. Nothing
//! here comes from a plugin configuration: one side owns it, so seeds and tokenizers cannot drift apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the catalog's layout; a filter refuses any other and keeps what it has.
pub const CATALOG_VERSION: u32 = 1;

/// Path of the catalog on the asset port.
pub const CATALOG_PATH: &str = "/v1/catalog";

/// Path under which assets are found by their SHA-256 on the asset port.
pub const ASSET_PATH_PREFIX: &str = "/v1/assets/";

/// Everything the filter needs to know to key prompts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Catalog {
    /// [`CATALOG_VERSION`] of the writer.
    pub version: u32,
    /// Changes whenever anything else in the catalog does.
    pub digest: String,
    /// What filters shall do with requests; a filter takes the more careful of this and its own setting.
    pub mode: Mode,
    /// The models that are served.
    pub models: Vec<ModelDefinition>,
}

/// How far the filter goes. Ordered from careful to complete.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Every request passes untouched.
    Off,
    /// Keys are made and picks are asked for and logged, but traffic does not follow them.
    Observe,
    /// Requests go to the picked endpoint.
    #[default]
    Steer,
}

/// Everything that decides which keys a prompt for one model has.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModelDefinition {
    /// Name of the key space, and the model's name between filter and sidecar.
    pub name: String,
    /// Names in a request's `model` field that mean this model without an adapter.
    pub served_names: Vec<String>,
    /// Also serves requests that name no model.
    pub default: bool,
    /// Names in a request's `model` field that mean this model with the LoRA adapter of that name.
    pub lora_adapters: Vec<String>,
    /// Seed of the key space; the same in all gateways and sidecars that share an index.
    #[serde(with = "hex_seed")]
    pub seed: u64,
    /// Tokens per key block; equals the engine's block size.
    pub block_tokens: u32,
    /// What `cache_salt` does.
    pub cache_salt: SaltRule,
    /// The longest prompt in tokens, where known.
    pub max_model_len: Option<u32>,
    /// Template variables that are special tokens, such as `bos_token`.
    pub special_tokens: BTreeMap<String, String>,
    /// Hugging Face `tokenizer.json`.
    pub tokenizer: AssetRef,
    /// Jinja chat template; none: the model's chats pass unsteered.
    pub chat_template: Option<AssetRef>,
    /// SHA-256 over all of the above: changes whenever keys or loading could.
    pub digest: String,
}

/// What a request's `cache_salt` does to its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaltRule {
    /// It separates key spaces, as in vLLM since 0.9.
    #[default]
    Keyed,
    /// The engine ignores it.
    Ignored,
}

/// A file on the asset port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AssetRef {
    /// SHA-256 of the bytes, 64 hex digits; also the last part of the asset's path.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
}

impl AssetRef {
    /// Path on the asset port.
    pub fn path(&self) -> String {
        format!("{ASSET_PATH_PREFIX}{}", self.sha256)
    }
}

/// Seeds as hexadecimal strings: JSON numbers are doubles to many readers and lose the low bits of 64.
mod hex_seed {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(seed: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{seed:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(|error| {
            serde::de::Error::custom(format!("seed {text:?} is not 1 to 16 hex digits: {error}"))
        })
    }
}
