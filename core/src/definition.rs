//! What the sidecar tells the filter about its models: the catalog, as JSON over the asset port.
//!
//! `GET /v1/catalog` answers a [`Catalog`]; `GET /v1/assets/{sha256}` answers the bytes of an [`AssetRef`]. Nothing
//! here comes from a plugin configuration: one side owns it, so seeds and tokenizers cannot drift apart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::pass::{Pass, PassReason};
use crate::tokenizer::Limits;

/// Version of the catalog's layout; a filter refuses any other and keeps what it has.
pub const CATALOG_VERSION: u32 = 2;

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
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
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
    /// Size of the model's own vocabulary, where known: [`vocab_size`].
    #[serde(default)]
    pub vocab_size: Option<u32>,
    /// Who turns prompts into tokens, and with what.
    pub tokenize: Tokenize,
    /// What happens to a prompt that is over `limits` where `tokenize` is inline.
    pub overflow: Overflow,
    /// How far a prompt is encoded in a filter.
    pub limits: InlineLimits,
    /// Template variables that are special tokens, such as `bos_token`.
    pub special_tokens: BTreeMap<String, String>,
    /// Jinja chat template, or the JSON of a list of named ones; none: the model's chats pass unsteered.
    pub chat_template: Option<AssetRef>,
    /// Why there is none although the model has chats: its engine renders them without Jinja.
    pub chat_refused: Option<String>,
    /// How the engine was told to render chats.
    pub chat: ChatRules,
    /// SHA-256 over all of the above: changes whenever keys or loading could.
    pub digest: String,
}

/// How many token ids the engine takes from a request, by the model's `config.json` (`get_vocab_size` in vLLM's
/// `config/model.py`): more than the tokenizer has, where the model's vocabulary is padded.
pub fn vocab_size(config: &serde_json::Value) -> Option<u32> {
    let text = config.get("text_config").unwrap_or(config);
    u32::try_from(text.get("vocab_size")?.as_u64()?).ok()
}

/// Who turns a model's prompts into tokens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokenize {
    /// The filter, with this tokenizer: prompts never leave the gateway.
    Inline(AssetRef),
    /// The sidecar: the filter sends it the request's body.
    Sidecar,
    /// Nobody: there is no exact tokenizer, for this reason. Requests pass unsteered.
    Refused(String),
}

impl Default for Tokenize {
    fn default() -> Self {
        Self::Refused("not loaded".to_owned())
    }
}

/// What happens to a prompt that a filter would not encode whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// Its prefix is keyed, up to the last safe cut within the limits.
    #[default]
    Off,
    /// The sidecar gets the request's body.
    Sidecar,
}

/// How far a filter encodes a prompt: what [`Limits`] says, in the types of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InlineLimits {
    /// [`Limits::bytes_max`]
    pub bytes_max: u64,
    /// [`Limits::tokens_max`]
    pub tokens_max: u64,
    /// [`Limits::merge_work_max`]
    pub merge_work_max: u64,
}

impl Default for InlineLimits {
    fn default() -> Self {
        let Limits { bytes_max, tokens_max, merge_work_max } = Limits::default();
        Self { bytes_max: bytes_max as u64, tokens_max: tokens_max as u64, merge_work_max }
    }
}

impl From<InlineLimits> for Limits {
    fn from(limits: InlineLimits) -> Self {
        let whole = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            bytes_max: whole(limits.bytes_max),
            tokens_max: whole(limits.tokens_max),
            merge_work_max: limits.merge_work_max,
        }
    }
}

/// How an engine was told to render chats: flags of `vllm serve`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ChatRules {
    /// `--default-chat-template-kwargs`: template variables that requests can override.
    pub template_kwargs: serde_json::Map<String, serde_json::Value>,
    /// `--chat-template-content-format`
    pub content_format: ContentFormat,
    /// `--exclude-tools-when-tool-choice-none`
    pub exclude_tools_when_none: bool,
    /// The server parses no tool calls (no `--enable-auto-tool-choice` with `--tool-call-parser`): it answers an error to
    /// requests with tools, unless their `tool_choice` is "none" or null. Where this is not told, they are steered all
    /// the same.
    #[serde(default)]
    pub refuses_tool_calls: bool,
    /// `--trust-request-chat-template`: a request may bring a template of its own.
    #[serde(default)]
    pub trust_request_chat_template: bool,
    /// Seconds that the servers' local time is ahead of UTC, for templates that print the time.
    #[serde(default)]
    pub utc_offset_seconds: i32,
}

/// The form in which a template gets a message's content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentFormat {
    /// As the template's own text suggests.
    #[default]
    Auto,
    /// One string.
    String,
    /// A list of parts.
    OpenAi,
}

impl ModelDefinition {
    /// The LoRA adapter that `model` (the request's field) means; `Err` if this definition does not serve that name.
    ///
    /// No name, or an empty one, means the server's own model in vLLM: here the definition marked `default`.
    pub fn adapter_for<'a>(&self, model: Option<&'a str>) -> Result<Option<&'a str>, Pass> {
        match model.filter(|name| !name.is_empty()) {
            None if self.default => Ok(None),
            Some(name) if self.served_names.iter().any(|served| served == name) => Ok(None),
            Some(name) if self.lora_adapters.iter().any(|adapter| adapter == name) => Ok(Some(name)),
            _ => Err(Pass::new(
                PassReason::UnknownModel,
                format!("model: no name that {} is served by", self.name),
            )),
        }
    }
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
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AssetRef {
    /// SHA-256 of the bytes, 64 hex digits: the last part of the asset's path.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
    /// XXH3-64 of the bytes: whether they came whole. Who serves the catalog serves the assets, so a filter gains nothing
    /// from the slower hash.
    #[serde(with = "hex_seed")]
    pub checksum: u64,
}

impl AssetRef {
    /// A reference to `bytes`, whose SHA-256 is `sha256`.
    pub fn new(sha256: String, bytes: &[u8]) -> Self {
        Self { sha256, bytes: bytes.len() as u64, checksum: xxh3_64(bytes) }
    }

    /// Path on the asset port.
    pub fn path(&self) -> String {
        format!("{ASSET_PATH_PREFIX}{}", self.sha256)
    }

    /// Whether these bytes, given in parts, are the asset's.
    pub fn is_made_of<E>(&self, parts: impl IntoIterator<Item = Result<Vec<u8>, E>>) -> Result<bool, E> {
        let mut hash = Xxh3Default::new();
        let mut bytes = 0;
        for part in parts {
            let part = part?;
            bytes += part.len() as u64;
            hash.update(&part);
        }
        Ok(bytes == self.bytes && hash.digest() == self.checksum)
    }
}

/// Seeds and checksums as hexadecimal strings: JSON numbers are doubles to many readers and lose the low bits of 64.
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
