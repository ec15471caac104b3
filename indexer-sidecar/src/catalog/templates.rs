//! Where a model's chat templates come from: a file of the operator's, or `tokenizer_config.json`, which has one template
//! or a list of named ones.

use std::path::{Path, PathBuf};

use serde_json::Value;
use warmpath_core::template::{NamedTemplate, Templates};

/// Name of the file that a model's own template is in; what `transformers` reads along with it is in the folder beside.
const OWN_FILE: &str = "chat_template.jinja";
const OWN_FOLDER: &str = "additional_chat_templates";

/// The templates in a `tokenizer_config.json`, as [`Templates::read`] takes them.
pub(super) fn in_settings(json: &[u8]) -> Result<Option<String>, String> {
    let settings: serde_json::Map<String, Value> =
        serde_json::from_slice(json).map_err(|error| format!("is not a JSON object: {error}"))?;
    Templates::in_settings(&settings)
}

/// The templates that belong with the file of a template: a list of it and those in the folder beside, where there are
/// some; else none.
pub(super) fn with_file(path: &Path, template: &[u8]) -> Result<Option<String>, String> {
    if path.file_name().is_none_or(|name| name != OWN_FILE) {
        return Ok(None);
    }
    let paths = in_folder(&path.with_file_name(OWN_FOLDER));
    if paths.is_empty() {
        return Ok(None);
    }
    let text = |bytes: &[u8], path: &Path| {
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|error| format!("{} is not UTF-8: {error}", path.display()))
    };
    let mut list = vec![NamedTemplate { name: "default".to_owned(), template: text(template, path)? }];
    for path in paths {
        let bytes =
            std::fs::read(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        list.push(NamedTemplate { name, template: text(&bytes, &path)? });
    }
    serde_json::to_string(&list).map(Some).map_err(|error| error.to_string())
}

/// The folder beside the file of a template, and what counts of it.
pub(super) fn beside(path: &Path) -> Vec<PathBuf> {
    if path.file_name().is_none_or(|name| name != OWN_FILE) {
        return Vec::new();
    }
    let folder = path.with_file_name(OWN_FOLDER);
    in_folder(&folder).into_iter().chain([folder]).collect()
}

fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_one_template_or_named_ones() {
        let list = br#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
        let text = in_settings(list).unwrap().unwrap();
        assert_eq!(text, r#"[{"name":"tool_use","template":"T"},{"name":"default","template":"D"}]"#);
        assert_eq!(in_settings(br#"{"chat_template": "X"}"#).unwrap().as_deref(), Some("X"));
        assert_eq!(in_settings(b"{}").unwrap(), None);
        let error = in_settings(br#"{"chat_template": 7}"#).unwrap_err();
        assert!(error.starts_with("chat_template is neither"), "{error}");
    }

    #[test]
    fn a_models_own_file_has_others_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(OWN_FILE);
        assert_eq!(with_file(&file, b"D"), Ok(None));
        std::fs::create_dir(folder.path().join(OWN_FOLDER)).unwrap();
        assert_eq!(with_file(&file, b"D"), Ok(None));
        std::fs::write(folder.path().join(OWN_FOLDER).join("tool_use.jinja"), "T").unwrap();
        std::fs::write(folder.path().join(OWN_FOLDER).join("notes.txt"), "N").unwrap();
        let expected = r#"[{"name":"default","template":"D"},{"name":"tool_use","template":"T"}]"#;
        assert_eq!(with_file(&file, b"D"), Ok(Some(expected.to_owned())));
        assert_eq!(with_file(&folder.path().join("mine.jinja"), b"D"), Ok(None));
    }
}
