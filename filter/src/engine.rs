//! From an asset's bytes to a tokenizer: our own runtime, which uses the bytes in place. Built with the feature
//! `hf-tokenizers`, a filter also takes a `tokenizer.json` itself (`tokenize: inline-hf`), through the crate `tokenizers`.

use warmpath_core::tokenizer::{CacheSizes, Runtime, Tokenizer, readable};

/// Bytes from which [`readable_start`] can tell.
pub(crate) const START_BYTES: usize = 16;

/// A `tokenizer.json` starts with it, an asset does not.
#[cfg(any(test, feature = "hf-tokenizers"))]
const JSON: u8 = b'{';

/// Whether a tokenizer that starts with these bytes is one for this build.
///
/// # Errors
/// When it is of another version, or something else.
pub(crate) fn readable_start(start: &[u8]) -> Result<(), String> {
    #[cfg(any(test, feature = "hf-tokenizers"))]
    if start.first() == Some(&JSON) {
        return Ok(());
    }
    readable(start).map_err(|error| error.to_string())
}

/// Loads a tokenizer.
///
/// # Errors
/// When the bytes are not a tokenizer that this build reads.
pub(crate) fn load(asset: Vec<u8>) -> Result<Box<dyn Tokenizer>, String> {
    #[cfg(any(test, feature = "hf-tokenizers"))]
    if asset.first() == Some(&JSON) {
        return Ok(Box::new(warmpath_core::tokenizer::HfTokenizer::from_json(&asset)?));
    }
    let sizes = CacheSizes { seed: fastrand::u64(..), ..CacheSizes::default() };
    let runtime = Runtime::load_with(asset, sizes).map_err(|error| error.to_string())?;
    Ok(Box::new(runtime))
}
