//! `/v1/chat/completions`.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{
    BILLING_HEADER, Chat, Prompt, Request, cache_salt, invalid, refuse_forwarded_ids, refuse_uncached,
    unsupported,
};
use crate::pass::{Pass, PassReason};

/// Fields of vLLM's `ChatCompletionRequest` that change the prompt and are not modelled.
const UNSUPPORTED: [&str; 9] = [
    // Written into the prompt by the template.
    "tools",
    "documents",
    // A template variable, and sets another one (`enable_thinking`).
    "reasoning_effort",
    // A template of the request's own; an error unless the server trusts requests.
    "chat_template",
    // Cuts the prompt; on which side depends on `truncation_side` and the tokenizer. That field alone does nothing.
    "truncate_prompt_tokens",
    // Decide how many tokens a picture or a film becomes.
    "mm_processor_kwargs",
    "media_io_kwargs",
    // Not in vLLM's type today; embeddings instead of tokens wherever it is known.
    "prompt_embeds",
    // Written into the prompt by the tool templates of older servers.
    "functions",
];

/// Keys of a message that reach the prompt and are not modelled.
const UNSUPPORTED_IN_MESSAGE: [&str; 4] = [
    // Both are the template's `reasoning` and `reasoning_content`.
    "reasoning",
    "reasoning_content",
    // Goes to the template as it is.
    "task",
    // Tools of a developer message.
    "tools",
];

/// Keys that a text part may have. `cache_control` says nothing about the prompt, but a template could print it.
const PART_KEYS: [&str; 3] = ["type", "text", "cache_control"];

pub(super) fn read(fields: &mut Fields) -> Result<Request, Pass> {
    fields.refuse(&UNSUPPORTED)?;
    refuse_forwarded_ids(fields)?;
    refuse_uncached(fields, false)?;
    refuse_settings(fields)?;
    let add_generation_prompt = fields.bool("add_generation_prompt", true)?;
    let add_special_tokens = fields.bool("add_special_tokens", false)?;
    let messages = match fields.take("messages") {
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err(invalid("messages", "a list")),
        None => return Err(Pass::new(PassReason::EmptyPrompt, "messages: missing")),
    };
    if messages.is_empty() {
        return Err(Pass::new(PassReason::EmptyPrompt, "messages: empty"));
    }
    let messages = messages
        .into_iter()
        .enumerate()
        .map(|(at, message)| read_message(&format!("messages[{at}]"), message))
        .collect::<Result<_, _>>()?;
    let limit = fields.count("max_completion_tokens")?;
    Ok(Request {
        prompt: Prompt::Chat(Chat { messages, add_generation_prompt, add_special_tokens }),
        model: fields.string("model")?,
        cache_salt: cache_salt(fields)?,
        output_tokens_max: limit.or(fields.count("max_tokens")?),
    })
}

/// Fields that change the prompt only with some of their values.
fn refuse_settings(fields: &Fields) -> Result<(), Pass> {
    match fields.get("chat_template_kwargs") {
        None => {}
        Some(Value::Object(kwargs)) if kwargs.is_empty() => {}
        Some(_) => return Err(unsupported("chat_template_kwargs")),
    }
    // Cuts the end of the last message off the rendered text.
    if fields.bool("continue_final_message", false)? {
        return Err(unsupported("continue_final_message"));
    }
    // Without tools only "none" is allowed.
    match fields.get("tool_choice") {
        None => Ok(()),
        Some(Value::String(choice)) if choice == "none" => Ok(()),
        Some(_) => Err(invalid("tool_choice", "\"none\", although there are no tools")),
    }
}

/// One message as [`Chat::messages`] holds it. Keys unknown to vLLM are dropped, as it does.
fn read_message(path: &str, message: Value) -> Result<Value, Pass> {
    let Value::Object(mut message) = message else {
        return Err(invalid(path, "an object"));
    };
    let role = match message.get("role") {
        Some(Value::String(role)) => role.clone(),
        _ => return Err(invalid(&format!("{path}.role"), "a string")),
    };
    // `developer` becomes `system`, and then all system messages are merged, unless the template knows it; other
    // roles are the template's to judge, and what vLLM does to them is not modelled.
    if !matches!(role.as_str(), "system" | "user" | "assistant" | "tool") {
        return Err(Pass::new(
            PassReason::UnsupportedField,
            format!("{path}.role: none of system, user, assistant and tool"),
        ));
    }
    let set = |key: &str| message.get(key).is_some_and(|value| !value.is_null());
    if let Some(key) = UNSUPPORTED_IN_MESSAGE.into_iter().find(|key| set(key)) {
        return Err(unsupported(&format!("{path}.{key}")));
    }
    // An empty list is removed before the template sees it, and so is null.
    if set("tool_calls") && message.get("tool_calls") != Some(&json!([])) {
        return Err(unsupported(&format!("{path}.tool_calls")));
    }

    let content = message.get_mut("content").map(Value::take).unwrap_or_default();
    let content = read_content(&format!("{path}.content"), &role, content)?;
    let mut read = Map::new();
    read.insert("role".to_owned(), Value::String(role.clone()));
    read.insert("content".to_owned(), content);
    let rest: &[&str] = if role == "tool" { &["tool_call_id", "name"] } else { &["name"] };
    for key in rest {
        match message.get_mut(*key).map(Value::take) {
            None => {}
            // vLLM hands a null id on to the template, but no null name.
            Some(Value::Null) if *key == "name" => {}
            Some(Value::Null) => {
                read.insert((*key).to_owned(), Value::Null);
            }
            Some(Value::String(text)) => {
                read.insert((*key).to_owned(), Value::String(text));
            }
            Some(_) => return Err(invalid(&format!("{path}.{key}"), "a string")),
        }
    }
    Ok(Value::Object(read))
}

fn read_content(path: &str, role: &str, content: Value) -> Result<Value, Pass> {
    match content {
        Value::String(text) if role == "system" => {
            Ok(without_billing_header(text).map_or(Value::Null, Value::String))
        }
        Value::String(text) => Ok(Value::String(text)),
        Value::Array(parts) => {
            let mut texts = Vec::with_capacity(parts.len());
            for (at, part) in parts.into_iter().enumerate() {
                texts.extend(read_part(&format!("{path}[{at}]"), role, part)?);
            }
            Ok(Value::Array(texts))
        }
        Value::Null if role == "assistant" => Ok(Value::Null),
        _ => Err(invalid(path, "a string or a list of parts")),
    }
}

/// A text part; none where it held nothing but the billing header.
fn read_part(path: &str, role: &str, part: Value) -> Result<Option<Value>, Pass> {
    let refuse = || Pass::new(PassReason::UnsupportedContent, format!("{path}: not a plain text part"));
    let Value::Object(mut part) = part else {
        return Err(refuse());
    };
    if part.get("type") != Some(&json!("text")) || part.keys().any(|key| !PART_KEYS.contains(&key.as_str())) {
        return Err(refuse());
    }
    let Some(Value::String(text)) = part.get_mut("text").map(Value::take) else {
        return Err(refuse());
    };
    let text = if role == "system" { without_billing_header(text) } else { Some(text) };
    Ok(text.map(|text| {
        let mut read = Map::new();
        read.insert("type".to_owned(), json!("text"));
        read.insert("text".to_owned(), Value::String(text));
        if let Some(control) = part.get_mut("cache_control") {
            read.insert("cache_control".to_owned(), control.take());
        }
        Value::Object(read)
    }))
}

/// System text without its billing header line; none where nothing is left.
fn without_billing_header(text: String) -> Option<String> {
    if !text.starts_with(BILLING_HEADER) {
        return Some(text);
    }
    match text.split_once('\n') {
        Some((_, rest)) if !rest.is_empty() => Some(rest.to_owned()),
        _ => None,
    }
}
