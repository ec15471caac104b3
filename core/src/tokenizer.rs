//! Text to token ids.
//!
//! [`compile`] makes an asset of a `tokenizer.json`, once and outside the gateway; [`Runtime`] uses it in place. What the
//! compiler refuses goes through the crate `tokenizers`, where the build has it (`HfTokenizer`).

mod added;
pub(crate) mod asset;
mod automata;
#[cfg(feature = "hf-tokenizers")]
pub mod check;
mod classes;
mod compile;
mod cut;
mod encoder;
mod expressions;
mod folds;
#[cfg(feature = "hf-tokenizers")]
mod hf;
mod letters;
mod merge;
mod meta;
mod normalize;
mod pairs;
pub mod pipeline;
mod queue;
mod rules;
mod runtime;
mod scan;
pub mod strings;
mod symbols;
mod text;
mod texts;
mod vocabulary;
mod words;

pub use asset::{ASSET_BYTES_MAX, ASSET_VERSION, AssetError, readable};
pub use compile::{CompileError, compile};
pub use runtime::{CacheSizes, Runtime, Stats};
pub(crate) use text::same as same_bytes;

#[cfg(feature = "hf-tokenizers")]
pub use hf::HfTokenizer;

/// One model's tokenizer.
pub trait Tokenizer: Send + Sync {
    /// Ids of `text`, or of a prefix of it that ends at a safe cut when a limit was met.
    ///
    /// A cut is safe when the ids of what is before it do not depend on what comes after it: the ids of a prefix are
    /// then a prefix of the whole text's ids. `add_special_tokens` adds what the tokenizer's post-processor adds (BOS).
    ///
    /// # Errors
    /// When the tokenizer has no ids for this text. The message may quote it.
    fn encode(&self, text: &str, add_special_tokens: bool, limits: &Limits) -> Result<Encoded, String>;

    /// Token ids in the vocabulary, added tokens included: ids at or above it are unknown to the model.
    fn vocab_size(&self) -> usize;

    /// What its caches have done so far; zeros for one without caches.
    fn stats(&self) -> Stats {
        Stats::default()
    }
}

/// What a text was encoded to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// Token ids, in the order of the text.
    pub ids: Vec<u32>,
    /// Whether these are the ids of the whole text. `false`: of a prefix of it, because a limit was met.
    pub complete: bool,
}

/// How far a text is encoded before the rest is left alone: one request must not hold a worker for long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of text.
    pub bytes_max: usize,
    /// Token ids.
    pub tokens_max: usize,
    /// Units of merge work. One is about one look-up of a pair of symbols. Prose of which no word is cached takes about 1
    /// per byte, random short words 5, a long run of one character 12.
    pub merge_work_max: u64,
}

impl Limits {
    /// No limit: for processes that have no worker to hold up.
    pub const NONE: Self = Self { bytes_max: usize::MAX, tokens_max: usize::MAX, merge_work_max: u64::MAX };
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // 16 ms of prose that was never seen before, at 60 MB/s in V8; a body is held up to about this size.
            bytes_max: 1 << 20,
            // The longest context in wide use. Keys beyond it could match nothing.
            tokens_max: 1 << 18,
            // About 10 ms in V8.
            merge_work_max: 1 << 20,
        }
    }
}
