//! From a file's text to typed values.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::ConfigError;

/// Reads a text file; the error names it.
pub(crate) fn read_text(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file)
        .map_err(|error| ConfigError::new(file, "", format!("cannot be read: {error}")))
}

/// Parses YAML or JSON into `T`; errors carry the path of the value that is wrong.
pub(crate) fn from_yaml<T: DeserializeOwned>(text: &str, file: &Path) -> Result<T, ConfigError> {
    let mut at = String::new();
    serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            at = match error.path().to_string() {
                root if root == "." => String::new(),
                path => path,
            };
            error.into_inner()
        })
    })
    .map_err(|error: serde_saphyr::Error| ConfigError::new(file, at, plain_message(&error)))
}

/// The parser's message in one line, without its picture of the source: seeds must not end up in logs.
fn plain_message(error: &serde_saphyr::Error) -> String {
    let plain = error.without_snippet().to_string();
    plain.lines().next().unwrap_or("is not valid YAML").to_owned()
}
