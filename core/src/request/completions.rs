//! `/v1/completions`.

use serde_json::Value;

use super::fields::Fields;
use super::{
    Prompt, Request, cache_salt, invalid, refuse_forwarded_ids, refuse_uncached, token_ids, truncation,
};
use crate::pass::{Pass, PassReason};

/// Fields of vLLM's `CompletionRequest` that change the prompt and are not modelled.
const UNSUPPORTED: [&str; 2] = [
    // Embeddings instead of tokens.
    "prompt_embeds",
    // For models with a fill-in-the-middle rendering; an error for all others.
    "suffix",
];

/// `max_tokens` where the body has none, or null.
const OUTPUT_TOKENS_DEFAULT: u64 = 16;

pub(super) fn read(fields: &mut Fields) -> Result<Request, Pass> {
    fields.refuse(&UNSUPPORTED)?;
    refuse_forwarded_ids(fields)?;
    // An echoed prompt comes with the log probabilities that are asked for the output.
    let echo = fields.get("echo").is_some_and(|echo| *echo != Value::Bool(false));
    refuse_uncached(fields, echo && fields.get("logprobs").is_some())?;
    let add_special_tokens = fields.bool("add_special_tokens", true)?;
    let prompt = fields.take("prompt").ok_or_else(empty)?;
    Ok(Request {
        truncation: truncation(fields)?,
        prompt: read_prompt(prompt, add_special_tokens)?,
        model: fields.string("model")?,
        cache_salt: cache_salt(fields)?,
        output_tokens_max: Some(fields.count("max_tokens")?.unwrap_or(OUTPUT_TOKENS_DEFAULT)),
    })
}

/// The first prompt of `prompt`. Those after it are checked as well: if one of them is wrong, vLLM refuses all.
fn read_prompt(prompt: Value, add_special_tokens: bool) -> Result<Prompt, Pass> {
    match prompt {
        Value::String(text) if text.is_empty() => Err(empty()),
        Value::String(text) => Ok(Prompt::Text { text, add_special_tokens, beside_empty: false }),
        Value::Array(items) => match items.first() {
            None => Err(empty()),
            Some(Value::String(_)) => first_text(items, add_special_tokens),
            Some(Value::Array(_)) => first_ids(&items),
            Some(_) => token_ids(&items, "prompt").map(Prompt::Tokens),
        },
        _ => Err(invalid("prompt", "a string, a list of strings, token ids, or a list of lists of ids")),
    }
}

fn first_text(items: Vec<Value>, add_special_tokens: bool) -> Result<Prompt, Pass> {
    let (mut first, mut beside_empty) = (None, false);
    for item in items {
        let Value::String(text) = item else {
            return Err(invalid("prompt", "a list of strings only"));
        };
        beside_empty |= text.is_empty();
        first.get_or_insert(text);
    }
    first.map(|text| Prompt::Text { text, add_special_tokens, beside_empty }).ok_or_else(empty)
}

fn first_ids(items: &[Value]) -> Result<Prompt, Pass> {
    let mut first = None;
    for (at, item) in items.iter().enumerate() {
        let Value::Array(item) = item else {
            return Err(invalid("prompt", "a list of lists of ids only"));
        };
        let prompt = token_ids(item, &format!("prompt[{at}]"))?;
        first.get_or_insert(prompt);
    }
    first.map(Prompt::Tokens).ok_or_else(empty)
}

fn empty() -> Pass {
    Pass::new(PassReason::EmptyPrompt, "prompt: missing or empty")
}
