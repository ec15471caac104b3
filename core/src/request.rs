//! HTTP bodies of the model server's APIs, read into one prompt type.

use crate::pass::Pass;

/// An API whose prompts can be keyed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Api {
    /// `/v1/completions`
    Completions,
    /// `/v1/chat/completions`
    ChatCompletions,
}

impl Api {
    /// The API behind a request path (query string ignored); none for paths that are not an API's.
    pub fn from_path(path: &str) -> Option<Self> {
        match path.split('?').next()? {
            "/v1/completions" => Some(Self::Completions),
            "/v1/chat/completions" => Some(Self::ChatCompletions),
            _ => None,
        }
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
    /// `max_completion_tokens` or `max_tokens`.
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

/// A chat as its template gets it.
#[derive(Clone, PartialEq, Debug)]
pub struct Chat {
    /// The messages, as vLLM hands them to the template.
    pub messages: Vec<serde_json::Value>,
    /// The template's `add_generation_prompt`.
    pub add_generation_prompt: bool,
    /// Whether the tokenizer adds its special tokens to the rendered text (default: no, templates write them).
    pub add_special_tokens: bool,
}

/// Reads a body of `api`.
pub fn parse(api: Api, body: &[u8]) -> Result<Request, Pass> {
    let _ = (api, body);
    Err(Pass::new(crate::pass::PassReason::MalformedJson, "not written yet"))
}
