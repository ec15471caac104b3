//! What keys are made of, as one row of bytes: equal ones mean equal keys.
//!
//! Every text is preceded by its length and every choice by a tag, so no two prompts spell the same bytes. JSON keeps the
//! order of its keys here, which templates print and comparing values would not see.

use serde::Serialize;
use serde_json::Value;

use crate::request::{Chat, Content, Message, Part, Probes, Prompt, Side, ToolCall, ToolChoice, Truncation};

/// Bytes of a message beside its text, about.
const MESSAGE_BYTES: usize = 48;

/// A row of bytes that is being written.
#[derive(Default)]
pub(super) struct Spelled(pub(super) Vec<u8>);

impl Spelled {
    pub(super) fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn maybe<T>(&mut self, value: Option<T>, spell: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            spell(self, value);
        }
    }

    pub(super) fn maybe_text(&mut self, text: Option<&str>) {
        self.maybe(text, Self::text);
    }

    fn json(&mut self, value: &impl Serialize) {
        let from = self.0.len();
        self.number(0);
        // Values and maps of them can always be written.
        let _ = serde_json::to_writer(&mut self.0, value);
        let length = (self.0.len() - from) as u64;
        if let Some(place) = self.0.get_mut(from..from + 8) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    fn maybe_json(&mut self, value: Option<&Value>) {
        self.maybe(value, Self::json);
    }

    fn each<T>(&mut self, items: &[T], spell: impl Fn(&mut Self, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| spell(self, item));
    }

    pub(super) fn truncation(&mut self, truncation: Truncation) {
        let Truncation { tokens, side } = truncation;
        self.maybe(tokens, Self::number);
        self.maybe(side, |this, side| this.flag(side == Side::Left));
    }

    /// A prompt of text. Ids are cheaper to key than to look for: `false` for these.
    pub(super) fn prompt(&mut self, prompt: &Prompt) -> bool {
        match prompt {
            Prompt::Text { text, add_special_tokens, beside_empty } => {
                self.0.reserve(text.len() + 64);
                self.flag(*add_special_tokens);
                self.flag(*beside_empty);
                self.text(text);
            }
            Prompt::Chat(chat) => {
                self.0.push(2);
                self.chat(chat);
            }
            Prompt::Tokens(_) => return false,
        }
        true
    }

    fn chat(&mut self, chat: &Chat) {
        let Chat {
            messages,
            tools,
            tool_choice,
            documents,
            variables,
            template,
            add_generation_prompt,
            continue_final_message,
            add_special_tokens,
            probes: Probes { system_anywhere, thinking_disabled },
        } = chat;
        self.maybe_json(tools.as_ref());
        self.0.push(match tool_choice {
            ToolChoice::Unset => 0,
            ToolChoice::None => 1,
            ToolChoice::Parsed => 2,
        });
        self.maybe_json(documents.as_ref());
        self.json(variables);
        self.maybe_text(template.as_deref());
        let flags = [add_generation_prompt, continue_final_message, add_special_tokens];
        flags.into_iter().chain([system_anywhere, thinking_disabled]).for_each(|flag| self.flag(*flag));
        // Contents that are parts are few; the row grows for them.
        let text = |message: &Message| match &message.content {
            Content::Text(text) => text.len(),
            Content::Parts(_) => 0,
        };
        self.0.reserve(messages.iter().map(|message| text(message) + MESSAGE_BYTES).sum());
        self.each(messages, Self::message);
    }

    fn message(&mut self, message: &Message) {
        let Message { role, content, tool_calls, reasoning, tool_call_id, name, task, tools } = message;
        self.text(role);
        match content {
            Content::Text(text) => {
                self.0.push(0);
                self.text(text);
            }
            Content::Parts(parts) => {
                self.0.push(1);
                self.each(parts, Self::part);
            }
        }
        self.each(tool_calls, Self::tool_call);
        [reasoning, tool_call_id, tools].into_iter().for_each(|value| self.maybe_json(value.as_ref()));
        [name, task].into_iter().for_each(|text| self.maybe_text(text.as_deref()));
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::Text { text, extra } => {
                self.0.push(0);
                self.maybe_text(text.as_deref());
                self.json(extra);
            }
            Part::ToolReference(name) => {
                self.0.push(1);
                self.maybe_text(name.as_deref());
            }
            Part::Media { modality, extra } => {
                self.0.push(2);
                self.text(modality);
                self.json(extra);
            }
        }
    }

    fn tool_call(&mut self, call: &ToolCall) {
        let ToolCall { id, name, arguments, name_first, function_extra, extra } = call;
        [id, name, arguments].into_iter().for_each(|text| self.text(text));
        self.flag(*name_first);
        self.json(function_extra);
        self.json(extra);
    }
}
