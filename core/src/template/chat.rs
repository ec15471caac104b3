//! A chat to the values that its template gets, as vLLM makes them (`renderers/chat_utils.py`, `renderers/hf.py`).

use std::rc::Rc;

use serde_json::Value as Json;

use super::content::ContentFormat;
use super::fail::{Outcome, raise, refuse};
use super::loads::{LoadsError, loads};
use super::value::{Dict, Text, Value};
use crate::request::{Content, Message, Part, ToolCall, numbers};

/// What stands for a medium where it is looked for: nothing that a template or a chat would print.
const STAND_IN: &str = "\u{10ffff}\u{10fffe}medium\u{10fffe}\u{10ffff}";

/// Media parts as the template gets them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// As vLLM hands them over.
    Kept,
    /// As a text instead, to see where they come in.
    Replaced,
}

/// A JSON value; its strings are not copied.
pub(super) fn of_json(json: &Json) -> Outcome<Value<'_>> {
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), ..) => Value::Int(value),
            (_, Some(value), _) => Value::Big(value.to_string().into()),
            (.., Some(value)) => Value::Float(value),
            _ => return Err(refuse("a number that cannot be read")),
        },
        Json::String(text) => match numbers::marked(text) {
            Some(digits) => Value::Big(digits.into()),
            None => Value::Str(Text::Borrowed(text)),
        },
        Json::Array(items) => Value::list(items.iter().map(of_json).collect::<Outcome<_>>()?),
        Json::Object(map) => dict(map.iter().map(|(key, value)| Ok((key.as_str(), of_json(value)?))))?,
    })
}

fn dict<'a>(entries: impl Iterator<Item = Outcome<(&'a str, Value<'a>)>>) -> Outcome<Value<'a>> {
    let entries = entries.map(|entry| entry.map(|(key, value)| (Value::Str(Text::Borrowed(key)), value)));
    Ok(Value::Dict(Rc::new(Dict::of(entries.collect::<Outcome<_>>()?))))
}

fn str_value(text: &str) -> Value<'_> {
    Value::Str(Text::Borrowed(text))
}

/// The messages, as one list.
///
/// `knows_developer`: whether the template has that role; else developer messages are system messages, and then all
/// system messages are merged into one at the start.
pub(super) fn messages<'a>(
    messages: &'a [Message],
    format: ContentFormat,
    knows_developer: bool,
    media: Media,
) -> Outcome<Vec<Entry<'a>>> {
    let mut entries =
        messages.iter().map(|message| Entry::of(message, format, media)).collect::<Outcome<Vec<_>>>()?;
    if !knows_developer && entries.iter().any(|entry| entry.role == "developer") {
        for entry in &mut entries {
            if entry.role == "developer" {
                entry.role = "system";
                entry.rest.retain(|(key, _)| *key != "tools");
            }
        }
        entries = merge_system(entries)?;
    }
    Ok(entries)
}

/// One message before it becomes a dict.
pub(super) struct Entry<'a> {
    role: &'a str,
    pub(super) content: Value<'a>,
    rest: Vec<(&'static str, Value<'a>)>,
}

impl<'a> Entry<'a> {
    pub(super) fn value(self) -> Outcome<Value<'a>> {
        let first = [("role", str_value(self.role)), ("content", self.content)];
        dict(first.into_iter().chain(self.rest).map(Ok))
    }

    fn of(message: &'a Message, format: ContentFormat, media: Media) -> Outcome<Self> {
        let is_tool = message.role == "tool";
        let mut content = content(&message.content, format, media)?;
        if is_tool && let Value::List(parts) = &content {
            content = flat(parts)?.unwrap_or(content);
        }
        let mut rest = Vec::new();
        if message.role == "assistant" {
            if !message.tool_calls.is_empty() {
                let calls = message.tool_calls.iter().map(tool_call).collect::<Outcome<_>>()?;
                rest.push(("tool_calls", Value::list(calls)));
            }
            if let Some(reasoning) = &message.reasoning {
                let reasoning = of_json(reasoning)?;
                rest.push(("reasoning", reasoning.clone()));
                rest.push(("reasoning_content", reasoning));
            }
        } else if is_tool && let Some(id) = &message.tool_call_id {
            rest.push(("tool_call_id", of_json(id)?));
        }
        if let Some(name) = &message.name {
            rest.push(("name", str_value(name)));
        }
        if let Some(task) = &message.task {
            rest.push(("task", str_value(task)));
        }
        if message.role == "developer" {
            rest.push(("tools", message.tools.as_ref().map_or(Ok(Value::None), of_json)?));
        }
        Ok(Self { role: &message.role, content, rest })
    }
}

fn content(content: &Content, format: ContentFormat, media: Media) -> Outcome<Value<'_>> {
    match (content, format) {
        (Content::Text(text), ContentFormat::String) => Ok(str_value(text)),
        (Content::Text(text), ContentFormat::Parts) => {
            let part = [("type", str_value("text")), ("text", str_value(text))];
            Ok(Value::list(vec![dict(part.into_iter().map(Ok))?]))
        }
        (Content::Parts(parts), ContentFormat::Parts) => {
            Ok(Value::list(parts.iter().map(|one| part(one, media)).collect::<Outcome<_>>()?))
        }
        (Content::Parts(parts), ContentFormat::String) => {
            let mut texts = Vec::new();
            for part in parts {
                match part {
                    Part::Text { text: Some(text), .. } | Part::ToolReference(Some(text)) => {
                        texts.push(text.as_str())
                    }
                    Part::Text { text: None, .. } | Part::ToolReference(None) => {}
                    // The model server puts placeholders of its own into the text.
                    Part::Media { .. } => return Ok(Value::Unknown("".into())),
                }
            }
            texts.retain(|text| !text.is_empty());
            Ok(match texts.as_slice() {
                [text] => str_value(text),
                texts => Value::text(texts.join("\n")),
            })
        }
    }
}

fn part(part: &Part, media: Media) -> Outcome<Value<'_>> {
    match part {
        Part::Text { text, extra } => {
            let text = text.as_ref().map_or(Value::None, |text| str_value(text));
            let first = [("type", str_value("text")), ("text", text)];
            let extra = extra.iter().map(|(key, value)| Ok((key.as_str(), of_json(value)?)));
            dict(first.into_iter().map(Ok).chain(extra))
        }
        Part::ToolReference(name) => {
            let name = name.as_ref().map_or(Value::None, |name| str_value(name));
            dict([("type", str_value("tool_reference")), ("name", name)].into_iter().map(Ok))
        }
        Part::Media { .. } if media == Media::Replaced => {
            dict([("type", str_value("text")), ("text", str_value(STAND_IN))].into_iter().map(Ok))
        }
        Part::Media { modality, extra } => {
            let extra = extra.iter().map(|(key, value)| Ok((key.as_str(), of_json(value)?)));
            dict([("type", str_value(modality))].into_iter().map(Ok).chain(extra))
        }
    }
}

/// A tool's text parts as one string, empty ones included; none where there is another kind of part.
fn flat<'a>(parts: &[Value<'a>]) -> Outcome<Option<Value<'a>>> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        let Value::Dict(part) = part else { return Ok(None) };
        if part.get_str("type").and_then(Value::as_str) != Some("text") {
            return Ok(None);
        }
        match part.get_str("text") {
            Some(Value::Str(text)) => texts.push(text.as_str()),
            _ => return Err(raise("sequence item 0: expected str instance, NoneType found")),
        }
    }
    Ok(Some(Value::text(texts.join("\n"))))
}

/// A tool call with its arguments as an object: vLLM reads them from their JSON, and what is none becomes `{}`.
fn tool_call(call: &ToolCall) -> Outcome<Value<'_>> {
    let arguments = match loads(&call.arguments) {
        Ok(value @ Value::Dict(_)) => value,
        Ok(_) | Err(LoadsError::Invalid) => dict(std::iter::empty())?,
        Err(LoadsError::Unsupported) => return Err(refuse("the arguments of a tool call")),
    };
    let extras = |extra: &'static str| {
        let extra = if extra == "call" { &call.extra } else { &call.function_extra };
        extra.iter().map(|(key, value)| Ok((key.as_str(), of_json(value)?)))
    };
    let mut function = [("arguments", arguments), ("name", str_value(&call.name))];
    if call.name_first {
        function.swap(0, 1);
    }
    let function = dict(function.into_iter().map(Ok).chain(extras("function")))?;
    let first = [("id", str_value(&call.id)), ("function", function), ("type", str_value("function"))];
    dict(first.into_iter().map(Ok).chain(extras("call")))
}

/// All system messages as one at the start, unless there is one there already and no other.
fn merge_system(entries: Vec<Entry<'_>>) -> Outcome<Vec<Entry<'_>>> {
    let scattered = entries.iter().enumerate().any(|(at, entry)| at > 0 && entry.role == "system");
    if !scattered {
        return Ok(entries);
    }
    let mut texts: Vec<String> = Vec::new();
    let mut others = Vec::new();
    for entry in entries {
        if entry.role != "system" {
            others.push(entry);
            continue;
        }
        let text = match &entry.content {
            Value::List(parts) => {
                let mut texts = Vec::new();
                for part in parts.iter() {
                    let Value::Dict(part) = part else { continue };
                    if part.get_str("type").and_then(Value::as_str) != Some("text") {
                        return Err(refuse("merging system messages with media"));
                    }
                    if let Some(text) = part.get_str("text") {
                        let text = text.as_str().ok_or_else(|| raise("expected str instance"))?;
                        texts.push(text);
                    }
                }
                texts.join("\n")
            }
            Value::Str(text) => text.as_str().to_owned(),
            _ => return Err(refuse("merging system messages with media")),
        };
        if !text.is_empty() {
            texts.push(text);
        }
    }
    let merged = Entry { role: "system", content: Value::text(texts.join("\n\n")), rest: Vec::new() };
    Ok(std::iter::once(merged).chain(others).collect())
}
