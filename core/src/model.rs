//! One model with its assets loaded: takes a request all the way to its keys.

use crate::block::BlockKey;
use crate::definition::ModelDefinition;
use crate::pass::{Pass, PassReason};
use crate::request::Request;

/// A model definition with its tokenizer and chat template, ready to key prompts.
pub struct Model {
    definition: ModelDefinition,
}

/// What the sidecar is asked about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PromptKeys {
    /// Keys of the matchable blocks, first block first; empty for a prompt of one block or less.
    pub keys: Vec<BlockKey>,
    /// Tokens in the prompt.
    pub token_count: usize,
}

/// Why a definition's assets could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `tokenizer.json` is not one that can be read.
    #[error("model {model}: tokenizer.json: {message}")]
    Tokenizer {
        /// Name of the model.
        model: String,
        /// What the tokenizer library said.
        message: String,
    },
    /// The chat template does not parse.
    #[error("model {model}: chat template: {message}")]
    Template {
        /// Name of the model.
        model: String,
        /// What the template engine said.
        message: String,
    },
}

impl Model {
    /// Loads a definition's assets: `tokenizer_json` and, where the definition has one, the chat template's text.
    pub fn load(
        definition: ModelDefinition,
        tokenizer_json: &[u8],
        chat_template: Option<&str>,
    ) -> Result<Self, LoadError> {
        let _ = (tokenizer_json, chat_template);
        Ok(Self { definition })
    }

    /// The definition it was loaded from.
    pub fn definition(&self) -> &ModelDefinition {
        &self.definition
    }

    /// The LoRA adapter that `model` (the request's field) means; `Err` if this definition does not serve that name.
    pub fn adapter_for<'a>(&self, model: Option<&'a str>) -> Result<Option<&'a str>, Pass> {
        let _ = model;
        Err(Pass::new(PassReason::UnknownModel, "not written yet"))
    }

    /// Token ids of the request's prompt.
    pub fn tokens(&self, request: &Request) -> Result<Vec<u32>, Pass> {
        let _ = request;
        Err(Pass::new(PassReason::TokenizerError, "not written yet"))
    }

    /// Keys of the request's prompt.
    pub fn keys(&self, request: &Request) -> Result<PromptKeys, Pass> {
        let _ = request;
        Err(Pass::new(PassReason::TokenizerError, "not written yet"))
    }
}
