//! The expressions of a `tokenizer.json`, looked at before `fancy-regex` matches with them.

use serde_json::Value;

use super::super::expressions::is_plain;

/// Whether all expressions of a `tokenizer.json` mean the same to both.
///
/// # Errors
/// With the first one that may not.
pub(super) fn check(json: &[u8]) -> Result<(), String> {
    let file: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    ["normalizer", "pre_tokenizer"].into_iter().filter_map(|part| file.get(part)).try_for_each(walk)
}

fn walk(value: &Value) -> Result<(), String> {
    match value {
        Value::Array(values) => values.iter().try_for_each(walk),
        Value::Object(entries) => entries.iter().try_for_each(|(key, value)| match value.as_str() {
            Some(regex) if key == "Regex" && !is_plain(regex) => Err(format!(
                "expression {regex:?} may match otherwise in Wasm than in the engine; set `tokenize: sidecar`"
            )),
            _ => walk(value),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_found_wherever_they_are() {
        let file = r#"{"normalizer":{"normalizers":[{"pattern":{"Regex":"^ "}}]},"pre_tokenizer":null}"#;
        assert!(check(file.as_bytes()).is_err_and(|message| message.contains("sidecar")));
        assert_eq!(check(br#"{"normalizer":{"pattern":{"String":"^"}}}"#), Ok(()));
    }
}
