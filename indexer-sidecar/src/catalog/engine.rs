//! What tokenizes a model: the asset for filters, and the same natively.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use warmpath_core::tokenizer::check::compare;
use warmpath_core::tokenizer::strings::Strings;
use warmpath_core::tokenizer::{CompileError, HfTokenizer, Runtime, Tokenizer, compile};

/// A tokenizer that was prepared once for everyone.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    /// The asset that filters load, or why there is none.
    pub(super) asset: Result<Bytes, String>,
    /// What it was compared on before it was given out; empty without an asset.
    pub(super) checked: String,
}

/// An engine that is shared with the next state.
pub(super) type SharedEngine = Arc<Engine>;

/// Compiles an effective `tokenizer.json` and compares the result with the oracle over `strings` strings. One that
/// differs, or is of a kind that our runtime does not know, is not given out.
///
/// # Errors
/// When the file is no tokenizer at all.
pub(super) fn prepare(json: &[u8], strings: usize) -> Result<Engine, String> {
    let start = Instant::now();
    let oracle = HfTokenizer::from_json(json)?;
    let asset = match compile(json) {
        Ok(asset) => asset,
        Err(CompileError::Invalid(message)) => return Err(message),
        Err(error @ CompileError::Unsupported(_)) => return Ok(Engine::none(error.to_string())),
    };
    let seed = fastrand::u64(..);
    let runtime = Runtime::load(asset.clone()).map_err(|error| error.to_string())?;
    Ok(match compare(&oracle, &runtime, &Strings::of(json, seed), 0..strings) {
        Ok(compared) => {
            let checked = format!("{compared} strings of seed {seed}: no difference");
            let took = start.elapsed().as_millis() as u64;
            log::info!(bytes = asset.len(), took_ms = took, checked = checked.as_str(); "tokenizer compiled");
            Engine { asset: Ok(asset.into()), checked }
        }
        Err(mismatch) => Engine::none(format!("our tokenizer runtime is not exact for it: {mismatch}")),
    })
}

impl Engine {
    fn none(why: String) -> Self {
        Self { asset: Err(format!("{why}; set `tokenize: sidecar` for this model")), checked: String::new() }
    }
}

/// The tokenizer for prompts that are tokenized here: the filters' own where there is one, else the oracle.
///
/// # Errors
/// When the file is no tokenizer at all.
pub(super) fn native(json: &[u8], engine: &Engine) -> Result<Box<dyn Tokenizer>, String> {
    Ok(match &engine.asset {
        Ok(asset) => Box::new(Runtime::load(asset.to_vec()).map_err(|error| error.to_string())?),
        Err(_) => Box::new(HfTokenizer::from_json(json)?),
    })
}
