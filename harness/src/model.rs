//! The files of a model: what the sidecar hands to the filter and what a pod loads.

use std::path::{Path, PathBuf};

/// A model's name and files.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// Name under which pods serve it.
    pub name: String,
    /// `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// Chat template.
    pub chat_template: PathBuf,
    /// `tokenizer_config.json`.
    pub tokenizer_config: PathBuf,
    /// `config.json`.
    pub config: PathBuf,
    /// Tokens in one block, of the keys and of the pods' caches.
    pub block_tokens: u32,
    /// Longest prompt and answer together, in tokens.
    pub max_model_len: u32,
}

impl ModelFiles {
    /// The small model in the repository (`demo/assets`), named `demo`.
    #[must_use]
    pub fn demo() -> Self {
        ModelFiles::in_directory("demo", &Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/assets"))
    }

    /// A model whose directory has the usual file names, with blocks of 64 tokens.
    #[must_use]
    pub fn in_directory(name: &str, directory: &Path) -> Self {
        ModelFiles {
            name: name.to_owned(),
            tokenizer: directory.join("tokenizer.json"),
            chat_template: directory.join("chat_template.jinja"),
            tokenizer_config: directory.join("tokenizer_config.json"),
            config: directory.join("config.json"),
            block_tokens: 64,
            max_model_len: 16_384,
        }
    }
}
