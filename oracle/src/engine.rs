//! The tokenizer that serves a file: our runtime, or the crate `tokenizers` for kinds that the runtime refuses.

use warmpath_core::tokenizer::{HfTokenizer, Tokenizer};

/// A tokenizer and who it is.
pub struct Engine {
    /// Ready to encode.
    pub tokenizer: Box<dyn Tokenizer>,
    /// `runtime`, or `tokenizers` with the reason.
    pub name: String,
}

impl Engine {
    /// The engine for this `tokenizer.json`.
    ///
    /// # Errors
    /// When neither reads the file.
    pub fn of(tokenizer_json: &[u8]) -> Result<Self, String> {
        let tokenizer = Box::new(HfTokenizer::from_json(tokenizer_json)?);
        Ok(Self { tokenizer, name: "tokenizers".to_owned() })
    }
}

/// The compiled asset of this `tokenizer.json`, or why our runtime does not serve it.
pub(crate) fn asset(_tokenizer_json: &[u8]) -> Result<Vec<u8>, String> {
    Err("there is no runtime yet".to_owned())
}

/// Our runtime on a compiled asset.
pub(crate) fn load(_asset: Vec<u8>) -> Result<Box<dyn Tokenizer>, String> {
    Err("there is no runtime yet".to_owned())
}
