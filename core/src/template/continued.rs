//! `continue_final_message`: the prompt ends where the last message's text does.

use super::Compiled;
use super::chat::Entry;
use super::fail::{Outcome, raise};
use super::python;
use super::value::{Dict, Text, Value};

/// Appended to the last message that is to be continued, to find where it ends (`render_jinja_template`).
const CONTINUE_TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Marks the end of the last message's text, and answers that text.
pub(super) fn mark<'a>(
    mut entries: Vec<Entry<'a>>,
    compiled: &Compiled,
) -> Outcome<(Vec<Entry<'a>>, Option<Text<'a>>)> {
    let Some(last) = entries.last_mut() else { return Ok((entries, None)) };
    if !compiled.mentions_content {
        return Err(raise(
            "continue_final_message is set to \"content\" but this is not an accepted field in the chat_template",
        ));
    }
    let tagged = |text: &Text<'_>| Value::text([text.as_str(), CONTINUE_TAG].concat());
    let found = match &last.content {
        Value::Unknown(_) => return Ok((entries, None)),
        Value::Str(text) => {
            let text = text.clone();
            last.content = tagged(&text);
            text
        }
        Value::List(parts) => {
            let mut parts = parts.to_vec();
            let text = parts.iter_mut().rev().find_map(|part| {
                let Value::Dict(dict) = part else { return None };
                let text = dict.get_str("text")?.clone();
                let entries = dict.entries().iter().map(|(key, value)| match (key.as_str(), value) {
                    (Some("text"), Value::Str(text)) => (key.clone(), tagged(text)),
                    _ => (key.clone(), value.clone()),
                });
                *part = Value::Dict(Dict::of(entries.collect()).into());
                Some(text)
            });
            let Some(Value::Str(text)) = text else {
                return Err(raise(
                    "continue_final_message is set but we could not find any text to continue in the final message!",
                ));
            };
            last.content = Value::list(parts);
            text
        }
        _ => {
            return Err(raise(
                "continue_final_message is set but the final message has no \"content\" to continue!",
            ));
        }
    };
    Ok((entries, Some(found)))
}

/// The text before the tag of the message that is continued.
pub(super) fn cut(mut text: String, last: &Text<'_>) -> Outcome<String> {
    let trimmed = CONTINUE_TAG.trim_end();
    let last = last.as_str().trim_matches(python::is_space);
    let Some(at) = text.rfind(trimmed).filter(|_| text.contains(last)) else {
        return Err(raise(format!(
            "continue_final_message is set but the final message does not appear in the chat after applying the chat \
             template! This can happen if the chat template deletes portions of the final message. Please verify the \
             chat template and final message in your chat to ensure they are compatible.Final message to continue: \
             {last}\nRendered chat:\n{text}"
        )));
    };
    let kept = text.get(at..).is_some_and(|tail| tail.starts_with(CONTINUE_TAG));
    text.truncate(at);
    if !kept {
        text.truncate(text.trim_end_matches(python::is_space).len());
    }
    Ok(text)
}
