//! What is wrong with a file.

use std::path::{Path, PathBuf};

/// What is wrong with a file, where, and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {at}{}{message}", file.display(), if at.is_empty() { "" } else { ": " })]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Path in the file, such as `models[0].block_tokens`; empty for the file as a whole.
    pub at: String,
    /// What was wrong, and what to do.
    pub message: String,
}

impl ConfigError {
    /// An error at the path `at` of `file`.
    pub fn new(file: &Path, at: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), at: at.into(), message: message.into() }
    }
}
