//! Anthropic's `/v1/messages`.
//!
//! vLLM makes a chat completion of it (`to_chat_completion_request` in `vllm/entrypoints/anthropic/serving.py`), and
//! so it is done here: the body is rewritten, and [`chat::read`] reads the result. Only what `AnthropicMessagesRequest`
//! knows is handed on; other fields, `truncate_prompt_tokens` or `documents` among them, are ignored there too.

mod tools;

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{BILLING_HEADER, Probes, Prompt, Request, ToolChoice, chat, invalid, object, unsupported};
use crate::pass::{Pass, PassReason};
use tools::Change;

/// Fields that a chat completion takes over as they are.
const TAKEN_OVER: [&str; 4] = ["model", "cache_salt", "kv_transfer_params", "chat_template_kwargs"];

/// What `output_config.effort` may be.
const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];

/// Smallest `thinking.budget_tokens`.
const THINKING_TOKENS_MIN: u64 = 1024;

pub(super) fn read(fields: &mut Fields) -> Result<Request, Pass> {
    if fields.get("model").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(invalid("model", "a name"));
    }
    let mut body = Map::new();
    let output_tokens_max = fields.count("max_tokens")?.filter(|count| *count > 0);
    let output_tokens_max =
        output_tokens_max.ok_or_else(|| invalid("max_tokens", "a whole number above 0"))?;
    body.insert("max_tokens".to_owned(), output_tokens_max.into());
    let mut changes = Vec::new();
    let conversation = read_conversation(fields, &mut changes)?;
    body.insert("messages".to_owned(), conversation.messages.into());
    let tools = tools::read(fields.take("tools"), changes)?;
    let tool_choice = read_tool_choice(fields.take("tool_choice"), tools.is_some())?;
    // An empty list is an error in a chat completion; here the template gets it.
    let no_tools = tools.as_ref().is_some_and(Vec::is_empty);
    body.extend(tools.filter(|tools| !tools.is_empty()).map(|tools| ("tools".to_owned(), tools.into())));
    let effort = read_effort(fields, output_tokens_max)?;
    let thinking_disabled = effort == Effort::Least;
    if let Effort::Given(effort) = effort {
        body.insert("reasoning_effort".to_owned(), effort);
    }
    for name in TAKEN_OVER {
        body.extend(fields.take(name).map(|value| (name.to_owned(), value)));
    }
    let mut request = chat::read(&mut Fields::new(body))?;
    if let Prompt::Chat(chat) = &mut request.prompt {
        chat.tool_choice = tool_choice;
        if no_tools {
            chat.tools = Some(json!([]));
        }
        chat.probes = Probes { system_anywhere: conversation.system_anywhere, thinking_disabled };
    }
    Ok(request)
}

/// The `reasoning_effort` of a request.
#[derive(PartialEq)]
enum Effort {
    Unset,
    Given(Value),
    /// That with which the template thinks least.
    Least,
}

/// `output_config.effort`, and what `thinking` says about it.
fn read_effort(fields: &Fields, output_tokens_max: u64) -> Result<Effort, Pass> {
    let effort = match fields.get("output_config") {
        None => None,
        Some(Value::Object(config)) => config.get("effort").filter(|effort| !effort.is_null()),
        Some(_) => return Err(invalid("output_config", "an object")),
    };
    if effort.is_some_and(|effort| !effort.as_str().is_some_and(|effort| EFFORTS.contains(&effort))) {
        return Err(invalid("output_config.effort", "low, medium, high, xhigh or max"));
    }
    let effort = effort.cloned().map_or(Effort::Unset, Effort::Given);
    let Some(thinking) = fields.get("thinking") else { return Ok(effort) };
    match thinking.get("type").and_then(Value::as_str) {
        Some("adaptive") => Ok(effort),
        Some("enabled") => {
            let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
            // A stage that only reads the prompt is asked for one token.
            let decodes_here = !fields.get("kv_transfer_params").is_some_and(decodes_elsewhere);
            match budget {
                Some(budget)
                    if budget >= THINKING_TOKENS_MIN && (budget < output_tokens_max || !decodes_here) =>
                {
                    Ok(effort)
                }
                _ => Err(invalid("thinking.budget_tokens", "at least 1024 and less than max_tokens")),
            }
        }
        Some("disabled") => Ok(Effort::Least),
        _ => Err(invalid("thinking.type", "enabled, disabled or adaptive")),
    }
}

fn decodes_elsewhere(kv_transfer_params: &Value) -> bool {
    kv_transfer_params.get("do_remote_decode").is_some_and(|set| *set == Value::Bool(true))
}

/// What `tool_choice` comes to. Which tool is named does not reach the prompt.
fn read_tool_choice(choice: Option<Value>, has_tools: bool) -> Result<ToolChoice, Pass> {
    let Some(choice) = choice else {
        return Ok(if has_tools { ToolChoice::Parsed } else { ToolChoice::Unset });
    };
    match choice.get("type").and_then(Value::as_str) {
        Some("auto" | "any") => Ok(ToolChoice::Parsed),
        Some("none") => Ok(ToolChoice::None),
        Some("tool") if choice.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty()) => {
            Ok(ToolChoice::Parsed)
        }
        _ => Err(invalid("tool_choice", "auto, any, none, or a tool with its name")),
    }
}

/// The messages of a chat completion.
struct Conversation {
    messages: Vec<Value>,
    system_anywhere: bool,
}

/// `system` and `messages` as the messages of a chat completion.
fn read_conversation(fields: &mut Fields, changes: &mut Vec<Change>) -> Result<Conversation, Pass> {
    let mut conversation = Vec::new();
    // Texts of system messages among the others.
    let (mut inline, mut system_header) = (0, false);
    if let Some(system) = fields.take("system") {
        let text = system_text("system", system, None)?;
        system_header = text.starts_with(BILLING_HEADER);
        push_system(&mut conversation, text);
    }
    let Some(Value::Array(messages)) = fields.take("messages") else {
        return Err(invalid("messages", "a list"));
    };
    for (at, message) in messages.into_iter().enumerate() {
        let path = format!("messages[{at}]");
        let mut message = object(&path, message)?;
        let content = message.remove("content").unwrap_or_default();
        let content_path = format!("{path}.content");
        match message.get("role").and_then(Value::as_str) {
            Some("system") => {
                let text = system_text(&content_path, content, Some(changes))?;
                inline += usize::from(!text.is_empty());
                // A header's line is removed from a message as a whole, which here depends on the template.
                if !text.is_empty() && (system_header || text.starts_with(BILLING_HEADER)) {
                    return Err(unsupported(&content_path));
                }
                push_system(&mut conversation, text);
            }
            Some("user") => push_message(&mut conversation, "user", &content_path, content)?,
            Some("assistant") => push_message(&mut conversation, "assistant", &content_path, content)?,
            _ => return Err(invalid(&format!("{path}.role"), "user, assistant or system")),
        }
    }
    Ok(Conversation { messages: conversation, system_anywhere: inline > 0 })
}

fn push_system(conversation: &mut Vec<Value>, text: String) {
    if !text.is_empty() {
        conversation.push(json!({"role": "system", "content": text}));
    }
}

/// Text of a system prompt: that of its text blocks, joined by nothing, billing headers left out. A string keeps its
/// header in `system` (the reader of chats removes that line) and vanishes with it inline, among the messages; only
/// there blocks may change the tools.
fn system_text(path: &str, content: Value, mut inline: Option<&mut Vec<Change>>) -> Result<String, Pass> {
    let blocks = match content {
        Value::String(text) if inline.is_some() && text.starts_with(BILLING_HEADER) => {
            return Ok(String::new());
        }
        Value::String(text) => return Ok(text),
        Value::Array(blocks) => blocks,
        _ => return Err(invalid(path, "a string or a list of blocks")),
    };
    let mut joined = String::new();
    for (at, block) in blocks.into_iter().enumerate() {
        let mut block = Block::new(format!("{path}[{at}]"), block)?;
        match block.kind.as_str() {
            "text" => {
                let text = block.text("text")?.unwrap_or_default();
                if !text.starts_with(BILLING_HEADER) {
                    joined.push_str(&text);
                }
            }
            "tool_addition" | "tool_removal" => {
                let Some(changes) = &mut inline else { return Err(block.invalid()) };
                let removal = block.kind == "tool_removal";
                changes.push(Change { tool: block.fields.remove("tool"), path: block.path, removal });
            }
            _ => {}
        }
    }
    Ok(joined)
}

/// Adds one message, and before it those that its tool results become.
fn push_message(conversation: &mut Vec<Value>, role: &str, path: &str, content: Value) -> Result<(), Pass> {
    let blocks = match content {
        Value::String(text) => {
            conversation.push(json!({"role": role, "content": text}));
            return Ok(());
        }
        Value::Array(blocks) => blocks,
        _ => return Err(invalid(path, "a string or a list of blocks")),
    };
    let (mut parts, mut calls, mut reasoning) = (Vec::new(), Vec::new(), None::<String>);
    for (at, block) in blocks.into_iter().enumerate() {
        let mut block = Block::new(format!("{path}[{at}]"), block)?;
        match block.kind.as_str() {
            "text" => match block.text("text")? {
                Some(text) if !text.is_empty() => parts.push(json!({"type": "text", "text": text})),
                _ => {}
            },
            "image" => match block.fields.get("source") {
                Some(Value::Object(source)) if !source.is_empty() => parts.push(image()),
                None | Some(Value::Null | Value::Object(_)) => {}
                Some(_) => return Err(block.invalid()),
            },
            "thinking" => {
                if let Some(text) = block.text("thinking")? {
                    reasoning.get_or_insert_default().push_str(&text);
                }
            }
            "tool_use" => calls.push(read_call(&mut block)?),
            "tool_result" if role == "user" => push_result(conversation, block)?,
            "tool_result" => match block.fields.remove("content") {
                None | Some(Value::Null) => parts.push(json!({"type": "text", "text": "Tool result: "})),
                Some(Value::String(text)) => {
                    parts.push(json!({"type": "text", "text": format!("Tool result: {text}")}));
                }
                // Printed as Python prints a list.
                Some(_) => return Err(unsupported(&block.path)),
            },
            "redacted_thinking" | "tool_reference" => {}
            _ => return Err(block.invalid()),
        }
    }
    let mut message = Map::from_iter([("role".to_owned(), role.into())]);
    if role == "user" && parts.is_empty() {
        return Ok(());
    }
    // Of a user's message they do not reach the template.
    if role == "assistant" {
        message.extend(reasoning.map(|reasoning| ("reasoning".to_owned(), reasoning.into())));
        message.extend(
            Some(calls)
                .filter(|calls| !calls.is_empty())
                .map(|calls| ("tool_calls".to_owned(), calls.into())),
        );
    }
    if !parts.is_empty() {
        message.insert("content".to_owned(), plain_if_one_text(parts));
    }
    conversation.push(Value::Object(message));
    Ok(())
}

/// Parts of a message; a single text as a string.
fn plain_if_one_text(mut parts: Vec<Value>) -> Value {
    match parts.as_mut_slice() {
        [Value::Object(part)] if part.contains_key("text") => part.remove("text").unwrap_or_default(),
        _ => Value::Array(parts),
    }
}

/// An image; its bytes are of no use here.
fn image() -> Value {
    json!({"type": "image_url", "image_url": {"url": "data:"}})
}

fn read_call(block: &mut Block) -> Result<Value, Pass> {
    let id = block.text("id")?.unwrap_or_default();
    // Made from the time of day where there is none.
    if id.is_empty() {
        return Err(unsupported(&format!("{}.id", block.path)));
    }
    let name = block.text("name")?.unwrap_or_default();
    let input = match block.fields.remove("input") {
        None | Some(Value::Null) => json!({}),
        Some(Value::Object(input)) => Value::Object(input),
        Some(_) => return Err(invalid(&format!("{}.input", block.path), "an object")),
    };
    let function = json!({"name": name, "arguments": input.to_string()});
    Ok(json!({"id": id, "type": "function", "function": function}))
}

/// A user's tool result: a message with its texts, one with its images, and one with the tools that it refers to.
fn push_result(conversation: &mut Vec<Value>, mut block: Block) -> Result<(), Pass> {
    let (mut text, mut images, mut references) = (String::new(), Vec::new(), Vec::new());
    match block.fields.remove("content") {
        None | Some(Value::Null) => {}
        Some(Value::String(content)) => text = content,
        Some(Value::Array(parts)) => {
            let mut texts = Vec::with_capacity(parts.len());
            for (at, part) in parts.into_iter().enumerate() {
                let path = format!("{}.content[{at}]", block.path);
                let mut part = object(&path, part)?;
                match part.get("type").and_then(Value::as_str) {
                    Some("text") => match part.remove("text") {
                        None => texts.push(String::new()),
                        Some(Value::String(text)) => texts.push(text),
                        Some(_) => return Err(invalid(&path, "a text")),
                    },
                    Some("image") => images.push(image()),
                    Some("tool_reference") => {
                        let name = ["tool_name", "name"].into_iter().filter_map(|key| part.remove(key));
                        let name = name.filter(|name| !name.is_null() && name != "").find(Value::is_string);
                        references.extend(name.map(|name| json!({"type": "tool_reference", "name": name})));
                    }
                    _ => {}
                }
            }
            text = texts.join("\n");
        }
        Some(_) => return Err(block.invalid()),
    }
    let id = block.text("tool_use_id")?.unwrap_or_default();
    conversation.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
    if !images.is_empty() {
        conversation.push(json!({"role": "user", "content": images}));
    }
    if !references.is_empty() {
        conversation.push(json!({"role": "tool", "tool_call_id": id, "content": references}));
    }
    Ok(())
}

/// A content block.
struct Block {
    path: String,
    kind: String,
    fields: Map<String, Value>,
}

impl Block {
    fn new(path: String, block: Value) -> Result<Self, Pass> {
        let mut fields = object(&path, block)?;
        match fields.remove("type") {
            Some(Value::String(kind)) => Ok(Self { path, kind, fields }),
            _ => Err(invalid(&format!("{path}.type"), "a string")),
        }
    }

    /// A `str | None` field.
    fn text(&mut self, name: &str) -> Result<Option<String>, Pass> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(&format!("{}.{name}", self.path), "a string")),
        }
    }

    /// A block that vLLM does not know, or not here.
    fn invalid(&self) -> Pass {
        Pass::new(PassReason::InvalidField, format!("{}: no block that may stand here", self.path))
    }
}
