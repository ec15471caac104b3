//! The files that older models have beside `tokenizer_config.json`: `special_tokens_map.json` and `added_tokens.json`.
//! They count only where that one has no `added_tokens_decoder` (`_from_pretrained` in `tokenization_utils_base.py`).

use serde_json::{Map, Value, json};

use super::added::NAMES;
use super::{Object, PipelineError};

pub(super) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
pub(super) const ADDED_TOKENS: &str = "added_tokens.json";

/// Writes into the settings what the older files say.
pub(super) fn merge(
    settings: &mut Object,
    tokenizer: &Object,
    special_tokens_map: Option<Object>,
    added_tokens: Option<Object>,
) -> Result<(), PipelineError> {
    if settings.contains_key("added_tokens_decoder") {
        return Ok(());
    }
    for (key, value) in special_tokens_map.into_iter().flatten() {
        match (key.as_str(), value) {
            ("extra_special_tokens", Value::Array(tokens)) => extend(settings, tokens),
            ("additional_special_tokens", Value::Array(tokens)) => {
                if tokens.iter().any(|token| !token.is_string()) {
                    let message = "has tokens that are no strings: give the model's own file";
                    return Err(PipelineError::new(SPECIAL_TOKENS_MAP, key, message));
                }
                // The older name counts where the newer one is not there at all.
                let older = settings.get(&key).is_some_and(|tokens| !tokens.is_null());
                if !older && !settings.contains_key("extra_special_tokens") {
                    settings.insert(key, Value::Array(tokens));
                }
            }
            (_, Value::Object(mut token)) if key != "extra_special_tokens" => {
                token.insert("__type".to_owned(), "AddedToken".into());
                token.insert("special".to_owned(), true.into());
                settings.insert(key, Value::Object(token));
            }
            (_, value) => drop(settings.insert(key, value)),
        }
    }
    match added_tokens {
        Some(added) if !added.is_empty() => decoder(settings, tokenizer, added),
        _ => Ok(()),
    }
}

fn extend(settings: &mut Object, tokens: Vec<Value>) {
    let known = settings.remove("extra_special_tokens").filter(|known| !known.is_null());
    let known = known.or_else(|| settings.remove("additional_special_tokens"));
    let mut all = known.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
    for token in tokens {
        if !all.contains(&token) {
            all.push(token);
        }
    }
    settings.insert("extra_special_tokens".to_owned(), Value::Array(all));
}

/// `added_tokens_decoder` as it follows from `added_tokens.json` and, where both have an id, from `tokenizer.json`.
fn decoder(settings: &mut Object, tokenizer: &Object, added: Object) -> Result<(), PipelineError> {
    let text = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned);
    let mut special: Vec<String> =
        NAMES.iter().filter_map(|name| settings.get(*name)).filter_map(text).collect();
    let extra = settings.get("extra_special_tokens").and_then(Value::as_array);
    special.extend(extra.into_iter().flatten().filter_map(text));
    let mut tokens = Map::new();
    for (content, id) in added {
        let Some(id) = id.as_u64() else {
            let message = "is not a map from added tokens to their ids: give the model's own file";
            return Err(PipelineError::new(ADDED_TOKENS, content, message));
        };
        let special = special.contains(&content);
        tokens
            .insert(id.to_string(), json!({"content": content, "special": special, "normalized": !special}));
    }
    for token in tokenizer.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
        if let Some(id) = token.get("id").and_then(Value::as_u64) {
            tokens.insert(id.to_string(), token.clone());
        }
    }
    settings.insert("added_tokens_decoder".to_owned(), Value::Object(tokens));
    Ok(())
}
