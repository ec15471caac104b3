//! vLLM's token-in endpoint, `/inference/v1/generate`: what its `/render` endpoints answer, sent on.
//! (`vllm/entrypoints/scale_out/token_in_token_out/protocol.py`)

use serde_json::Value;

use super::fields::Fields;
use super::{Prompt, Request, cache_salt, invalid, refuse_uncached, token_ids};
use crate::pass::{Pass, PassReason};

pub(super) fn read(fields: &mut Fields) -> Result<Request, Pass> {
    // Media: placeholders in the ids stand for what is hashed otherwise, or are put in by the server.
    let media = |name: &&str| fields.get(name).is_some_and(|value| *value != Value::Array(vec![]));
    if let Some(name) = ["features", "content_parts"].into_iter().find(media) {
        return Err(Pass::new(PassReason::UnsupportedContent, format!("{name}: media")));
    }
    let Some(Value::Object(sampling)) = fields.take("sampling_params") else {
        return Err(invalid("sampling_params", "an object"));
    };
    let sampling = Fields::new(sampling);
    refuse_uncached(&sampling, false)?;
    match sampling.get("skip_reading_prefix_cache") {
        None | Some(Value::Bool(false)) => {}
        Some(_) => {
            let detail = "sampling_params.skip_reading_prefix_cache: the engine does not read its cache";
            return Err(Pass::new(PassReason::CacheNotRead, detail));
        }
    }
    let ids = match fields.take("token_ids") {
        Some(Value::Array(ids)) => token_ids(&ids, "token_ids")?,
        _ => return Err(invalid("token_ids", "a list of token ids")),
    };
    let output_tokens_max = sampling.count("max_tokens")?;
    if output_tokens_max == Some(0) {
        return Err(invalid("sampling_params.max_tokens", "at least 1"));
    }
    Ok(Request {
        prompt: Prompt::Tokens(ids),
        truncation: None,
        model: fields.string("model")?,
        cache_salt: cache_salt(fields)?,
        output_tokens_max,
    })
}
