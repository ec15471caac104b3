//! Where a model's chat template comes from: a file of the operator's, or `tokenizer_config.json`, which has one template
//! or a list of named ones.

use serde::Deserialize;
use serde_json::Value;

/// One entry of a list of templates.
#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

/// The template called `name` in a `tokenizer_config.json`. A template without a name is `default`.
pub(super) fn in_settings(json: &[u8], name: &str) -> Result<Option<String>, String> {
    let settings: serde_json::Map<String, Value> =
        serde_json::from_slice(json).map_err(|error| format!("is not a JSON object: {error}"))?;
    let templates = match settings.get("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => vec![Named { name: "default".to_owned(), template: text.clone() }],
        Some(list) => Vec::<Named>::deserialize(list).map_err(|error| {
            format!("chat_template is neither a string nor a list of named ones: {error}")
        })?,
    };
    let names: Vec<_> = templates.iter().map(|entry| entry.name.clone()).collect();
    match templates.into_iter().find(|entry| entry.name == name) {
        Some(entry) => Ok(Some(entry.template)),
        None => Err(format!(
            "chat_template has no template called {name:?}: set chat_template_name to one of {}",
            names.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_found_by_its_name() {
        let list = br#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
        assert_eq!(in_settings(list, "default").unwrap().as_deref(), Some("D"));
        assert_eq!(in_settings(list, "tool_use").unwrap().as_deref(), Some("T"));
        let error = in_settings(list, "rag").unwrap_err();
        assert!(error.ends_with("set chat_template_name to one of tool_use, default"), "{error}");
        let one = br#"{"chat_template": "X"}"#;
        assert_eq!(in_settings(one, "default").unwrap().as_deref(), Some("X"));
        assert!(in_settings(one, "tool_use").is_err());
        assert_eq!(in_settings(b"{}", "default").unwrap(), None);
        let error = in_settings(br#"{"chat_template": 7}"#, "default").unwrap_err();
        assert!(error.starts_with("chat_template is neither"), "{error}");
    }
}
