//! What vLLM finds out about a template, for `/v1/messages`, by rendering small chats with it
//! (`_should_merge_inline_system` and `_probe_disabled_thinking_effort` in `vllm/entrypoints/anthropic/serving.py`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::clock::LocalTime;
use super::eval::Interpreter;
use super::fail::{FailKind, Outcome, refuse};
use super::value::{Dict, Text, Value};
use super::{Compiled, TEMPLATE_FUEL, TEMPLATE_OUTPUT_BYTES_MAX, Template};
use crate::request::{Chat, Content, Message, Probes, ToolChoice};

/// Efforts beside which `none` must make a difference (`AnthropicEffort`).
const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];

/// What was found out. None: the template does something there that is not known here.
#[derive(Default)]
pub(super) struct Probed {
    /// Whether it wants the system's message first.
    system_first: Option<bool>,
    /// The `reasoning_effort` with which it thinks least.
    least_effort: Option<&'static str>,
}

impl Probed {
    pub(super) fn of(template: &Template) -> Self {
        Self { system_first: system_first(&template.compiled), least_effort: least_effort(template) }
    }

    /// The chat that vLLM makes of one in which something is left to the template.
    pub(super) fn resolve<'c>(&self, chat: &'c Chat) -> Outcome<Cow<'c, Chat>> {
        let mut chat = Cow::Borrowed(chat);
        if chat.probes.thinking_disabled {
            let effort = self.least_effort.ok_or_else(|| refuse("what disables thinking"))?;
            let variables = &mut chat.to_mut().variables;
            variables.insert("reasoning_effort".to_owned(), effort.into());
            variables.entry("enable_thinking").or_insert_with(|| (effort != "none").into());
        }
        if chat.probes.system_anywhere
            && self.system_first.ok_or_else(|| refuse("where system messages may stand"))?
        {
            merge_system(&mut chat.to_mut().messages);
        }
        Ok(chat)
    }
}

/// Puts all system messages together at the start, with nothing between their texts.
fn merge_system(messages: &mut Vec<Message>) {
    let mut text = String::new();
    messages.retain(|message| {
        let is_system = message.role == "system";
        if let (true, Content::Text(part)) = (is_system, &message.content) {
            text.push_str(part);
        }
        !is_system
    });
    messages.insert(0, message("system", text));
}

/// Whether a system message in the middle raises. The probe has none of the functions and variables that templates
/// have otherwise; nor does it know the tag `generation`.
fn system_first(compiled: &Compiled) -> Option<bool> {
    if compiled.has_generation {
        return Some(true);
    }
    let str_value = |text| Value::Str(Text::Borrowed(text));
    let message = |role| {
        let entries = [("role", role), ("content", "t")];
        let entries = entries.into_iter().map(|(key, value)| (str_value(key), str_value(value)));
        Value::Dict(Dict::of(entries.collect()).into())
    };
    let messages = ["system", "user", "system", "user"].into_iter().map(message).collect();
    let variables = BTreeMap::from([
        ("messages", Value::list(messages)),
        ("add_generation_prompt", Value::Bool(false)),
        ("raise_exception", Value::undefined_name("raise_exception")),
        ("strftime_now", Value::undefined_name("strftime_now")),
    ]);
    let mut interpreter = Interpreter::new(&variables, None, TEMPLATE_FUEL, TEMPLATE_OUTPUT_BYTES_MAX);
    match interpreter.run(&compiled.body, &compiled.scope, compiled.slots) {
        Ok(_) => Some(false),
        Err(fail) if fail.kind == FailKind::Raised => Some(true),
        Err(_) => None,
    }
}

/// `low` if the template refuses `none` or prints the same for it as for another effort.
fn least_effort(template: &Template) -> Option<&'static str> {
    // Of the time only matters that it is the same in both.
    let prompt = |effort| match template.render(&greeting(effort), Some(LocalTime::at(0, 0))) {
        Ok(rendered) => Some(Some(rendered.text)),
        Err(fail) if fail.kind == FailKind::Raised => Some(None),
        Err(_) => None,
    };
    let Some(none) = prompt("none")? else { return Some("low") };
    for effort in EFFORTS {
        if prompt(effort)?.as_ref() == Some(&none) {
            return Some("low");
        }
    }
    Some("none")
}

fn greeting(effort: &str) -> Chat {
    let variables =
        [("reasoning_effort", Json::from(effort)), ("enable_thinking", (effort != "none").into())];
    Chat {
        messages: vec![message("user", "Hi".to_owned())],
        tools: None,
        tool_choice: ToolChoice::None,
        documents: None,
        variables: variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>(),
        template: None,
        add_generation_prompt: true,
        continue_final_message: false,
        add_special_tokens: false,
        probes: Probes::default(),
    }
}

fn message(role: &str, text: String) -> Message {
    Message {
        role: role.to_owned(),
        content: Content::Text(text),
        tool_calls: Vec::new(),
        reasoning: None,
        tool_call_id: None,
        name: None,
        task: None,
        tools: None,
    }
}
