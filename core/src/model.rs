//! One model with its assets loaded: takes a request all the way to its keys.

mod recent;
mod spelled;
mod truncation;

use crate::block::{self, BlockKey, KeySpace};
use crate::definition::{ModelDefinition, SaltRule};
use crate::pass::{Pass, PassReason};
use crate::request::{Chat, Prompt, Request};
use crate::template::{LocalTime, Rendered, Templates};
use crate::tokenizer::{Encoded, Limits, Stats, Tokenizer};
use recent::Recent;
use spelled::Spelled;

/// A model definition with its tokenizer and chat template, ready to key prompts.
pub struct Model {
    definition: ModelDefinition,
    tokenizer: Box<dyn Tokenizer>,
    templates: Option<Templates>,
    limits: Limits,
    recent: Recent,
}

/// What the sidecar is asked about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PromptKeys {
    /// Keys of the matchable blocks, first block first; empty for a prompt of one block or less.
    pub keys: Vec<BlockKey>,
    /// Tokens in the prompt, or in the prefix of it that was encoded.
    pub token_count: usize,
    /// Whether the keys are those of the whole prompt. `false`: a limit was met, and they are those of a prefix of it,
    /// every full block of which can match.
    pub complete: bool,
}

/// Why a definition's assets could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
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
    /// Takes a definition's tokenizer and, where the definition has one, the text of the chat template or of a list of
    /// named ones ([`Templates::read`]). Prompts are encoded
    /// within the definition's limits.
    ///
    /// # Errors
    /// When the chat template does not parse.
    pub fn load(
        definition: ModelDefinition,
        tokenizer: Box<dyn Tokenizer>,
        chat_template: Option<&str>,
    ) -> Result<Self, LoadError> {
        let templates = chat_template
            .map(|source| Templates::read(source, &definition.special_tokens, &definition.chat))
            .transpose()
            .map_err(|message| LoadError::Template { model: definition.name.clone(), message })?;
        let limits = definition.limits.into();
        Ok(Self { definition, tokenizer, templates, limits, recent: Recent::default() })
    }

    /// The same model with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, recent: Recent::default(), ..self }
    }

    /// What the caches have done so far: the tokenizer's, and that of prompts, whose hits count as bytes of segments.
    pub fn stats(&self) -> Stats {
        let stats = self.tokenizer.stats();
        let [hit_bytes, bytes] = self.recent.stats();
        Stats {
            segment_hit_bytes: stats.segment_hit_bytes + hit_bytes,
            cache_bytes: stats.cache_bytes + bytes,
            ..stats
        }
    }

    /// The definition it was loaded from.
    pub fn definition(&self) -> &ModelDefinition {
        &self.definition
    }

    /// Token ids of the request's prompt, or of a prefix of it when a limit was met or media come after it. The
    /// request's `model` is not looked at. `now`: seconds since 1970 in UTC, for templates that print the time.
    pub fn tokens(&self, request: &Request, now: Option<i64>) -> Result<Encoded, Pass> {
        let length_max = self.definition.max_model_len;
        self.check_output(request)?;
        if let Prompt::Text { add_special_tokens, beside_empty: true, .. } = request.prompt
            && self.encode("", add_special_tokens)?.ids.is_empty()
        {
            return Err(Pass::new(PassReason::EmptyPrompt, "prompt: one of the texts encodes to no tokens"));
        }
        let tokens = match &request.truncation {
            Some(truncation) => self.truncated(request, truncation, now)?,
            None => match &request.prompt {
                Prompt::Text { text, add_special_tokens, .. } => self.encode(text, *add_special_tokens)?,
                Prompt::Tokens(ids) => Encoded { ids: self.known(ids)?, complete: true },
                Prompt::Chat(chat) => self.chat_tokens(chat, now)?,
            },
        };
        if tokens.ids.is_empty() && tokens.complete {
            return Err(Pass::new(PassReason::EmptyPrompt, "the prompt encodes to no tokens"));
        }
        match length_max {
            Some(max) if tokens.ids.len() > max as usize => Err(Pass::new(
                PassReason::PromptTooLong,
                format!("{} tokens, the model takes {max}", tokens.ids.len()),
            )),
            _ => Ok(tokens),
        }
    }

    fn check_output(&self, request: &Request) -> Result<(), Pass> {
        match (request.output_tokens_max, self.definition.max_model_len) {
            (Some(wanted), Some(max)) if wanted > u64::from(max) => Err(Pass::new(
                PassReason::InvalidField,
                format!("max_tokens: {wanted} is more than the model's length of {max} tokens"),
            )),
            _ => Ok(()),
        }
    }

    fn render(&self, chat: &Chat, now: Option<i64>) -> Result<Rendered, Pass> {
        let templates = self.templates.as_ref().ok_or_else(|| self.no_template())?;
        let offset = i64::from(self.definition.chat.utc_offset_seconds);
        let now = now.map(|seconds| LocalTime::at(seconds, offset));
        templates.render(chat, now).map_err(|fail| fail.pass())
    }

    fn chat_tokens(&self, chat: &Chat, now: Option<i64>) -> Result<Encoded, Pass> {
        let Rendered { text, certain } = self.render(chat, now)?;
        if certain == text.len() {
            return self.encode(&text, chat.add_special_tokens);
        }
        if certain == 0 {
            let detail = "messages: the first medium comes before any text that is sure";
            return Err(Pass::new(PassReason::UnsupportedContent, detail));
        }
        let limits = Limits { bytes_max: self.limits.bytes_max.min(certain), ..self.limits };
        let encoded = self.encode_within(&text, chat.add_special_tokens, &limits)?;
        Ok(Encoded { complete: false, ..encoded })
    }

    /// Keys of the request's prompt. `now`: as for [`Self::tokens`].
    pub fn keys(&self, request: &Request, now: Option<i64>) -> Result<PromptKeys, Pass> {
        let definition = &self.definition;
        let lora = definition.adapter_for(request.model.as_deref())?;
        let salt = match definition.cache_salt {
            SaltRule::Keyed => request.cache_salt.as_deref(),
            SaltRule::Ignored => None,
        };
        self.check_output(request)?;
        let spelled = self.spelled(request, [lora, salt], now);
        if let Some(keys) = spelled.as_ref().and_then(|spelled| self.recent.find(spelled)) {
            return Ok(keys);
        }
        let Encoded { ids, complete } = self.tokens(request, now)?;
        let root = KeySpace { seed: definition.seed, model: &definition.name, lora, salt }.root();
        let block_tokens = definition.block_tokens as usize;
        let mut keys = block::chain(root, &ids, block_tokens);
        if complete {
            keys.truncate(block::matchable_blocks(ids.len(), block_tokens));
        }
        let keys = PromptKeys { keys, token_count: ids.len(), complete };
        // What met a limit may come further the next time, when caches are warm.
        if let Some(spelled) = spelled.filter(|_| complete) {
            self.recent.keep(spelled, &keys);
        }
        Ok(keys)
    }

    /// All that the keys are made of, the definition apart; none for prompts that are ids.
    fn spelled(&self, request: &Request, names: [Option<&str>; 2], now: Option<i64>) -> Option<Spelled> {
        let mut spelled = Spelled::default();
        names.into_iter().for_each(|name| spelled.maybe_text(name));
        spelled.maybe(request.truncation, Spelled::truncation);
        let tells_time = match &request.prompt {
            Prompt::Chat(chat) => {
                chat.template.is_some() || self.templates.as_ref().is_some_and(Templates::tells_time)
            }
            _ => false,
        };
        spelled.maybe(now.filter(|_| tells_time), |spelled, now| spelled.number(now.cast_unsigned()));
        spelled.prompt(&request.prompt).then_some(spelled)
    }

    fn no_template(&self) -> Pass {
        match &self.definition.chat_refused {
            Some(why) => Pass::new(PassReason::OwnRenderer, why.clone()),
            None => Pass::new(PassReason::NoTemplate, "a chat, and the model has no chat template"),
        }
    }

    fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Encoded, Pass> {
        self.encode_within(text, add_special_tokens, &self.limits)
    }

    fn encode_within(&self, text: &str, add_special_tokens: bool, limits: &Limits) -> Result<Encoded, Pass> {
        // The library's message may quote the text.
        self.tokenizer
            .encode(text, add_special_tokens, limits)
            .map_err(|_| Pass::new(PassReason::TokenizerError, "the tokenizer could not encode the prompt"))
    }

    /// Token ids of the request itself, which may be beyond the tokenizer's where the model's own vocabulary is padded.
    fn known(&self, ids: &[u32]) -> Result<Vec<u32>, Pass> {
        let padded = self.definition.vocab_size.map_or(0, |size| size as usize);
        let size = self.tokenizer.vocab_size().max(padded);
        match ids.iter().position(|id| *id as usize >= size) {
            Some(at) => Err(Pass::new(
                PassReason::InvalidField,
                format!("prompt: token id at {at} is not in the vocabulary of {size}"),
            )),
            None => Ok(ids.to_vec()),
        }
    }
}
