//! The configuration file: YAML (JSON is YAML), parsed once into checked types.
//!
//! Unknown keys are rejected with their path. Every error names the file, the path in it, and what to do. Durations
//! and sizes carry units (`50ms`, `64MiB`). Relative paths are relative to the configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use warmpath_core::definition::{ChatRules, ContentFormat, InlineLimits, Mode, Overflow, SaltRule};
use warmpath_core::renderer::TokenizerMode;
use warmpath_core::tokenizer::check::SELF_CHECK_STRINGS;

use crate::events::CentralConfig;

mod check;
mod error;
mod index;
mod logs;
mod read;

pub use error::ConfigError;
pub use index::IndexConfig;
pub use logs::{Level, LogsConfig};
pub(crate) use read::{from_yaml, read_text};

/// The whole file, checked.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What filters shall do with requests. Applied while running.
    #[serde(default)]
    pub mode: Mode,
    /// Where picks are asked for.
    #[serde(default)]
    pub pick: PickConfig,
    /// Where filters fetch model definitions and their files.
    #[serde(default)]
    pub assets: AssetsConfig,
    /// Metrics, probes and the mode switch.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Bounds on what this sidecar tokenizes itself.
    #[serde(default)]
    pub prompts: PromptsConfig,
    /// Seed of the key space, 1 to 16 hex digits. Secret: without it keys say nothing about the text behind them.
    #[serde(default)]
    seed: Option<String>,
    /// A file that holds the seed, in place of `seed`.
    #[serde(default)]
    seed_file: Option<PathBuf>,
    /// The models that are served. Applied while running.
    pub models: Vec<ModelConfig>,
    /// Where the pods are.
    pub endpoints: EndpointsConfig,
    /// Bounds of the index.
    #[serde(default)]
    pub index: IndexConfig,
    /// What is logged.
    #[serde(default)]
    pub logs: LogsConfig,
    /// A socket that pods connect to, for engines whose publisher connects instead of binding.
    #[serde(default)]
    pub central: Option<CentralConfig>,
}

/// Sockets of the gRPC service. Either may be null, not both.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PickConfig {
    /// Path of the Unix socket.
    pub unix: Option<PathBuf>,
    /// TCP address; loopback unless there is a reason.
    pub tcp: Option<SocketAddr>,
    /// Keys of one pick that are matched; further ones are ignored and counted. 8 bytes of request each.
    pub keys_max: usize,
}

impl Default for PickConfig {
    fn default() -> Self {
        // 65,536 keys are a million tokens in blocks of 16: longer than any context served today.
        Self { unix: Some("/run/warmpath/pick.sock".into()), tcp: Some(loopback(9700)), keys_max: 65_536 }
    }
}

/// The asset port.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AssetsConfig {
    /// TCP address; loopback unless there is a reason: the catalog holds the seed.
    pub listen: SocketAddr,
    /// The largest tokenizer or template file that is read.
    pub file_bytes_max: ByteSize,
    /// Strings that a compiled tokenizer is compared on before it is served.
    pub self_check_strings: usize,
}

impl Default for AssetsConfig {
    fn default() -> Self {
        // The largest tokenizer.json in common use is 34 MB.
        Self {
            listen: loopback(9701),
            file_bytes_max: ByteSize::mib(64),
            // Every kind of string that tokenizers have been seen to differ in, some hundreds of times: a second or two.
            self_check_strings: SELF_CHECK_STRINGS,
        }
    }
}

/// The admin port.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// TCP address; loopback unless there is a reason: whoever reaches it can switch the mode.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: loopback(9702) }
    }
}

/// One model.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Name of the key space; endpoints refer to it.
    pub name: String,
    /// Names in a request's `model` field that mean this model; without this key, its name alone.
    #[serde(default)]
    pub served_names: Option<Vec<String>>,
    /// Also serves requests that name no model. At most one model may.
    #[serde(default)]
    pub default: bool,
    /// Names in a request's `model` field that mean this model with the LoRA adapter of that name.
    #[serde(default)]
    pub lora_adapters: Vec<String>,
    /// Tokens per key block; must equal the engine's block size.
    pub block_tokens: u32,
    /// What a request's `cache_salt` does.
    #[serde(default)]
    pub cache_salt: SaltRule,
    /// The longest prompt in tokens.
    #[serde(default)]
    pub max_model_len: Option<u32>,
    /// Path of Hugging Face's `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// Path of `tokenizer_config.json`: tokenizer class, special tokens, and the chat template when there is no file for
    /// it.
    #[serde(default)]
    pub tokenizer_config: Option<PathBuf>,
    /// Path of the model's `config.json`: its model type decides, with the tokenizer class, which tokenizer the engine runs.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// The engine's `--tokenizer-mode`.
    #[serde(default)]
    pub tokenizer_mode: TokenizerMode,
    /// Path of the Jinja chat template (`chat_template.jinja` of the model, or the engine's `--chat-template`).
    #[serde(default)]
    pub chat_template: Option<PathBuf>,
    /// The engine's `--default-chat-template-kwargs`.
    #[serde(default)]
    pub chat_template_kwargs: serde_json::Map<String, serde_json::Value>,
    /// The engine's `--chat-template-content-format`.
    #[serde(default)]
    pub chat_template_content_format: ContentFormat,
    /// The engine's `--exclude-tools-when-tool-choice-none`.
    #[serde(default)]
    pub exclude_tools_when_tool_choice_none: bool,
    /// Whether the engine parses tool calls (`--enable-auto-tool-choice` with `--tool-call-parser`). One that does not
    /// answers an error to requests with tools, which then pass unsteered.
    #[serde(default = "parses_tool_calls")]
    pub tool_calls: bool,
    /// The engine's `--trust-request-chat-template`.
    #[serde(default)]
    pub trust_request_chat_template: bool,
    /// Minutes that the engine's local time is ahead of UTC, for templates that print the time.
    #[serde(default)]
    pub utc_offset_minutes: i16,
    /// Who tokenizes: the filter, or this sidecar, to which the filter then sends request bodies.
    #[serde(default)]
    pub tokenize: TokenizeMode,
    /// What happens to prompts over the `inline_*` limits: their prefix is keyed, or this sidecar gets the request's body.
    #[serde(default)]
    pub overflow: Overflow,
    /// Bytes of prompt that a filter encodes, and bytes of body above which `overflow: sidecar` sends it at once.
    #[serde(default = "inline_bytes_max")]
    pub inline_bytes_max: ByteSize,
    /// Tokens of a prompt that a filter encodes.
    #[serde(default = "inline_tokens_max")]
    pub inline_tokens_max: u64,
    /// Look-ups of pairs of symbols for which a filter encodes one prompt: what hostile text costs.
    #[serde(default = "inline_merge_work_max")]
    pub inline_merge_work_max: u64,
}

/// Who tokenizes a model's prompts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizeMode {
    /// The filter; prompts never leave the gateway.
    #[default]
    Inline,
    /// The filter, through the crate `tokenizers`: for a filter that was built with the feature `hf-tokenizers`.
    InlineHf,
    /// This sidecar.
    Sidecar,
}

/// Most engines that get requests with tools parse their calls.
fn parses_tool_calls() -> bool {
    true
}

fn inline_bytes_max() -> ByteSize {
    ByteSize::b(InlineLimits::default().bytes_max)
}

fn inline_tokens_max() -> u64 {
    InlineLimits::default().tokens_max
}

fn inline_merge_work_max() -> u64 {
    InlineLimits::default().merge_work_max
}

/// Bounds on what this sidecar tokenizes itself.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PromptsConfig {
    /// Prompts that are tokenized at once; further ones wait.
    pub at_once: usize,
    /// How long a prompt waits and is worked on before its pick is answered with DEADLINE_EXCEEDED.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// The largest body that is taken.
    pub body_bytes_max: ByteSize,
}

impl Default for PromptsConfig {
    fn default() -> Self {
        Self {
            // One per core: tokenizing is nothing but work.
            at_once: std::thread::available_parallelism().map_or(1, usize::from),
            // Less than the filter's callout_timeout of 50 ms, so that the filter hears why.
            deadline: Duration::from_millis(45),
            // The filter's body_bytes_max is 1 MiB; twice that leaves room to raise it.
            body_bytes_max: ByteSize::mib(2),
        }
    }
}

impl ModelConfig {
    /// Names in a request's `model` field that mean this model without an adapter.
    pub fn served_names(&self) -> Vec<String> {
        self.served_names.clone().unwrap_or_else(|| vec![self.name.clone()])
    }

    /// How far a filter encodes a prompt.
    pub fn limits(&self) -> InlineLimits {
        InlineLimits {
            bytes_max: self.inline_bytes_max.as_u64(),
            tokens_max: self.inline_tokens_max,
            merge_work_max: self.inline_merge_work_max,
        }
    }

    /// How the engine renders chats.
    pub fn chat_rules(&self) -> ChatRules {
        ChatRules {
            template_kwargs: self.chat_template_kwargs.clone(),
            content_format: self.chat_template_content_format,
            exclude_tools_when_none: self.exclude_tools_when_tool_choice_none,
            refuses_tool_calls: !self.tool_calls,
            trust_request_chat_template: self.trust_request_chat_template,
            utc_offset_seconds: i32::from(self.utc_offset_minutes) * 60,
        }
    }

    /// Its files, as the configuration names them.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [
            Some(&self.tokenizer),
            self.tokenizer_config.as_ref(),
            self.config.as_ref(),
            self.chat_template.as_ref(),
        ]
        .into_iter()
        .flatten()
    }
}

/// Where the pods are.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointsConfig {
    /// Path of the endpoints file; it is watched.
    pub file: PathBuf,
    /// Time between two resolutions of the DNS names in it.
    #[serde(default = "default_resolve_every", with = "humantime_serde")]
    pub resolve_every: Duration,
}

fn default_resolve_every() -> Duration {
    Duration::from_secs(5)
}

/// Reads and checks the configuration file.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    parse(&read_text(file)?, file)
}

/// Checks the text of a configuration file; `file` names it in errors, and relative paths start at its directory.
pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    let mut config: Config = from_yaml(text, file)?;
    check::check(&config, file)?;
    config.resolve_paths(file.parent().unwrap_or(Path::new("")));
    Ok(config)
}

impl Config {
    /// The seed, from the configuration itself or from `seed_file`.
    pub fn seed(&self, file: &Path) -> Result<u64, ConfigError> {
        match (&self.seed, &self.seed_file) {
            (Some(text), _) => check::seed(text).map_err(|message| ConfigError::new(file, "seed", message)),
            (None, Some(seed_file)) => {
                let text = read_text(seed_file)?;
                check::seed(text.trim()).map_err(|message| ConfigError::new(seed_file, "", message))
            }
            (None, None) => Err(ConfigError::new(file, "seed", check::SEED_MISSING)),
        }
    }

    /// The file that holds the seed, if the configuration does not.
    pub fn seed_file(&self) -> Option<&Path> {
        self.seed_file.as_deref()
    }

    fn resolve_paths(&mut self, dir: &Path) {
        let models = self.models.iter_mut().flat_map(|model| {
            [
                Some(&mut model.tokenizer),
                model.tokenizer_config.as_mut(),
                model.config.as_mut(),
                model.chat_template.as_mut(),
            ]
        });
        let others = [Some(&mut self.endpoints.file), self.seed_file.as_mut(), self.pick.unix.as_mut()];
        for path in models.chain(others).flatten() {
            *path = dir.join(&*path);
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
