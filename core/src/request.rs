//! HTTP bodies of the model server's APIs, read into one prompt type.
//!
//! The rule: a body gives a [`Request`] only if everything in it that changes the prompt's tokens is modelled here;
//! anything else is a [`Pass`] that names the field. Which fields those are was derived from vLLM 0.32's request
//! types (`vllm/entrypoints/openai/{completion,chat_completion,responses}/protocol.py`, `anthropic/protocol.py` and
//! `scale_out/token_in_token_out/protocol.py`); fields unknown to it are ignored, as it ignores them. A body that vLLM answers with an error may pass or not: it costs nothing to steer it.
//!
//! Corners of JSON, where readers differ:
//! * duplicate keys: the last value counts, at the place of the first, as in Python;
//! * `NaN`, `Infinity`, lone surrogates (`"\ud800"`), a byte order mark, UTF-16, and nesting deeper than 128: no JSON
//!   here ([`PassReason::MalformedJson`]), although Python reads them;
//! * a number or a string where a boolean belongs, and `1.0` where an integer does: [`PassReason::InvalidField`], although
//!   vLLM turns some of them into the right type. `true` among token ids is 1, as there.

mod chat;
mod completions;
mod fields;
mod generate;
mod messages;
mod responses;

use serde_json::{Map, Value};

use crate::pass::{Pass, PassReason};
use fields::Fields;

/// An API whose prompts can be keyed. A new one is a variant, its path, and a file that reads its bodies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Api {
    /// `/v1/completions`
    Completions,
    /// `/v1/chat/completions`
    ChatCompletions,
    /// Anthropic's `/v1/messages`
    Messages,
    /// `/v1/responses`
    Responses,
    /// vLLM's token-in endpoint, `/inference/v1/generate`
    Generate,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Completions, Self::ChatCompletions, Self::Messages, Self::Responses, Self::Generate];

    /// The path that it is served at.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Completions => "/v1/completions",
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Messages => "/v1/messages",
            Self::Responses => "/v1/responses",
            Self::Generate => "/inference/v1/generate",
        }
    }

    /// The API behind a request path (query string ignored); none for paths that are not an API's.
    pub fn from_path(path: &str) -> Option<Self> {
        let path = path.split('?').next()?;
        Self::ALL.into_iter().find(|api| api.path() == path)
    }
}

/// What a body says, as far as the prompt's keys and the pick are concerned.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// The `model` field.
    pub model: Option<String>,
    /// The prompt; the first one where the body holds several.
    pub prompt: Prompt,
    /// The `cache_salt` field.
    pub cache_salt: Option<String>,
    /// `max_completion_tokens` or `max_tokens`; for completions 16 where the body is silent, as in vLLM.
    pub output_tokens_max: Option<u64>,
}

/// A prompt before tokenization.
#[derive(Clone, PartialEq, Debug)]
pub enum Prompt {
    /// Text to tokenize.
    Text {
        /// The text.
        text: String,
        /// Whether the tokenizer adds its special tokens (BOS).
        add_special_tokens: bool,
    },
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
    /// Messages that the chat template renders.
    Chat(Chat),
}

/// A chat before its template renders it.
#[derive(Clone, PartialEq, Debug)]
pub struct Chat {
    /// Objects with `role`, `content`, then `tool_call_id` and `name` where given: in this order, and nothing else.
    /// `content` is a string, null, or a list of `{"type": "text", "text": string}` (perhaps with `cache_control`);
    /// [`crate::template`] gives it the form that its template expects.
    pub messages: Vec<Value>,
    /// The template's `add_generation_prompt`.
    pub add_generation_prompt: bool,
    /// Whether the tokenizer adds its special tokens to the rendered text (default: no, templates write them).
    pub add_special_tokens: bool,
}

/// Longest `cache_salt` that vLLM takes, in characters (`generate/base/protocol.py`).
const CACHE_SALT_CHARS_MAX: usize = 128;

/// Characters that vLLM refuses in a `cache_salt`.
const CACHE_SALT_FORBIDDEN: [char; 4] = ['@', '/', '\\', '\0'];

/// Start of an attribution line whose value changes with every request: vLLM removes it from system text
/// (`_strip_claude_code_billing_header` in `renderers/chat_utils.py`).
const BILLING_HEADER: &str = "x-anthropic-billing-header";

/// Reads a body of `api`.
pub fn parse(api: Api, body: &[u8]) -> Result<Request, Pass> {
    let body: Value = serde_json::from_slice(body).map_err(|error| {
        Pass::new(
            PassReason::MalformedJson,
            format!("the body is no JSON: line {}, column {}", error.line(), error.column()),
        )
    })?;
    let Value::Object(body) = body else {
        return Err(Pass::new(PassReason::MalformedJson, "the body is no JSON object"));
    };
    let mut fields = Fields::new(body);
    match api {
        Api::Completions => completions::read(&mut fields),
        Api::ChatCompletions => chat::read(&mut fields),
        Api::Messages => messages::read(&mut fields),
        Api::Responses => responses::read(&mut fields),
        Api::Generate => generate::read(&mut fields),
    }
}

/// `cache_salt`, with vLLM's own checks.
fn cache_salt(fields: &mut Fields) -> Result<Option<String>, Pass> {
    let salt = fields.string("cache_salt")?;
    if let Some(salt) = &salt {
        let too_long = salt.chars().count() > CACHE_SALT_CHARS_MAX;
        if salt.is_empty() || too_long || salt.contains(CACHE_SALT_FORBIDDEN) {
            return Err(Pass::new(
                PassReason::InvalidField,
                "cache_salt: not 1 to 128 characters without @, /, \\ and NUL",
            ));
        }
    }
    Ok(salt)
}

/// `kv_transfer_params` may carry the prompt's ids from a prefill stage; they replace what would be rendered.
fn refuse_forwarded_ids(fields: &Fields) -> Result<(), Pass> {
    let ids = fields.get("kv_transfer_params").and_then(|params| params.get("prompt_token_ids"));
    match ids {
        Some(ids) if !ids.is_null() => Err(unsupported("kv_transfer_params.prompt_token_ids")),
        _ => Ok(()),
    }
}

/// Log probabilities of the prompt's own tokens have to be computed: vLLM then reads no cached block
/// (`skip_reading_prefix_cache` in `sampling_params.py`). `implied`: another field asks for them.
fn refuse_uncached(fields: &Fields, implied: bool) -> Result<(), Pass> {
    if implied || fields.get("prompt_logprobs").is_some() {
        let detail = "prompt_logprobs: the engine does not read its cache for them";
        return Err(Pass::new(PassReason::CacheNotRead, detail));
    }
    Ok(())
}

/// Token ids; whether they are in the vocabulary is the model's to say.
fn token_ids(items: &[Value], path: &str) -> Result<Vec<u32>, Pass> {
    if items.is_empty() {
        return Err(Pass::new(PassReason::EmptyPrompt, format!("{path}: empty")));
    }
    let id = |(at, item): (usize, &Value)| {
        let id = match item {
            Value::Bool(value) => Some(u32::from(*value)),
            item => item.as_u64().and_then(|id| u32::try_from(id).ok()),
        };
        id.ok_or_else(|| invalid(&format!("{path}[{at}]"), "a token id"))
    };
    items.iter().enumerate().map(id).collect()
}

/// An object by value.
fn object(path: &str, value: Value) -> Result<Map<String, Value>, Pass> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(invalid(path, "an object")),
    }
}

/// A field that changes the prompt and is not modelled.
fn unsupported(field: &str) -> Pass {
    Pass::new(PassReason::UnsupportedField, format!("{field}: changes the prompt and is not modelled"))
}

/// A value that vLLM answers with an error, or that only its type coercion lets through.
fn invalid(field: &str, expected: &str) -> Pass {
    Pass::new(PassReason::InvalidField, format!("{field}: not {expected}"))
}
