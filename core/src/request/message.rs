//! One message of a chat, as vLLM's types take it (`renderers/chat_utils.py` and the OpenAI client's own).
//!
//! Those types are unions that pydantic decides by what fits best: a list of content parts is read by the role's own type,
//! which knows few kinds of parts, unless some part is one that only the general type knows more of.

use serde_json::{Map, Value};

use super::chat::Origin;
use super::{BILLING_HEADER, Content, Message, Part, ToolCall, invalid, unsupported};
use crate::pass::Pass;

/// Keys of parts that vLLM knows; others go on to templates that take parts.
const PART_KEYS: [&str; 18] = [
    "audio_embeds",
    "audio_url",
    "closed",
    "data",
    "file",
    "image_embeds",
    "image_pil",
    "image_url",
    "input_audio",
    "name",
    "prompt_cache_breakpoint",
    "refusal",
    "text",
    "thinking",
    "type",
    "uuid",
    "video_embeds",
    "video_url",
];

/// Kinds of media by the type of their part, which is the key of their data as well, and what templates call them.
const MEDIA: [(&str, &str); 8] = [
    ("image_url", "image"),
    ("input_image", "image"),
    ("image_embeds", "image"),
    ("audio_url", "audio"),
    ("input_audio", "audio"),
    ("audio_embeds", "audio"),
    ("video_url", "video"),
    ("video_embeds", "video"),
];

/// Reads a message. Keys unknown to vLLM are dropped, as it does.
pub(super) fn read_message(path: &str, message: Value, origin: Origin) -> Result<Message, Pass> {
    let Value::Object(mut message) = message else {
        return Err(invalid(path, "an object"));
    };
    let Some(Value::String(role)) = message.get_mut("role").map(Value::take) else {
        return Err(invalid(&format!("{path}.role"), "a string"));
    };
    // A null `reasoning` does not hide the older name.
    let older = message.remove("reasoning_content").filter(|value| !value.is_null());
    let reasoning = message.remove("reasoning").filter(|value| !value.is_null()).or(older);
    let tool_calls = read_tool_calls(
        &format!("{path}.tool_calls"),
        message.get_mut("tool_calls").map(Value::take),
        origin,
    )?;
    let tool_call_id = message.remove("tool_call_id");
    if tool_call_id.as_ref().is_some_and(|id| !id.is_string() && !id.is_null()) {
        return Err(invalid(&format!("{path}.tool_call_id"), "a string"));
    }
    let own_type = match role.as_str() {
        _ if origin == Origin::Server => false,
        "user" | "system" | "developer" => true,
        "assistant" => reasoning.is_none(),
        "tool" => tool_call_id.as_ref().is_some_and(Value::is_string),
        _ => false,
    };
    let content = read_content(&format!("{path}.content"), &role, own_type, message.remove("content"))?;
    let name = match message.remove("name") {
        None => None,
        Some(Value::String(name)) => Some(name),
        // As the type of a role that has no such field has it.
        Some(Value::Null) if role == "tool" => None,
        Some(_) => return Err(invalid(&format!("{path}.name"), "a string")),
    };
    let task = match message.remove("task") {
        Some(Value::String(task)) => Some(task),
        _ => None,
    };
    let tools = message.remove("tools");
    if tools.as_ref().is_some_and(|tools| !tools.is_array() && !tools.is_null()) {
        return Err(unsupported(&format!("{path}.tools")));
    }
    Ok(Message { role, content, tool_calls, reasoning, tool_call_id, name, task, tools })
}

fn read_tool_calls(path: &str, calls: Option<Value>, origin: Origin) -> Result<Vec<ToolCall>, Pass> {
    let calls = match calls {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(calls)) => calls,
        Some(_) => return Err(invalid(path, "a list")),
    };
    let read = |(at, call)| {
        let wrong = |what: &str| invalid(&format!("{path}[{at}]{what}"), "as the API has it");
        let Value::Object(mut call) = call else { return Err(wrong("")) };
        let Some(Value::String(id)) = call.shift_remove("id") else { return Err(wrong(".id")) };
        if call.shift_remove("type") != Some(Value::String("function".to_owned())) {
            return Err(wrong(".type"));
        }
        let Some(Value::Object(mut function)) = call.shift_remove("function") else {
            return Err(wrong(".function"));
        };
        let Some(Value::String(arguments)) = function.shift_remove("arguments") else {
            return Err(wrong(".function.arguments"));
        };
        let Some(Value::String(name)) = function.shift_remove("name") else {
            return Err(wrong(".function.name"));
        };
        let name_first = origin == Origin::Server;
        Ok(ToolCall { id, name, arguments, name_first, function_extra: function, extra: call })
    };
    calls.into_iter().enumerate().map(read).collect()
}

fn read_content(path: &str, role: &str, own_type: bool, content: Option<Value>) -> Result<Content, Pass> {
    let is_system = role == "system";
    match content {
        Some(Value::String(text)) if is_system => {
            Ok(without_billing_header(text).map_or(Content::Parts(Vec::new()), Content::Text))
        }
        Some(Value::String(text)) => Ok(Content::Text(text)),
        Some(Value::Array(parts)) => {
            if own_type && !parts.is_empty() && !parts.iter().any(is_known_part) {
                return Err(invalid(path, "a list with a part that the API knows"));
            }
            let mut read = Vec::with_capacity(parts.len());
            for (at, part) in parts.into_iter().enumerate() {
                read.extend(read_part(&format!("{path}[{at}]"), is_system, part)?);
            }
            Ok(Content::Parts(read))
        }
        None => Ok(Content::Parts(Vec::new())),
        // Iterated over, and so nothing, by the types that take any iterable.
        Some(Value::Object(none)) if own_type && none.is_empty() => Ok(Content::Parts(Vec::new())),
        Some(Value::Null) if matches!(role, "assistant" | "function") => Ok(Content::Parts(Vec::new())),
        _ => Err(invalid(path, "a string or a list of parts")),
    }
}

/// Whether the general type of a part has a field that this one sets.
fn is_known_part(part: &Value) -> bool {
    let Value::Object(part) = part else { return false };
    let text = |key: &str| part.get(key).is_some_and(Value::is_string);
    let kind = part.get("type").and_then(Value::as_str);
    let known = match kind {
        Some("text") => text("text"),
        Some("refusal") => text("refusal"),
        Some("thinking") => text("thinking"),
        Some("tool_reference") => text("name"),
        Some("prompt_embeds") => text("data"),
        _ => MEDIA.iter().any(|(key, _)| part.contains_key(*key)),
    };
    known || text("uuid")
}

/// A part; none where vLLM skips it.
fn read_part(path: &str, is_system: bool, part: Value) -> Result<Option<Part>, Pass> {
    let mut part = match part {
        Value::String(text) => {
            let text = if is_system { without_billing_header(text) } else { Some(text) };
            return Ok(text.map(|text| Part::Text { text: Some(text), extra: Map::new() }));
        }
        Value::Object(part) => part,
        _ => return Err(invalid(path, "a part")),
    };
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let has_uuid = part.get("uuid").is_some_and(|uuid| !uuid.is_null());
    if !part.contains_key("type") || part.get("type") == Some(&Value::Null) || has_uuid {
        return read_by_key(path, part);
    }
    if let Some((_, modality)) = MEDIA.iter().find(|(name, _)| *name == kind) {
        return Ok(Some(media(modality, part)));
    }
    let key = match kind.as_str() {
        "text" | "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        "thinking" => "thinking",
        "tool_reference" => "name",
        "prompt_embeds" => return Err(unsupported(&format!("{path}.type: prompt_embeds"))),
        _ => return Err(invalid(&format!("{path}.type"), "a type of part that is known")),
    };
    let text = match part.get_mut(key).map(Value::take) {
        Some(Value::String(text)) => Some(text),
        None | Some(Value::Null) if matches!(kind.as_str(), "text" | "refusal") => return Ok(None),
        None | Some(Value::Null) => None,
        Some(_) => return Err(invalid(&format!("{path}.{key}"), "a string")),
    };
    if kind == "tool_reference" {
        return Ok(Some(Part::ToolReference(text)));
    }
    let text = match text {
        Some(text) if is_system && kind == "text" => match without_billing_header(text) {
            Some(text) => Some(text),
            None => return Ok(None),
        },
        text => text,
    };
    part.retain(|key, _| !PART_KEYS.contains(&key.as_str()));
    Ok(Some(Part::Text { text, extra: part }))
}

/// A part without a type, or with a name for its data: its keys say what it is.
fn read_by_key(path: &str, part: Map<String, Value>) -> Result<Option<Part>, Pass> {
    // In this order, in vLLM.
    let keys = [
        "image_url",
        "image_embeds",
        "audio_embeds",
        "video_embeds",
        "audio_url",
        "input_audio",
        "video_url",
    ];
    if part.contains_key("image_pil") || part.contains_key("prompt_embeds") {
        return Err(unsupported(&format!("{path}: image_pil or prompt_embeds")));
    }
    for key in keys {
        if part.contains_key(key) {
            let modality =
                MEDIA.iter().find(|(name, _)| *name == key).map_or("image", |(_, modality)| *modality);
            return Ok(Some(media(modality, part)));
        }
    }
    Err(invalid(&format!("{path}.type"), "given"))
}

fn media(modality: &'static str, mut part: Map<String, Value>) -> Part {
    part.retain(|key, _| !PART_KEYS.contains(&key.as_str()));
    Part::Media { modality, extra: part }
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
