//! `/v1/chat/completions`.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::message::read_message;
use super::{
    Chat, Probes, Prompt, Request, ToolChoice, cache_salt, invalid, refuse_forwarded_ids, refuse_uncached,
    truncation, unsupported,
};
use crate::pass::{Pass, PassReason};

/// Fields that change the prompt and are not modelled.
const UNSUPPORTED: [&str; 2] = [
    // Not in vLLM's type today; embeddings instead of tokens wherever it is known.
    "prompt_embeds",
    // Written into the prompt by the tool templates of older servers.
    "functions",
];

/// Values of `reasoning_effort`.
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// Who wrote the messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The request: the API's types read them.
    Request,
    /// The server, of another API's items: no type reads them again.
    Server,
}

pub(super) fn read(fields: &mut Fields) -> Result<Request, Pass> {
    read_from(fields, Origin::Request)
}

pub(super) fn read_from(fields: &mut Fields, origin: Origin) -> Result<Request, Pass> {
    fields.refuse(&UNSUPPORTED)?;
    refuse_forwarded_ids(fields)?;
    // With `echo` the prompt's log probabilities are asked for, be it none of them.
    refuse_uncached(fields, fields.bool("echo", false)?)?;
    let limit = fields.count("max_completion_tokens")?;
    let output_tokens_max = limit.or(fields.count("max_tokens")?);
    Ok(Request {
        truncation: truncation(fields)?,
        model: fields.string("model")?,
        cache_salt: cache_salt(fields)?,
        output_tokens_max,
        prompt: Prompt::Chat(Box::new(read_chat(fields, origin)?)),
    })
}

fn read_chat(fields: &mut Fields, origin: Origin) -> Result<Chat, Pass> {
    let (tools, tool_choice) = read_tools(fields)?;
    let add_generation_prompt = fields.bool("add_generation_prompt", true)?;
    let continue_final_message = fields.bool("continue_final_message", false)?;
    if continue_final_message && add_generation_prompt {
        return Err(invalid("continue_final_message", "possible without add_generation_prompt: false"));
    }
    let variables = read_variables(fields)?;
    Ok(Chat {
        tools,
        tool_choice,
        documents: read_documents(fields)?,
        variables,
        template: fields.string("chat_template")?,
        add_generation_prompt,
        continue_final_message,
        add_special_tokens: fields.bool("add_special_tokens", false)?,
        messages: read_messages(fields, origin)?,
        probes: Probes::default(),
    })
}

fn read_messages(fields: &mut Fields, origin: Origin) -> Result<Vec<super::Message>, Pass> {
    let messages = match fields.take("messages") {
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err(invalid("messages", "a list")),
        None => return Err(Pass::new(PassReason::EmptyPrompt, "messages: missing")),
    };
    if messages.is_empty() {
        return Err(Pass::new(PassReason::EmptyPrompt, "messages: empty"));
    }
    let read = |(at, message)| read_message(&format!("messages[{at}]"), message, origin);
    messages.into_iter().enumerate().map(read).collect()
}

/// `chat_template_kwargs`, with what `reasoning_effort` adds to them.
fn read_variables(fields: &mut Fields) -> Result<Map<String, Value>, Pass> {
    let mut variables = match fields.take("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(variables)) => variables,
        Some(_) => return Err(invalid("chat_template_kwargs", "an object")),
    };
    if variables.get("chat_template").is_some_and(|template| !template.is_null()) {
        return Err(unsupported("chat_template_kwargs.chat_template"));
    }
    if let Some(effort) = fields.string("reasoning_effort")? {
        if !EFFORTS.contains(&effort.as_str()) {
            return Err(invalid("reasoning_effort", "one of its values"));
        }
        if !variables.contains_key("enable_thinking") {
            variables.insert("enable_thinking".to_owned(), Value::Bool(effort != "none"));
        }
        variables.insert("reasoning_effort".to_owned(), Value::String(effort));
    }
    Ok(variables)
}

fn read_documents(fields: &mut Fields) -> Result<Option<Value>, Pass> {
    let Some(documents) = fields.take("documents") else { return Ok(None) };
    let is_text = |document: &Value| {
        document.as_object().is_some_and(|document| document.values().all(Value::is_string))
    };
    match &documents {
        Value::Array(items) if items.iter().all(is_text) => Ok(Some(documents)),
        _ => Err(invalid("documents", "a list of objects of strings")),
    }
}

/// Tools as vLLM writes them again, and what `tool_choice` comes to.
fn read_tools(fields: &mut Fields) -> Result<(Option<Value>, ToolChoice), Pass> {
    let tools = match fields.take("tools") {
        None => None,
        Some(Value::Array(tools)) if !tools.is_empty() => {
            let read = |(at, tool)| read_tool(&format!("tools[{at}]"), tool);
            Some(tools.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?)
        }
        Some(_) => return Err(invalid("tools", "a list that is not empty")),
    };
    let choice = match (fields.or_null("tool_choice"), &tools) {
        (None, None) => ToolChoice::None,
        (None, Some(_)) => ToolChoice::Parsed,
        (Some(Value::Null), _) => ToolChoice::Unset,
        (Some(Value::String(choice)), _) if choice == "none" => ToolChoice::None,
        (Some(_), None) => return Err(invalid("tool_choice", "\"none\", although there are no tools")),
        (Some(Value::String(choice)), _) if matches!(choice.as_str(), "auto" | "required") => {
            ToolChoice::Parsed
        }
        (Some(choice), Some(tools)) => {
            let name = choice.get("function").and_then(|function| function.get("name"));
            let known = |tool: &Value| tool.get("function").and_then(|function| function.get("name")) == name;
            if name.is_none() || !tools.iter().any(known) {
                return Err(invalid("tool_choice", "a name of one of the tools"));
            }
            ToolChoice::Parsed
        }
    };
    Ok((tools.map(Value::Array), choice))
}

/// `{"type", "function": {"name", "description", "parameters"}}` in this order, with `strict` and `defer_loading` where
/// they are given; unknown keys are dropped.
fn read_tool(path: &str, tool: Value) -> Result<Value, Pass> {
    let Value::Object(mut tool) = tool else { return Err(invalid(path, "an object")) };
    if tool.get("type").is_some_and(|kind| kind != "function") {
        return Err(invalid(&format!("{path}.type"), "\"function\""));
    }
    let Some(Value::Object(mut function)) = tool.remove("function") else {
        return Err(invalid(&format!("{path}.function"), "an object"));
    };
    let flag = |object: &Map<String, Value>, key: &str| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(invalid(&format!("{path}.{key}"), "true or false")),
    };
    let deferred = flag(&tool, "defer_loading")?;
    let mut take = |key: &str, fits: fn(&Value) -> bool| {
        let value = function.get_mut(key).map(Value::take).unwrap_or_default();
        if fits(&value) { Ok(value) } else { Err(invalid(&format!("{path}.function.{key}"), "of its type")) }
    };
    let mut written = Map::new();
    written.insert("name".to_owned(), take("name", Value::is_string)?);
    written
        .insert("description".to_owned(), take("description", |value| value.is_string() || value.is_null())?);
    written
        .insert("parameters".to_owned(), take("parameters", |value| value.is_object() || value.is_null())?);
    if let Some(strict) = flag(&function, "strict")? {
        written.insert("strict".to_owned(), Value::Bool(strict));
    }
    if let Some(deferred) = flag(&function, "defer_loading")?.or(deferred) {
        written.insert("defer_loading".to_owned(), Value::Bool(deferred));
    }
    let mut tool = Map::new();
    tool.insert("type".to_owned(), Value::String("function".to_owned()));
    tool.insert("function".to_owned(), Value::Object(written));
    if let Some(deferred) = deferred {
        tool.insert("defer_loading".to_owned(), Value::Bool(deferred));
    }
    Ok(Value::Object(tool))
}
