//! `tokenizer_config.json`: what Hugging Face keeps beside a tokenizer.

use serde::Deserialize;
use serde_json::Value;

use super::SpecialTokens;

/// Name of the template that vLLM takes when there are several.
const DEFAULT_TEMPLATE: &str = "default";

/// The parts that decide how chats are rendered.
#[derive(Default, PartialEq, Debug)]
pub(super) struct TokenizerConfig {
    /// `bos_token` and all other `*_token` entries that name a token.
    pub(super) special_tokens: SpecialTokens,
    /// The chat template, for models that keep it here.
    pub(super) chat_template: Option<String>,
}

/// One entry of a list of templates.
#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl TokenizerConfig {
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let fields: serde_json::Map<String, Value> =
            serde_json::from_slice(json).map_err(|error| format!("is not a JSON object: {error}"))?;
        let chat_template = fields.get("chat_template").map(template).transpose()?.flatten();
        let special_tokens = fields
            .iter()
            .filter(|(name, _)| name.ends_with("_token"))
            .filter_map(|(name, value)| Some((name.clone(), token_text(value)?)))
            .collect();
        Ok(Self { special_tokens, chat_template })
    }
}

/// Tokens are strings or objects with a `content`; switches such as `add_bos_token` are neither.
fn token_text(value: &Value) -> Option<String> {
    let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
    Some(text.to_owned())
}

/// A template is a string, or a list of named ones.
fn template(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        list => {
            let templates = Vec::<NamedTemplate>::deserialize(list).map_err(|error| {
                format!("chat_template is neither a string nor a list of named ones: {error}")
            })?;
            let mut named = templates.into_iter().filter(|entry| entry.name == DEFAULT_TEMPLATE);
            Ok(named.next().map(|entry| entry.template))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_strings_or_objects_and_switches_are_none() {
        let json =
            br#"{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null,
            "add_bos_token": true, "model_max_length": 4096}"#;
        let parsed = TokenizerConfig::parse(json).unwrap();
        let expected = [("bos_token", "<s>"), ("eos_token", "</s>")];
        assert_eq!(parsed.special_tokens, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!(parsed.chat_template, None);
    }

    #[test]
    fn the_template_named_default_is_taken_from_a_list() {
        let json = br#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
        assert_eq!(TokenizerConfig::parse(json).unwrap().chat_template.as_deref(), Some("D"));
        let error = TokenizerConfig::parse(br#"{"chat_template": 7}"#).unwrap_err();
        assert!(error.starts_with("chat_template is neither"), "{error}");
    }
}
