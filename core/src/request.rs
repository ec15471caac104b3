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
mod message;
mod messages;
pub(crate) mod numbers;
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
    /// `truncate_prompt_tokens` and `truncation_side`.
    pub truncation: Option<Truncation>,
    /// The `cache_salt` field.
    pub cache_salt: Option<String>,
    /// `max_completion_tokens` or `max_tokens`; for completions 16 where the body is silent, as in vLLM.
    pub output_tokens_max: Option<u64>,
}

/// How much of a prompt is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Truncation {
    /// Tokens to keep; none: as many as the model takes (`-1`).
    pub tokens: Option<u64>,
    /// The side that is cut off, where the request names it: the final ids are cut there. Else the tokenizer cuts at the
    /// start and keeps its special tokens.
    pub side: Option<Side>,
}

/// An end of a prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The start.
    Left,
    /// The end.
    Right,
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
        /// The body has an empty text as well, which only a tokenizer that adds tokens makes a prompt of.
        beside_empty: bool,
    },
    /// Token ids, taken as they are.
    Tokens(Vec<u32>),
    /// Messages that the chat template renders.
    Chat(Box<Chat>),
}

/// A chat before its template renders it.
#[derive(Clone, PartialEq, Debug)]
pub struct Chat {
    /// The messages, at least one.
    pub messages: Vec<Message>,
    /// A list of `{"type", "function": {"name", "description", "parameters", ..}}`, as vLLM writes tools again.
    pub tools: Option<Value>,
    /// What is said of tools' use.
    pub tool_choice: ToolChoice,
    /// A list of objects of strings.
    pub documents: Option<Value>,
    /// `chat_template_kwargs`, with `reasoning_effort` and what it sets.
    pub variables: Map<String, Value>,
    /// A chat template of the request's own.
    pub template: Option<String>,
    /// The template's `add_generation_prompt`.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends within the last message.
    pub continue_final_message: bool,
    /// Whether the tokenizer adds its special tokens to the rendered text (default: no, templates write them).
    pub add_special_tokens: bool,
    /// What of it the template decides.
    pub probes: Probes,
}

/// What vLLM asks of a model's template about a chat of `/v1/messages`, by rendering small chats with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Probes {
    /// There are system messages (of text only) that go to the start if the template wants them there.
    pub system_anywhere: bool,
    /// Thinking is disabled, by the `reasoning_effort` with which the template thinks least.
    pub thinking_disabled: bool,
}

/// What a request says of the use of its tools, as far as the prompt is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToolChoice {
    /// `null`.
    Unset,
    /// `"none"`, or nothing without tools: a server may leave the tools out.
    None,
    /// Anything else: needs a server that parses tool calls.
    Parsed,
}

/// One message of a chat.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// Any role.
    pub role: String,
    /// What it says.
    pub content: Content,
    /// The tool calls that an assistant made.
    pub tool_calls: Vec<ToolCall>,
    /// `reasoning`, or `reasoning_content`.
    pub reasoning: Option<Value>,
    /// The call that a tool answers: a string, or null.
    pub tool_call_id: Option<Value>,
    /// The speaker's name.
    pub name: Option<String>,
    /// A mark that some models know.
    pub task: Option<String>,
    /// The tools of a developer message.
    pub tools: Option<Value>,
}

/// What a message says.
#[derive(Clone, PartialEq, Debug)]
pub enum Content {
    /// One text.
    Text(String),
    /// Parts, perhaps none.
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Clone, PartialEq, Debug)]
pub enum Part {
    /// Text of any kind.
    Text {
        /// The text; none where a part that must have one has not.
        text: Option<String>,
        /// Keys that vLLM does not know, in the order of the request.
        extra: Map<String, Value>,
    },
    /// The name of a tool.
    ToolReference(Option<String>),
    /// A picture, a sound or a film.
    Media {
        /// `image`, `audio` or `video`.
        modality: &'static str,
        /// Keys that vLLM does not know, in the order of the request.
        extra: Map<String, Value>,
    },
}

/// A tool call of an assistant.
#[derive(Clone, PartialEq, Debug)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// Its arguments, as JSON.
    pub arguments: String,
    /// Whether the template gets the name before the arguments, as where the server itself wrote the call.
    pub name_first: bool,
    /// Further keys of `function`.
    pub function_extra: Map<String, Value>,
    /// Further keys of the call.
    pub extra: Map<String, Value>,
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
    let mut value = read_json(body)?;
    if numbers::any_marked(&value) {
        return Err(Pass::new(PassReason::UnsupportedField, "a string that starts with U+10FFFE"));
    }
    let printed = !matches!(api, Api::Completions | Api::Generate);
    if printed && numbers::any_rounded(&value) {
        let marked = numbers::mark(body).ok_or_else(|| {
            Pass::new(PassReason::UnsupportedField, "a number beyond 64 bits that cannot be kept")
        })?;
        value = read_json(marked.as_bytes())?;
    }
    let Value::Object(body) = value else {
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

fn read_json(body: &[u8]) -> Result<Value, Pass> {
    serde_json::from_slice(body).map_err(|error| {
        Pass::new(
            PassReason::MalformedJson,
            format!("the body is no JSON: line {}, column {}", error.line(), error.column()),
        )
    })
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

/// `truncate_prompt_tokens` with `truncation_side`, which alone does nothing.
fn truncation(fields: &mut Fields) -> Result<Option<Truncation>, Pass> {
    let side = match fields.string("truncation_side")?.as_deref() {
        None => None,
        Some("left") => Some(Side::Left),
        Some("right") => Some(Side::Right),
        Some(_) => return Err(invalid("truncation_side", "left or right")),
    };
    let tokens = match fields.get("truncate_prompt_tokens") {
        None => return Ok(None),
        Some(value) if value.as_i64() == Some(-1) => None,
        Some(_) => fields.count("truncate_prompt_tokens")?,
    };
    Ok(Some(Truncation { tokens, side }))
}

/// A field that changes the prompt and is not modelled.
fn unsupported(field: &str) -> Pass {
    Pass::new(PassReason::UnsupportedField, format!("{field}: changes the prompt and is not modelled"))
}

/// A value that vLLM answers with an error, or that only its type coercion lets through.
fn invalid(field: &str, expected: &str) -> Pass {
    Pass::new(PassReason::InvalidField, format!("{field}: not {expected}"))
}
