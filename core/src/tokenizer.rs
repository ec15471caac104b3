//! Text to token ids.

/// One model's tokenizer.
pub trait Tokenizer: Send + Sync {
    /// Token ids of `text`; `add_special_tokens` adds what the tokenizer's post-processor adds (BOS).
    fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, String>;
    /// Token ids in the vocabulary, added tokens included: ids at or above it are unknown to the model.
    fn vocab_size(&self) -> usize;
}

/// A `tokenizer.json` through the crate `tokenizers`: the same code that vLLM runs, so exact for every file that vLLM
/// takes as it is. (For some classes in `tokenizer_config.json`, `LlamaTokenizer` with model type `llama` among them, the
/// Python side rebuilds the file's pipeline; such files must be converted before they are served here.)
///
/// Cost: about 1 to 3 µs per token on a current machine, in Wasm as natively; about eight times the file's size in
/// memory, and 0.2 to 0.7 s to load 150,000 entries.
pub struct HfTokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
}

impl HfTokenizer {
    /// Reads a `tokenizer.json`. Its truncation and padding are switched off: vLLM sets both per call, to none.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|error| error.to_string())?;
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        let vocab_size = inner.get_vocab_size(true);
        Ok(Self { inner, vocab_size })
    }
}

impl Tokenizer for HfTokenizer {
    fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, String> {
        // Offsets are not needed, and `encode_fast` does not compute them.
        let encoding = self.inner.encode_fast(text, add_special_tokens).map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}
