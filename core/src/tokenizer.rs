//! Text to token ids.

/// One model's tokenizer.
pub trait Tokenizer: Send + Sync {
    /// Token ids of `text`; `add_special_tokens` adds what the tokenizer's post-processor adds (BOS).
    fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, String>;
    /// Token ids in the vocabulary, added tokens included: ids at or above it are unknown to the model.
    fn vocab_size(&self) -> usize;
}
