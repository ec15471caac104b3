//! Why a request goes on unsteered.

use std::fmt;

/// Every reason for which a prompt is not turned into keys. The filter adds reasons of its own (see its `outcome`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PassReason {
    /// The body is no JSON, or no JSON object.
    MalformedJson,
    /// A field has a type or value that vLLM would answer with an error.
    InvalidField,
    /// A field that changes the prompt and is not modelled.
    UnsupportedField,
    /// A message holds a content part other than text.
    UnsupportedContent,
    /// The engine does not read its prefix cache for such a request: no pod is better than another.
    CacheNotRead,
    /// There is no prompt, or it encodes to no tokens.
    EmptyPrompt,
    /// No definition serves the model that the request names.
    UnknownModel,
    /// A chat for a model without a chat template.
    NoTemplate,
    /// A chat for a model whose engine renders chats without a template.
    OwnRenderer,
    /// The chat template raised an error: vLLM will answer one.
    TemplateError,
    /// The chat template does something whose outcome in Python is not known here exactly.
    TemplateUnsupported,
    /// The chat template took too many steps or printed too much.
    TemplateLimit,
    /// The tokenizer could not encode the prompt.
    TokenizerError,
    /// The prompt is longer than the model takes: vLLM will answer an error.
    PromptTooLong,
}

impl PassReason {
    /// All reasons, for declaring one counter each.
    pub const ALL: [Self; 14] = [
        Self::MalformedJson,
        Self::InvalidField,
        Self::UnsupportedField,
        Self::UnsupportedContent,
        Self::CacheNotRead,
        Self::EmptyPrompt,
        Self::UnknownModel,
        Self::NoTemplate,
        Self::OwnRenderer,
        Self::TemplateError,
        Self::TemplateUnsupported,
        Self::TemplateLimit,
        Self::TokenizerError,
        Self::PromptTooLong,
    ];

    /// The reason as metrics and access logs spell it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::InvalidField => "invalid_field",
            Self::UnsupportedField => "unsupported_field",
            Self::UnsupportedContent => "unsupported_content",
            Self::CacheNotRead => "cache_not_read",
            Self::EmptyPrompt => "empty_prompt",
            Self::UnknownModel => "unknown_model",
            Self::NoTemplate => "no_template",
            Self::OwnRenderer => "own_renderer",
            Self::TemplateError => "template_error",
            Self::TemplateUnsupported => "template_unsupported",
            Self::TemplateLimit => "template_limit",
            Self::TokenizerError => "tokenizer_error",
            Self::PromptTooLong => "prompt_too_long",
        }
    }
}

/// A reason and where it was met. Never holds prompt text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pass {
    /// What to count.
    pub reason: PassReason,
    /// What was wrong and where, for a log line.
    pub detail: String,
}

impl Pass {
    /// A reason with its detail.
    pub fn new(reason: PassReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.label(), self.detail)
    }
}

impl std::error::Error for Pass {}
