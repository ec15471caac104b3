//! A model's chat templates: one, or a list of named ones of which requests with tools take `tool_use`
//! (`PreTrainedTokenizerBase.get_chat_template` in transformers, called by `resolve_chat_template` in vLLM's
//! `renderers/hf.py`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::fail::{raise, refuse};
use super::{Fail, LocalTime, Rendered, Template};
use crate::definition::ChatRules;
use crate::request::Chat;

/// The template for requests without tools, and for those with tools where there is no other.
const DEFAULT: &str = "default";

/// The template for requests with tools.
const TOOL_USE: &str = "tool_use";

/// An entry of a list of templates, as `tokenizer_config.json` has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NamedTemplate {
    /// Its name.
    pub name: String,
    /// Its Jinja.
    pub template: String,
}

/// All chat templates of a model, ready to render.
pub struct Templates {
    default: Option<Template>,
    tool_use: Option<Template>,
    /// Every name of the list; empty where there is only one template.
    names: Vec<String>,
}

impl Templates {
    /// Compiles a template, or each that requests are rendered with of the JSON of a list of [`NamedTemplate`]s: a text
    /// that is such a list is no template of anything.
    ///
    /// # Errors
    /// As [`Template::new`], with the name of the template where there are several.
    pub fn read(
        source: &str,
        special_tokens: &BTreeMap<String, String>,
        rules: &ChatRules,
    ) -> Result<Self, String> {
        let Ok(list) = serde_json::from_str::<Vec<NamedTemplate>>(source) else {
            let default = Some(Template::new(source, special_tokens, rules)?);
            return Ok(Self { default, tool_use: None, names: Vec::new() });
        };
        let of = |name: &str| {
            // Of two with one name Python keeps the last.
            let entry = list.iter().rev().find(|entry| entry.name == name);
            let compile = |entry: &NamedTemplate| {
                Template::new(&entry.template, special_tokens, rules)
                    .map_err(|error| format!("template {name:?}: {error}"))
            };
            entry.map(compile).transpose()
        };
        let (default, tool_use) = (of(DEFAULT)?, of(TOOL_USE)?);
        Ok(Self { default, tool_use, names: list.into_iter().map(|entry| entry.name).collect() })
    }

    /// The templates of a `tokenizer_config.json`, as [`Self::read`] takes them; none where it has none.
    ///
    /// # Errors
    /// When they are neither a string nor a list, or an object, of named ones.
    pub fn in_settings(settings: &Map<String, Value>) -> Result<Option<String>, String> {
        let list = match settings.get("chat_template") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => return Ok(Some(text.clone())),
            Some(Value::Object(named)) => {
                let entry = |(name, template): (&String, &Value)| {
                    Some(NamedTemplate { name: name.clone(), template: template.as_str()?.to_owned() })
                };
                named.iter().map(entry).collect()
            }
            Some(list) => Vec::<NamedTemplate>::deserialize(list).ok(),
        };
        let list = list.ok_or("chat_template is neither a string nor a list of named ones")?;
        serde_json::to_string(&list).map(Some).map_err(|error| error.to_string())
    }

    /// Whether the time may be printed by one of them.
    pub fn tells_time(&self) -> bool {
        [&self.default, &self.tool_use].into_iter().flatten().any(Template::tells_time)
    }

    /// Renders a chat with the template for it; otherwise as [`Template::render`].
    ///
    /// # Errors
    /// As [`Template::render`]; also where the list has no template for such a chat.
    pub fn render(&self, chat: &Chat, now: Option<LocalTime>) -> Result<Rendered, Box<Fail>> {
        if let Some(name) = &chat.template
            && self.names.contains(name)
        {
            return Err(refuse("a template that a request names"));
        }
        let with_tools = |template: &&Template| template.tools(chat).is_some();
        let template = self.tool_use.as_ref().filter(with_tools).or(self.default.as_ref());
        template.ok_or_else(|| raise("there is no template called default"))?.render(chat, now)
    }
}
