//! The tokenizer that serves a file: our runtime, or the crate `tokenizers` for kinds that the runtime refuses.

use warmpath_core::tokenizer::{CompileError, HfTokenizer, Runtime, Tokenizer, compile};

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
        match compile(tokenizer_json) {
            Ok(asset) => {
                let runtime = Runtime::load(asset).map_err(|error| error.to_string())?;
                Ok(Self { tokenizer: Box::new(runtime), name: "runtime".to_owned() })
            }
            Err(CompileError::Unsupported(why)) => {
                let tokenizer = Box::new(HfTokenizer::from_json(tokenizer_json)?);
                Ok(Self { tokenizer, name: format!("tokenizers ({why})") })
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
