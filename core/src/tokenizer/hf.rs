//! The crate `tokenizers`: what our own runtime is tested against, and the engine for kinds that it does not know.

use super::{Encoded, Limits, Tokenizer};

/// A `tokenizer.json` through the crate `tokenizers`: the same code that vLLM runs, so exact for every file that vLLM
/// takes as it is. (For some classes in `tokenizer_config.json`, `LlamaTokenizer` with model type `llama` among them, the
/// Python side rebuilds the file's pipeline; such files must be converted before they are served here.)
///
/// No cut is known to be safe for any file that this crate reads: a text past a limit is not encoded at all, or its ids
/// are dropped, and `encode` answers with no ids and `complete: false`. Merge work is not counted.
///
/// Cost: about 1 to 3 µs per token on a current machine, in Wasm as natively; about eight times the file's size in
/// memory, and 0.2 to 0.7 s to load 150,000 entries.
pub struct HfTokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
}

impl HfTokenizer {
    /// Reads a `tokenizer.json`. Its truncation and padding are switched off: vLLM sets both per call, to none.
    ///
    /// # Errors
    /// When the crate does not read the file, with its message.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        let vocab_size = inner.get_vocab_size(true);
        Ok(Self { inner, vocab_size })
    }
}

impl Tokenizer for HfTokenizer {
    fn encode(&self, text: &str, add_special_tokens: bool, limits: &Limits) -> Result<Encoded, String> {
        if text.len() > limits.bytes_max {
            return Ok(Encoded { ids: Vec::new(), complete: false });
        }
        // Offsets are not needed, and `encode_fast` does not compute them.
        let encoding = self.inner.encode_fast(text, add_special_tokens).map_err(|error| error.to_string())?;
        let ids = encoding.get_ids();
        if ids.len() > limits.tokens_max {
            return Ok(Encoded { ids: Vec::new(), complete: false });
        }
        Ok(Encoded { ids: ids.to_vec(), complete: true })
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}
